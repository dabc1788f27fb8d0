use std::fmt;

use subtle::ConstantTimeEq as _;
use tidewire_model::{Permissions, Tenant, Trace};

use crate::key::{sha256, trace};
use crate::{MIN_SECRET_BYTES, Scopes};

/// The public half of an API key, before the dot: 1 to 64 characters from `a-z`, `A-Z`, `0-9`, `_`
/// and `-`. It may be logged.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ApiKeyId(Box<str>);

impl ApiKeyId {
    /// The longest id, in bytes.
    pub const MAX_BYTES: usize = 64;

    pub fn parse(text: &str) -> Result<Self, InvalidApiKey> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let valid = (1..=Self::MAX_BYTES).contains(&text.len()) && text.bytes().all(allowed);
        if valid { Ok(Self(text.into())) } else { Err(InvalidApiKey::Id) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is revoked with a key of this id, as of one that signs tokens.
    pub fn trace(&self) -> Trace {
        trace("key", &self.0)
    }
}

impl fmt::Display for ApiKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key with which a tenant's own servers publish: `id.secret`, of which only a hash is kept.
///
/// A plain SHA-256 is enough because the secret is long and random, not a password.
#[derive(Clone)]
pub struct ApiKey {
    id: ApiKeyId,
    hash: [u8; 32],
    previous: Option<Previous>,
    expires_at: Option<u64>,
    permissions: Permissions,
    scopes: Scopes,
}

/// The secret a key had before it was given another.
#[derive(Clone)]
struct Previous {
    hash: [u8; 32],
    until: u64,
}

impl ApiKey {
    /// The longest secret, in bytes.
    pub const MAX_SECRET_BYTES: usize = 256;

    /// Keeps the hash of `secret`, which has from [`MIN_SECRET_BYTES`] to
    /// [`MAX_SECRET_BYTES`](Self::MAX_SECRET_BYTES).
    pub fn from_secret(
        id: ApiKeyId,
        secret: &str,
        permissions: Permissions,
    ) -> Result<Self, InvalidApiKey> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(InvalidApiKey::ShortSecret { bytes: secret.len() });
        }
        if secret.len() > Self::MAX_SECRET_BYTES {
            return Err(InvalidApiKey::LongSecret { bytes: secret.len() });
        }
        Ok(Self::new(id, sha256(secret.as_bytes()), permissions))
    }

    /// Takes the SHA-256 of the secret as 64 hexadecimal digits.
    pub fn from_sha256(
        id: ApiKeyId,
        hex: &str,
        permissions: Permissions,
    ) -> Result<Self, InvalidApiKey> {
        let hash = parse_sha256(hex).ok_or(InvalidApiKey::Hash)?;
        Ok(Self::new(id, hash, permissions))
    }

    fn new(id: ApiKeyId, hash: [u8; 32], permissions: Permissions) -> Self {
        let scopes = Scopes::default();
        Self { id, hash, previous: None, expires_at: None, permissions, scopes }
    }

    /// Takes another secret as well, by its SHA-256 as 64 hexadecimal digits, before `until` in seconds
    /// since the Unix epoch.
    pub fn with_previous(self, hex: &str, until: u64) -> Result<Self, InvalidApiKey> {
        let hash = parse_sha256(hex).ok_or(InvalidApiKey::Hash)?;
        Ok(Self { previous: Some(Previous { hash, until }), ..self })
    }

    /// Is of no use from `expires_at` on, in seconds since the Unix epoch.
    #[must_use]
    pub fn expiring_at(self, expires_at: u64) -> Self {
        Self { expires_at: Some(expires_at), ..self }
    }

    /// May be used for `scopes` and nothing else.
    #[must_use]
    pub fn with_scopes(self, scopes: Scopes) -> Self {
        Self { scopes, ..self }
    }

    pub fn id(&self) -> &ApiKeyId {
        &self.id
    }

    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    pub fn scopes(&self) -> Scopes {
        self.scopes
    }

    /// Whether `secret` is the key's at `now`. A key that is not there is asked as well: it takes as
    /// long for every key, and whatever is wrong.
    pub(crate) fn accepts(key: Option<&Self>, secret: &str, now: u64) -> bool {
        const NOBODYS: [u8; 32] = [0; 32];
        let hash = sha256(secret.as_bytes());
        let previous = key.and_then(|key| key.previous.as_ref());
        let is_newest = hash.ct_eq(key.map_or(&NOBODYS, |key| &key.hash));
        let is_previous = hash.ct_eq(previous.map_or(&NOBODYS, |previous| &previous.hash));
        let overlaps = previous.is_some_and(|previous| now < previous.until);
        let lives = key.is_some_and(|key| key.expires_at.is_none_or(|at| now < at));
        lives && (bool::from(is_newest) || (bool::from(is_previous) && overlaps))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Compares in a time that does not depend on where the two differ.
pub(crate) fn is_hash_of(hash: &[u8; 32], secret: &str) -> bool {
    sha256(secret.as_bytes()).ct_eq(hash).into()
}

fn parse_sha256(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, start) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&hex[start..start + 2], 16).ok()?;
    }
    Some(hash)
}

/// Whose server is calling, and what it may do now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiIdentity {
    pub tenant: Tenant,
    pub key: ApiKeyId,
    /// What it may do with which channels.
    pub permissions: Permissions,
    /// What it may ask at all.
    pub scopes: Scopes,
}

/// Why an API key cannot be registered.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidApiKey {
    #[error("api key id must have 1 to 64 characters from a-z, A-Z, 0-9, `_` and `-`")]
    Id,
    #[error("api key secret has {bytes} bytes, at least {MIN_SECRET_BYTES} are needed")]
    ShortSecret { bytes: usize },
    #[error("api key secret has {bytes} bytes, at most {} are allowed", ApiKey::MAX_SECRET_BYTES)]
    LongSecret { bytes: usize },
    #[error("api key hash is not 64 hexadecimal digits")]
    Hash,
}
