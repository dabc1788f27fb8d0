//! Who somebody is, proved by a key.
//!
//! Start from [`Verifier`], which turns a token (a JWT, RFC 7519) or an API key into an identity,
//! and [`Sealer`], which makes and opens the resume tokens that clients carry between nodes.
//! [`SigningKey`] issues tokens, for the command line and for tests.
//!
//! 1. The tenant is a property of the key that verified the credential. A claim or a path only says
//!    where to look; it never chooses.
//! 2. The algorithm is a property of the key too. A token that names another is refused.
//! 3. Why a credential was refused is for the operator ([`Refusal`]). The client hears
//!    [`TokenError`], which does not tell an unknown tenant from a bad signature.
//! 4. Nothing here performs I/O, reads a clock or writes a secret into an error or `Debug`.
//!
//! All cryptography is aws-lc's. `jsonwebtoken` panics when it cannot tell which provider to use;
//! this workspace enables exactly one of them, so there is nothing to install at start.

mod algorithm;
mod api_key;
mod candidates;
mod claims;
mod decoys;
mod issuer;
mod jwk;
mod key;
mod key_ring;
mod pem;
mod refusal;
mod revocations;
mod scope;
mod seal;
mod secret_hash;
mod shared_permissions;
mod signing;
mod ticket;
mod token;
mod token_id;
mod vault;
mod verifier;

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use api_key::{ApiIdentity, ApiKey, ApiKeyId, InvalidApiKey};
pub use claims::{ChannelClaims, Claims};
pub use issuer::{InvalidIssuer, Issuer, IssuerName};
pub use jwk::{InvalidSet, MAX_SET_BYTES, MAX_SET_KEYS, parse_set};
pub use key::{InvalidKey, KeyId, MIN_SECRET_BYTES, VerificationKey};
pub use key_ring::{InvalidKeyRing, KeyRing, TenantKeys};
pub use refusal::{ApiKeyRefused, Refusal, TokenError};
pub use revocations::{Revocation, Revocations, Target};
pub use scope::{Scope, Scopes};
pub use seal::{InvalidSealKey, ResumeClaims, SealError, SealKey, Sealer};
pub use secret_hash::SecretHash;
pub use signing::{GeneratedKey, SigningKey, random_secret};
pub use ticket::Ticket;
pub use token_id::{InvalidTokenId, TokenId};
pub use vault::{Mark, Vault};
pub use verifier::{LEEWAY, Verifier};
