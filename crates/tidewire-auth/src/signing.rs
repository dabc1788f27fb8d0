use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;

use crate::{Algorithm, ChannelClaims, Claims, InvalidKey, KeyId, MIN_SECRET_BYTES, pem};

/// A key that issues tokens. A node never holds one, except to show how it is done (`dev`).
#[derive(Clone, Debug)]
pub struct SigningKey {
    id: Option<KeyId>,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl SigningKey {
    /// An HS256 key; the secret has at least [`MIN_SECRET_BYTES`].
    pub fn from_secret(id: Option<KeyId>, secret: &[u8]) -> Result<Self, InvalidKey> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(InvalidKey::ShortSecret { bytes: secret.len() });
        }
        Ok(Self { id, algorithm: Algorithm::Hs256, key: EncodingKey::from_secret(secret) })
    }

    /// An asymmetric key from a PEM private key: `PRIVATE KEY` (PKCS#8), or for RSA also
    /// `RSA PRIVATE KEY`.
    pub fn from_private_pem(
        id: Option<KeyId>,
        algorithm: Algorithm,
        text: &str,
    ) -> Result<Self, InvalidKey> {
        let parsed = match algorithm {
            Algorithm::Hs256 => return Err(InvalidKey::NeedsSecret),
            Algorithm::EdDsa => EncodingKey::from_ed_pem(text.as_bytes()),
            Algorithm::Es256 => EncodingKey::from_ec_pem(text.as_bytes()),
            Algorithm::Rs256 => EncodingKey::from_rsa_pem(text.as_bytes()),
        };
        let key = parsed.map_err(|_| InvalidKey::Mismatch { algorithm })?;
        let key = Self { id, algorithm, key };
        // Parsing looks no further than the kind of key: sign once to know that it can.
        jsonwebtoken::crypto::sign(b"", &key.key, algorithm.to_jwt())
            .map_err(|_| InvalidKey::Mismatch { algorithm })?;
        Ok(key)
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Makes a token.
    pub fn sign(&self, claims: &Claims) -> String {
        self.sign_any(claims)
    }

    /// Makes a token of one channel.
    pub fn sign_for_channel(&self, claims: &ChannelClaims) -> String {
        self.sign_any(claims)
    }

    fn sign_any(&self, claims: &impl Serialize) -> String {
        let mut header = Header::new(self.algorithm.to_jwt());
        header.kid = self.id.as_ref().map(|id| id.as_str().to_owned());
        jsonwebtoken::encode(&header, claims, &self.key)
            .expect("the key was proved able to sign, and claims are always JSON")
    }
}

/// A fresh key.
#[derive(Clone)]
pub enum GeneratedKey {
    /// For HS256: 32 random bytes as 43 characters of base64url, to be used as they stand.
    Secret(String),
    /// For the others: both halves as PEM.
    Pair { private_pem: String, public_pem: String },
}

impl GeneratedKey {
    /// Draws a key. RSA takes up to seconds, the others less than a millisecond.
    pub fn generate(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Hs256 => Self::Secret(random_secret()),
            Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::generate().expect(RANDOM);
                let private: Pkcs8V1Der<'_> = pair.as_der().expect(ENCODES);
                Self::pair(private.as_ref(), pair.public_key())
            }
            Algorithm::Es256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect(RANDOM);
                Self::pair(pair.to_pkcs8v1().expect(ENCODES).as_ref(), pair.public_key())
            }
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect(RANDOM);
                let private: Pkcs8V1Der<'_> = pair.as_der().expect(ENCODES);
                Self::pair(private.as_ref(), pair.public_key())
            }
        }
    }

    fn pair(private: &[u8], public: &impl AsDer<PublicKeyX509Der<'static>>) -> Self {
        let public = public.as_der().expect(ENCODES);
        Self::Pair {
            private_pem: pem::encode("PRIVATE KEY", private),
            public_pem: pem::encode("PUBLIC KEY", public.as_ref()),
        }
    }
}

const RANDOM: &str = "the system has random bytes";
const ENCODES: &str = "a key that was just made can be encoded";

/// Draws 32 random bytes and writes them as 43 characters of base64url.
pub fn random_secret() -> String {
    let mut bytes = [0; MIN_SECRET_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).expect(RANDOM);
    URL_SAFE_NO_PAD.encode(bytes)
}
