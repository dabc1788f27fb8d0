//! Tenants, their keys and how their channels are treated.

use std::collections::{BTreeMap, HashMap};

use tidewire_auth::{
    ApiKey, ApiKeyId, InvalidApiKey, InvalidKey, KeyId, KeyRing, SigningKey, TenantKeys,
    VerificationKey,
};
use tidewire_model::{Action, ChannelRules, Filter, Permissions, Retention, SessionKind, Tenant};

use super::rules;
use crate::config::document::{self, ActionName, AlgorithmName};
use crate::config::draft::Draft;

/// What is known of all tenants.
pub(super) struct Tenants {
    pub(super) ring: KeyRing,
    pub(super) signing: HashMap<Tenant, SigningKey>,
    pub(super) channel_rules: ChannelRules,
    /// Of those whose sessions are kept otherwise than most are.
    pub(super) session_kinds: HashMap<Tenant, SessionKind>,
}

/// `history` is what is kept of channels of which no rule says something else.
pub(super) fn check(
    tenants: &[document::Tenant],
    history: Retention,
    draft: &mut Draft,
) -> Option<Tenants> {
    let mut valid = Vec::new();
    let mut all_rules = Vec::new();
    for (index, tenant) in tenants.iter().enumerate() {
        let path = format!("tenants[{index}]");
        valid.extend(check_tenant(tenant, &path, draft));
        all_rules.extend(rules::check(&tenant.rules, &path, history, draft));
    }
    if valid.len() < tenants.len() || all_rules.len() < tenants.len() {
        return None;
    }
    let kinds = tenants.iter().map(|tenant| SessionKind::from(tenant.sessions));
    let session_kinds = valid
        .iter()
        .zip(kinds)
        .filter(|(_, kind)| *kind != SessionKind::default())
        .map(|(keys, kind)| (keys.tenant.clone(), kind))
        .collect();
    let names = valid.iter().map(|keys| keys.tenant.clone());
    let channel_rules = names.zip(all_rules).filter(|(_, rules)| !rules.is_empty()).collect();
    let channel_rules = ChannelRules::new(channel_rules);
    let signing = valid
        .iter()
        .zip(tenants)
        .filter_map(|(keys, tenant)| Some((keys.tenant.clone(), first_signing(tenant)?)))
        .collect();
    let ring = draft.accept("tenants", KeyRing::new(valid))?;
    Some(Tenants { ring, signing, channel_rules, session_kinds })
}

fn check_tenant(tenant: &document::Tenant, path: &str, draft: &mut Draft) -> Option<TenantKeys> {
    let name = draft.accept(&format!("{path}.name"), Tenant::parse(&tenant.name));
    let mut keys = Vec::new();
    for (index, key) in tenant.keys.iter().enumerate() {
        let path = format!("{path}.keys[{index}]");
        keys.extend(draft.accept(&path, token_key(key)));
    }
    let mut api_keys = Vec::new();
    for (index, key) in tenant.api_keys.iter().enumerate() {
        let path = format!("{path}.api_keys[{index}]");
        api_keys.extend(check_api_key(key, &path, draft));
    }
    if tenant.keys.is_empty() && tenant.api_keys.is_empty() {
        draft.problem(path, "has no key, so nobody could prove to be of it", None);
        return None;
    }
    if keys.len() < tenant.keys.len() || api_keys.len() < tenant.api_keys.len() {
        return None;
    }
    Some(TenantKeys { tenant: name?, keys, api_keys })
}

fn token_key(key: &document::TokenKey) -> Result<VerificationKey, KeyProblem> {
    let id = KeyId::parse(&key.id)?;
    match (key.algorithm, &key.secret, &key.public_key) {
        (AlgorithmName::Hs256, Some(secret), None) => {
            Ok(VerificationKey::from_secret(id, secret.expose().as_bytes())?)
        }
        (AlgorithmName::Hs256, ..) => Err(KeyProblem::NotSymmetric),
        (algorithm, None, Some(pem)) => {
            Ok(VerificationKey::from_public_pem(id, algorithm.into(), pem)?)
        }
        _ => Err(KeyProblem::NotAsymmetric),
    }
}

fn first_signing(tenant: &document::Tenant) -> Option<SigningKey> {
    let is_symmetric = |key: &&document::TokenKey| key.algorithm == AlgorithmName::Hs256;
    let key = tenant.keys.iter().find(is_symmetric)?;
    let id = KeyId::parse(&key.id).ok()?;
    SigningKey::from_secret(Some(id), key.secret.as_ref()?.expose().as_bytes()).ok()
}

fn check_api_key(key: &document::ApiKey, path: &str, draft: &mut Draft) -> Option<ApiKey> {
    let permissions = match &key.channels {
        Some(channels) => check_permissions(channels, &format!("{path}.channels"), draft)?,
        None => Permissions::all(),
    };
    draft.accept(path, api_key(key, permissions))
}

fn api_key(key: &document::ApiKey, permissions: Permissions) -> Result<ApiKey, KeyProblem> {
    let id = ApiKeyId::parse(&key.id)?;
    match (&key.secret, &key.sha256) {
        (Some(secret), None) => Ok(ApiKey::from_secret(id, secret.expose(), permissions)?),
        (None, Some(hash)) => Ok(ApiKey::from_sha256(id, hash, permissions)?),
        _ => Err(KeyProblem::NotOneSecret),
    }
}

fn check_permissions(
    channels: &BTreeMap<String, Vec<ActionName>>,
    path: &str,
    draft: &mut Draft,
) -> Option<Permissions> {
    if channels.len() > Permissions::MAX_FILTERS {
        let message = format!("at most {} patterns are allowed", Permissions::MAX_FILTERS);
        draft.problem(path, &message, None);
        return None;
    }
    let mut permissions = Permissions::default();
    for (pattern, actions) in channels {
        let filter = draft.accept(&format!("{path}.{pattern:?}"), Filter::parse(pattern))?;
        permissions = permissions.grant(filter, actions.iter().copied().map(Action::from));
    }
    Some(permissions)
}

/// Why an entry is no key.
#[derive(Debug, thiserror::Error)]
enum KeyProblem {
    #[error(transparent)]
    Token(#[from] InvalidKey),
    #[error(transparent)]
    Api(#[from] InvalidApiKey),
    #[error("an `HS256` key has `secret` or `secret_file` and no `public_key`")]
    NotSymmetric,
    #[error("a key of this algorithm has `public_key` or `public_key_file` and no `secret`")]
    NotAsymmetric,
    #[error("an api key has one of `secret`, `secret_file` and `sha256`")]
    NotOneSecret,
}
