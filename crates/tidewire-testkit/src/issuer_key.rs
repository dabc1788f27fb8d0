use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A key with which an issuer signs tokens (Ed25519), and how it publishes it.
pub struct IssuerKey {
    id: String,
    pair: Ed25519KeyPair,
}

/// How long its tokens are good for.
const GOOD_FOR: u64 = 600;

impl IssuerKey {
    /// A new one of this name.
    ///
    /// # Panics
    ///
    /// If the system has no random numbers.
    pub fn draw(id: &str) -> Self {
        let pair = Ed25519KeyPair::generate().expect("the system has random numbers");
        Self { id: id.to_owned(), pair }
    }

    /// What an issuer publishes that has these keys (RFC 7517).
    pub fn set(keys: &[&Self]) -> String {
        let keys: Vec<_> = keys.iter().map(|key| key.published()).collect();
        json!({ "keys": keys }).to_string()
    }

    /// A token of `user` that names no tenant, good for everything and for ten minutes.
    pub fn token(&self, issuer: &str, user: &str) -> String {
        self.token_called(&self.id, issuer, user)
    }

    /// The same, that says to be signed with a key of this name.
    ///
    /// # Panics
    ///
    /// If the clock of this machine is before 1970.
    pub fn token_called(&self, id: &str, issuer: &str, user: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": id });
        let claims = json!({
            "iss": issuer, "sub": user, "aud": "tidewire", "exp": now + GOOD_FOR,
            "channels": { "**": ["subscribe", "publish"] },
        });
        let [header, claims] =
            [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = self.pair.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn published(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        json!({ "kid": self.id, "kty": "OKP", "crv": "Ed25519", "x": x })
    }
}
