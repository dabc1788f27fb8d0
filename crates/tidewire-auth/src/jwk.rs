//! Keys as an issuer publishes them: a JWK Set (RFC 7517), read as something that anybody may have
//! written.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Algorithm, InvalidKey, KeyId, VerificationKey, pem};

/// The largest set, in bytes, and the most keys in it, those included that are no use here.
pub const MAX_SET_BYTES: usize = 64 * 1024;
pub const MAX_SET_KEYS: usize = 32;
/// The largest modulus, in bytes: checking a signature takes time that grows with it.
const MAX_MODULUS_BYTES: usize = 512;
const MAX_EXPONENT_BYTES: usize = 4;

/// The keys of a JWK Set that may verify tokens, in its order.
///
/// Passed over are keys without `kid`, a second one of the same, those for something else (`use`,
/// `key_ops`), of other kinds and curves, that do not fit their `alg`, and RSA keys of fewer than
/// 2048 or more than 4096 bits; so that one that is odd costs itself only. A secret (`oct`) is never
/// taken: it has been published.
///
/// # Errors
///
/// When the set is none, or larger than any may be: the one before is to stay.
pub fn parse_set(text: &[u8]) -> Result<Vec<VerificationKey>, InvalidSet> {
    if text.len() > MAX_SET_BYTES {
        return Err(InvalidSet::TooLong);
    }
    let set: Set<'_> = serde_json::from_slice(text).map_err(|_| InvalidSet::Malformed)?;
    if set.keys.len() > MAX_SET_KEYS {
        return Err(InvalidSet::TooManyKeys);
    }
    let mut keys: Vec<VerificationKey> = Vec::new();
    for key in set.keys.iter().filter_map(|entry| parse_key(entry.get())) {
        if !keys.iter().any(|other| other.id() == key.id()) {
            keys.push(key);
        }
    }
    Ok(keys)
}

#[derive(Deserialize)]
struct Set<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// What of a key is looked at (RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2).
#[derive(Deserialize)]
struct Jwk {
    kid: String,
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

fn parse_key(entry: &str) -> Option<VerificationKey> {
    let jwk: Jwk = serde_json::from_str(entry).ok()?;
    let id = KeyId::parse(&jwk.kid).ok()?;
    let verifies = |operations: &Vec<String>| operations.iter().any(|one| one == "verify");
    if jwk.purpose.as_ref().is_some_and(|purpose| purpose != "sig")
        || jwk.key_ops.as_ref().is_some_and(|operations| !verifies(operations))
    {
        return None;
    }
    let (algorithm, der) = jwk.public_key()?;
    let fits = match (algorithm, jwk.alg.as_deref()) {
        (_, None) | (Algorithm::EdDsa, Some("Ed25519")) => true,
        (algorithm, Some(named)) => algorithm.as_str() == named,
    };
    fits.then(|| VerificationKey::from_public_der(id, algorithm, &der).ok())?
}

impl Jwk {
    /// As a `SubjectPublicKeyInfo` (RFC 5280), proved to be a key: a point is on its curve.
    fn public_key(&self) -> Option<(Algorithm, Vec<u8>)> {
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => {
                let number = |text| Some(without_zeros(decode(text)?));
                let (n, e) = (number(self.n.as_ref())?, number(self.e.as_ref())?);
                if n.len() > MAX_MODULUS_BYTES || e.len() > MAX_EXPONENT_BYTES {
                    return None;
                }
                let der: PublicKeyX509Der<'_> = PublicKeyComponents { n, e }.as_der().ok()?;
                Some((Algorithm::Rs256, der.as_ref().to_vec()))
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (decode(self.x.as_ref())?, decode(self.y.as_ref())?);
                if (x.len(), y.len()) != (32, 32) {
                    return None;
                }
                let point = [&[UNCOMPRESSED], x.as_slice(), &y].concat();
                Some((Algorithm::Es256, subject_key(&ECDSA_P256_SHA256_FIXED, &point)?))
            }
            ("OKP", Some("Ed25519")) => {
                let x = decode(self.x.as_ref()).filter(|x| x.len() == 32)?;
                Some((Algorithm::EdDsa, subject_key(&ED25519, &x)?))
            }
            _ => None,
        }
    }
}

/// What stands before a point whose coordinates are both written (SEC 1 section 2.3.3).
const UNCOMPRESSED: u8 = 4;

fn subject_key(algorithm: &'static dyn VerificationAlgorithm, bytes: &[u8]) -> Option<Vec<u8>> {
    let der: PublicKeyX509Der<'_> = ParsedPublicKey::new(algorithm, bytes).ok()?.as_der().ok()?;
    Some(der.as_ref().to_vec())
}

fn decode(text: Option<&String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}

/// Some write a zero before a number whose first bit is set.
fn without_zeros(number: Vec<u8>) -> Vec<u8> {
    number.into_iter().skip_while(|byte| *byte == 0).collect()
}

impl VerificationKey {
    /// An asymmetric key from a `SubjectPublicKeyInfo`.
    fn from_public_der(id: KeyId, algorithm: Algorithm, der: &[u8]) -> Result<Self, InvalidKey> {
        Self::from_public_pem(id, algorithm, &pem::encode("PUBLIC KEY", der))
    }
}

/// Why a text is no set of keys that could be used. It repeats nothing of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidSet {
    #[error("a set of keys has at most {MAX_SET_BYTES} bytes")]
    TooLong,
    #[error("not a JWK Set")]
    Malformed,
    #[error("a set has at most {MAX_SET_KEYS} keys")]
    TooManyKeys,
}
