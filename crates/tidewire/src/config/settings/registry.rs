//! The registry of tenants, and where it is changed.

use std::net::SocketAddr;

use tidewire_auth::{SealKey, SecretHash, Vault};

use crate::config::document;
use crate::config::draft::Draft;

/// How tenants come while nodes run.
#[derive(Clone, Debug)]
pub struct Registry {
    /// The sealing one first, and at least one.
    pub keys: Vec<SealKey>,
    pub max_tenants: usize,
    /// Where operators change them.
    pub listen: SocketAddr,
    /// What operators have to send; only on a loopback address there may be none.
    pub tokens: Vec<SecretHash>,
}

/// The shortest token of an operator, in bytes.
const MIN_TOKEN_BYTES: usize = 32;

/// Nothing if there is no registry, or if something is wrong with it, which has then been reported.
pub(super) fn check(
    registry: &document::Registry,
    admin: &document::Admin,
    draft: &mut Draft,
) -> Option<Registry> {
    let path = named("registry.keys", registry.keys_file.is_some());
    let mut keys = Vec::new();
    for (index, key) in registry.keys.iter().enumerate() {
        keys.extend(draft.accept(&format!("{path}[{index}]"), SealKey::parse(key.expose())));
    }
    let tokens_path = named("admin.tokens", admin.tokens_file.is_some());
    for (index, token) in admin.tokens.iter().enumerate() {
        let bytes = token.expose().len();
        if bytes < MIN_TOKEN_BYTES {
            let message = format!("has {bytes} bytes, at least {MIN_TOKEN_BYTES} are needed");
            draft.problem(&format!("{tokens_path}[{index}]"), &message, None);
            return None;
        }
    }
    let address = admin.listen.parse::<SocketAddr>();
    let address = address.map_err(|_| "expected an IP address and a port: `127.0.0.1:8002`");
    let listen = draft.accept("admin.listen", address)?;
    if keys.len() < registry.keys.len() {
        return None;
    }
    if keys.is_empty() {
        return None;
    }
    draft.accept(&path, Vault::new(&keys))?;
    if admin.tokens.is_empty() && !listen.ip().is_loopback() {
        let message = "without `admin.tokens` this has to be a loopback address";
        let remedy = "set `admin.tokens`; `openssl rand -base64 32` makes one";
        draft.problem("admin.listen", message, Some(remedy.into()));
        return None;
    }
    let max_tenants = usize::try_from(registry.max_tenants).unwrap_or(usize::MAX);
    let tokens = admin.tokens.iter().map(|token| SecretHash::of(token.expose())).collect();
    Some(Registry { keys, max_tenants, listen, tokens })
}

fn named(path: &str, is_file: bool) -> String {
    if is_file { format!("{path}_file") } else { path.to_owned() }
}
