use tidewire_model::Permissions;

use crate::Verifier;

/// What a client may hear about a refused token.
///
/// An unknown tenant, an unknown key and a wrong signature are all [`Invalid`](Self::Invalid);
/// only a token whose signature is right can be [`Expired`](Self::Expired) or
/// [`Revoked`](Self::Revoked).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TokenError {
    #[error("token has expired")]
    Expired,
    /// It, its user, its key or everything of its tenant.
    #[error("token was revoked")]
    Revoked,
    #[error("token is not valid")]
    Invalid,
}

impl From<Refusal> for TokenError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Expired => Self::Expired,
            Refusal::Revoked => Self::Revoked,
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
    #[error("token has no valid `tenant` claim, or its `iss` is another tenant's")]
    Tenant,
    #[error("token names a tenant that does not exist")]
    UnknownTenant,
    #[error("tenant has no key of the token's `kid` or, without one, of its `alg`")]
    UnknownKey,
    /// It is worth while to ask the issuer whether it has a new one.
    #[error("tenant's issuer has published no key of the token's `kid`, as far as is known")]
    UnknownIssuedKey,
    #[error("token's `alg` is not the one its key is registered for")]
    Algorithm,
    #[error("token's signature is wrong")]
    Signature,
    #[error(
        "token's claims are missing or malformed: `sub`, `exp`, `aud`, `channels`, \
             `denied`, `iat`, `nbf` or `jti`, or `channel` beside `channels`"
    )]
    Claims,
    #[error("token has expired")]
    Expired,
    #[error("token, its user, its key or everything of its tenant was revoked")]
    Revoked,
    #[error("token expires further ahead, or longer after its `iat`, than allowed")]
    Lifetime,
    #[error("token's `nbf` or `iat` is in the future")]
    NotYetValid,
    #[error("token's `aud` does not hold the audience of this server")]
    Audience,
    #[error("token is of one channel: it is shown with `subscribe`, and lets nobody in")]
    OfOneChannel,
    #[error("token is not of one channel: it has no `channel`, and is shown with `connect`")]
    OfNoChannel,
    #[error("token is another user's or tenant's than the session, or of another channel")]
    NotTheirs,
    #[error("token has more than {} channel filters", Permissions::MAX_FILTERS)]
    TooManyFilters,
}

/// An API key is malformed, unknown, another tenant's or has a wrong secret; which of them is not
/// told.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("api key is not valid")]
pub struct ApiKeyRefused;
