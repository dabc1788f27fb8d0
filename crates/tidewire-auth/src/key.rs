use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::PublicEncryptingKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    VerificationAlgorithm,
};
use jsonwebtoken::DecodingKey;
use tidewire_model::Trace;

use crate::{Algorithm, pem};

/// The shortest secret that may sign tokens or seal sessions, in bytes (RFC 7518 section 3.2).
pub const MIN_SECRET_BYTES: usize = 32;

/// What a token's `kid` header calls a key: 1 to 128 bytes without control characters.
///
/// It is looked up in a map and never read as a path, an address or a query.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct KeyId(Box<str>);

impl KeyId {
    /// The longest id, in bytes.
    pub const MAX_BYTES: usize = 128;

    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let valid = (1..=Self::MAX_BYTES).contains(&text.len()) && !text.contains(char::is_control);
        if valid { Ok(Self(text.into())) } else { Err(InvalidKey::Id) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it is looked up by where keys are revoked.
    pub fn trace(&self) -> Trace {
        trace("key", &self.0)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key that verifies the tokens of one tenant, with the one algorithm it is registered for.
#[derive(Clone)]
pub struct VerificationKey {
    id: KeyId,
    algorithm: Algorithm,
    key: DecodingKey,
    trace: Trace,
    fingerprint: [u8; 32],
}

impl VerificationKey {
    /// An HS256 key; the secret has at least [`MIN_SECRET_BYTES`].
    pub fn from_secret(id: KeyId, secret: &[u8]) -> Result<Self, InvalidKey> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(InvalidKey::ShortSecret { bytes: secret.len() });
        }
        let (key, trace) = (DecodingKey::from_secret(secret), id.trace());
        Ok(Self { id, algorithm: Algorithm::Hs256, key, trace, fingerprint: sha256(secret) })
    }

    /// An asymmetric key from a PEM public key: `PUBLIC KEY` (RFC 5280), or for RSA also
    /// `RSA PUBLIC KEY` (RFC 8017).
    pub fn from_public_pem(
        id: KeyId,
        algorithm: Algorithm,
        text: &str,
    ) -> Result<Self, InvalidKey> {
        // A private key or a certificate would be taken apart just as well, and neither belongs here.
        if !pem::is_public_key(text) {
            return Err(InvalidKey::NotPublic);
        }
        let parsed = match algorithm {
            Algorithm::Hs256 => return Err(InvalidKey::NeedsSecret),
            Algorithm::EdDsa => DecodingKey::from_ed_pem(text.as_bytes()),
            Algorithm::Es256 => DecodingKey::from_ec_pem(text.as_bytes()),
            Algorithm::Rs256 => DecodingKey::from_rsa_pem(text.as_bytes()),
        };
        let key = parsed.map_err(|_| InvalidKey::Mismatch { algorithm })?;
        let bytes = key.try_get_as_bytes().map_err(|_| InvalidKey::Mismatch { algorithm })?;
        let fingerprint = prove_usable(algorithm, bytes)?;
        let trace = id.trace();
        Ok(Self { id, algorithm, key, trace, fingerprint })
    }

    pub fn id(&self) -> &KeyId {
        &self.id
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What the key is revoked by: that of its id.
    pub fn trace(&self) -> Trace {
        self.trace
    }

    pub(crate) fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// Whether `signature` (base64url) is this key's for `message`.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &str) -> bool {
        #[cfg(test)]
        checked::note(self.algorithm);
        let algorithm = self.algorithm.to_jwt();
        jsonwebtoken::crypto::verify(signature, message, &self.key, algorithm).unwrap_or(false)
    }
}

impl fmt::Debug for VerificationKey {
    /// Leaves out the fingerprint: that of a secret is a way to guess it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerificationKey")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// Checks curve and size now: `jsonwebtoken` would only find every signature to be wrong.
fn prove_usable(algorithm: Algorithm, bytes: &[u8]) -> Result<[u8; 32], InvalidKey> {
    let mismatch = InvalidKey::Mismatch { algorithm };
    let verifying: &'static dyn VerificationAlgorithm = match algorithm {
        Algorithm::Hs256 => return Err(InvalidKey::NeedsSecret),
        Algorithm::EdDsa => &ED25519,
        Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
        Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
    };
    let key = ParsedPublicKey::new(verifying, bytes).map_err(|_| mismatch)?;
    let der = key.as_der().map_err(|_| mismatch)?;
    if algorithm == Algorithm::Rs256 {
        // Parsing for verification takes any size; parsing for encryption takes 2048 bits or more.
        PublicEncryptingKey::from_der(der.as_ref()).map_err(|_| InvalidKey::WeakRsa)?;
    }
    Ok(sha256(der.as_ref()))
}

/// Names of different kinds have nothing in common.
pub(crate) fn trace(kind: &str, name: &str) -> Trace {
    let digest = sha256(format!("{kind}:{name}").as_bytes());
    Trace::from_digest(*digest.first_chunk().expect("SHA-256 has 32 bytes"))
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidKey {
    #[error("key id must have 1 to 128 bytes and no control characters")]
    Id,
    #[error("secret has {bytes} bytes, at least {MIN_SECRET_BYTES} are needed")]
    ShortSecret { bytes: usize },
    #[error("HS256 needs a secret, not a public key")]
    NeedsSecret,
    #[error("{algorithm} needs a key pair, not a secret")]
    NeedsKeyPair { algorithm: Algorithm },
    #[error("not a PEM public key (`-----BEGIN PUBLIC KEY-----`)")]
    NotPublic,
    #[error("not a key {algorithm} can use")]
    Mismatch { algorithm: Algorithm },
    #[error("RSA key has fewer than 2048 bits or is malformed")]
    WeakRsa,
}

/// Which signatures were checked: what refusals cost, in kind and number.
#[cfg(test)]
pub(crate) mod checked {
    use std::cell::RefCell;

    use crate::Algorithm;

    thread_local! {
        static CHECKED: RefCell<Vec<Algorithm>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn note(algorithm: Algorithm) {
        CHECKED.with_borrow_mut(|checked| checked.push(algorithm));
    }

    /// Those of this thread since the last time this was asked.
    pub(crate) fn take() -> Vec<Algorithm> {
        CHECKED.take()
    }
}
