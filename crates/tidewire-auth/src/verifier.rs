use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use tidewire_model::{Identity, Permissions, Tenant};

use crate::api_key::is_hash_of;
use crate::shared_permissions::SharedPermissions;
use crate::{ApiIdentity, Claims, KeyId, KeyRing, VerificationKey};

/// How far the clocks of an issuer and a node may disagree.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// Turns credentials into identities.
///
/// It costs one signature check and no I/O. Cheap to share behind an `Arc`; a change of keys is a
/// new verifier.
#[derive(Debug)]
pub struct Verifier {
    ring: KeyRing,
    audience: String,
    max_lifetime: Duration,
    decoy: VerificationKey,
    permissions: SharedPermissions,
}

impl Verifier {
    /// The longest token, in bytes.
    pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
    /// The longest API key, in bytes.
    pub const MAX_API_KEY_BYTES: usize = 512;
    /// The audience tokens must name unless another is set.
    pub const DEFAULT_AUDIENCE: &str = "tidewire";
    /// How far ahead a token may expire unless another limit is set.
    pub const DEFAULT_MAX_LIFETIME: Duration = Duration::from_hours(24);

    pub fn new(ring: KeyRing) -> Self {
        let id = KeyId::parse("decoy").expect("a valid id");
        let decoy = VerificationKey::from_secret(id, &[0; 32]).expect("32 bytes are enough");
        let audience = Self::DEFAULT_AUDIENCE.to_owned();
        let permissions = SharedPermissions::default();
        Self { ring, audience, max_lifetime: Self::DEFAULT_MAX_LIFETIME, decoy, permissions }
    }

    /// Sets the name that a token's `aud` must hold.
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = audience.into();
        self
    }

    /// Sets how far ahead of now a token may expire.
    #[must_use]
    pub fn with_max_lifetime(mut self, max_lifetime: Duration) -> Self {
        self.max_lifetime = max_lifetime;
        self
    }

    pub fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// Says who bears `token`, where `now` is in seconds since the Unix epoch.
    ///
    /// The identity expires [`LEEWAY`] after the token's `exp`, so that everybody who asks agrees
    /// with this verdict.
    pub fn verify(&self, token: &str, now: u64) -> Result<Identity, TokenError> {
        self.examine(token, now).map_err(TokenError::from)
    }

    /// As [`verify`](Self::verify), with the reason of a refusal. It is for logs and for whoever
    /// owns the keys; telling it to a client would tell which tenants and keys exist.
    pub fn examine(&self, token: &str, now: u64) -> Result<Identity, Refusal> {
        let parts = Parts::split(token)?;
        let header: Header = parse_part(parts.header)?;
        if header.crit.is_some() {
            return Err(Refusal::Critical);
        }
        let payload = decode_part(parts.payload)?;
        let hint: Hint = serde_json::from_slice(&payload).map_err(|_| Refusal::Tenant)?;
        self.check_signature(&hint.tenant, &header, &parts)?;

        // From here on the tenant is proved: only its own keys were asked.
        let claims: Claims = serde_json::from_slice(&payload).map_err(|_| Refusal::Claims)?;
        self.check_claims(claims, now)
    }

    /// The same identity with its tenant and its permissions in one place with equal ones of others,
    /// as every identity verified here has them: for one that was read from elsewhere, such as a
    /// store, and is to be kept in memory. It proves nothing.
    #[must_use]
    pub fn share(&self, identity: Identity) -> Identity {
        let tenant = match self.ring.keys_of(&identity.tenant) {
            Some(known) => known.tenant.clone(),
            None => identity.tenant,
        };
        let permissions = self.permissions.share(identity.permissions);
        Identity { tenant, permissions, ..identity }
    }

    /// Says whose server holds an API key, given as `id.secret` or as the value of an
    /// `Authorization` header (`Bearer id.secret`), if it is one of `tenant`'s.
    pub fn verify_api_key(
        &self,
        header_value: &str,
        tenant: &Tenant,
    ) -> Result<ApiIdentity, ApiKeyRefused> {
        if header_value.len() > Self::MAX_API_KEY_BYTES {
            return Err(ApiKeyRefused);
        }
        let (id, secret) = strip_bearer(header_value).split_once('.').ok_or(ApiKeyRefused)?;
        let known = self.ring.keys_of(tenant).and_then(|keys| keys.api_key(id));
        // An unknown key is compared too, so that it takes as long as a known one.
        let hash = known.map_or(&[0; 32], |key| key.hash());
        let matches = is_hash_of(hash, secret);
        let key = known.filter(|_| matches).ok_or(ApiKeyRefused)?;
        Ok(ApiIdentity {
            tenant: tenant.clone(),
            key: key.id().clone(),
            permissions: key.permissions().clone(),
        })
    }

    fn check_signature(
        &self,
        tenant: &Tenant,
        header: &Header,
        parts: &Parts<'_>,
    ) -> Result<(), Refusal> {
        let message = parts.signed.as_bytes();
        let checked = match self.candidates(tenant, header) {
            Ok(candidates) => candidates
                .iter()
                .any(|key| key.has_signed(message, parts.signature))
                .then_some(())
                .ok_or(Refusal::Signature),
            Err(refusal) => Err(refusal),
        };
        if matches!(checked, Err(Refusal::UnknownTenant | Refusal::UnknownKey)) {
            // Spends what a signature costs, so that time does not tell which tenants exist.
            self.decoy.has_signed(message, parts.signature);
        }
        checked
    }

    /// The keys that may have signed: the one named, or without a name those of the algorithm.
    fn candidates(
        &self,
        tenant: &Tenant,
        header: &Header,
    ) -> Result<Vec<&VerificationKey>, Refusal> {
        let tenant = self.ring.keys_of(tenant).ok_or(Refusal::UnknownTenant)?;
        let Some(id) = &header.kid else {
            let of_algorithm = |key: &&VerificationKey| key.algorithm().as_str() == header.alg;
            let candidates: Vec<_> = tenant.keys.iter().filter(of_algorithm).collect();
            return if candidates.is_empty() { Err(Refusal::UnknownKey) } else { Ok(candidates) };
        };
        let key = tenant.key(id).ok_or(Refusal::UnknownKey)?;
        if key.algorithm().as_str() == header.alg { Ok(vec![key]) } else { Err(Refusal::Algorithm) }
    }

    fn check_claims(&self, claims: Claims, now: u64) -> Result<Identity, Refusal> {
        let leeway = LEEWAY.as_secs();
        let latest_start = now.saturating_add(leeway);
        let void_at = claims.expires_at.saturating_add(leeway);
        if now >= void_at {
            return Err(Refusal::Expired);
        }
        if claims.expires_at > latest_start.saturating_add(self.max_lifetime.as_secs()) {
            return Err(Refusal::Lifetime);
        }
        if claims.not_before.max(claims.issued_at).is_some_and(|start| start > latest_start) {
            return Err(Refusal::NotYetValid);
        }
        if !claims.audience.contains(&self.audience) {
            return Err(Refusal::Audience);
        }
        if claims.permissions.len() > Permissions::MAX_FILTERS {
            return Err(Refusal::TooManyFilters);
        }
        Ok(self.share(Identity {
            tenant: claims.tenant,
            user: claims.user,
            permissions: claims.permissions,
            expires_at: Some(void_at),
        }))
    }
}

impl KeyId {
    /// What `token` calls its key, unverified: good for looking a key up, and for nothing else.
    pub fn named_in(token: &str) -> Option<Self> {
        let parts = Parts::split(token).ok()?;
        let header: Header = parse_part(parts.header).ok()?;
        Self::parse(&header.kid?).ok()
    }
}

/// A token in the compact form of RFC 7515 section 7.1: header, payload and signature.
struct Parts<'a> {
    signed: &'a str,
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, Refusal> {
        if token.len() > Verifier::MAX_TOKEN_BYTES {
            return Err(Refusal::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Refusal::Malformed)?;
        Ok(Self { signed, header, payload, signature })
    }
}

/// What of a header (RFC 7515 section 4) is looked at.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions a recipient must understand; we understand none.
    crit: Option<serde::de::IgnoredAny>,
}

/// What of a payload is read before its signature: where to look for the key.
#[derive(Deserialize)]
struct Hint {
    tenant: Tenant,
}

fn parse_part<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, Refusal> {
    serde_json::from_slice(&decode_part(part)?).map_err(|_| Refusal::Malformed)
}

fn decode_part(part: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)
}

/// The scheme of RFC 6750 section 2.1, whose name is compared without case (RFC 9110 section 11.1).
fn strip_bearer(header_value: &str) -> &str {
    match header_value.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => rest.trim(),
        _ => header_value.trim(),
    }
}

/// What a client may hear about a refused token.
///
/// An unknown tenant, an unknown key and a wrong signature are all [`Invalid`](Self::Invalid);
/// only a token whose signature is right can be [`Expired`](Self::Expired).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TokenError {
    #[error("token has expired")]
    Expired,
    #[error("token is not valid")]
    Invalid,
}

impl From<Refusal> for TokenError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Expired => Self::Expired,
            _ => Self::Invalid,
        }
    }
}

/// Why a token was refused, for the operator's eyes. It repeats nothing of the token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    #[error("token has more than {} bytes", Verifier::MAX_TOKEN_BYTES)]
    TooLong,
    #[error("token is not a signed JWT in compact form")]
    Malformed,
    #[error("token's `crit` header names extensions nobody here understands")]
    Critical,
    #[error("token has no valid `tenant` claim")]
    Tenant,
    #[error("token names a tenant that does not exist")]
    UnknownTenant,
    #[error("tenant has no key of the token's `kid` or, without one, of its `alg`")]
    UnknownKey,
    #[error("token's `alg` is not the one its key is registered for")]
    Algorithm,
    #[error("token's signature is wrong")]
    Signature,
    #[error("token's claims are missing or malformed: `sub`, `exp`, `aud` or `channels`")]
    Claims,
    #[error("token has expired")]
    Expired,
    #[error("token expires further ahead than allowed")]
    Lifetime,
    #[error("token's `nbf` or `iat` is in the future")]
    NotYetValid,
    #[error("token's `aud` does not hold the audience of this server")]
    Audience,
    #[error("token has more than {} channel filters", Permissions::MAX_FILTERS)]
    TooManyFilters,
}

/// An API key is malformed, unknown, another tenant's or has a wrong secret; which of them is not
/// told.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("api key is not valid")]
pub struct ApiKeyRefused;
