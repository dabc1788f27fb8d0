use std::fmt;

use crate::api_key::is_hash_of;
use crate::key::sha256;

/// What is kept of a secret that is long and random: enough to recognise it, and no way back.
#[derive(Clone, Eq, PartialEq)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    pub fn of(secret: &str) -> Self {
        Self(sha256(secret.as_bytes()))
    }

    /// Takes as long for a wrong secret as for the right one of the same length.
    pub fn matches(&self, secret: &str) -> bool {
        is_hash_of(&self.0, secret)
    }

    /// As [`ApiKey::from_sha256`](crate::ApiKey::from_sha256) takes it.
    pub fn to_hex(&self) -> String {
        let (high, low) = self.0.split_at(16);
        let [high, low] = [high, low].map(|half| half.try_into().expect("half of 32 bytes"));
        format!("{:032x}{:032x}", u128::from_be_bytes(high), u128::from_be_bytes(low))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_knows_its_secret_and_no_other() {
        let hash = SecretHash::of("abc");

        assert!(hash.matches("abc") && !hash.matches("abd") && !hash.matches(""));
        assert!(hash.to_hex().starts_with("ba7816bf8f01cfea"));
    }
}
