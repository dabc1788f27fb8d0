use std::fmt;

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use aws_lc_rs::hmac;

use crate::seal::{KEY_ID_BYTES, OpeningKey, SealKey, derive};
use crate::{InvalidSealKey, SealError, Sealer};

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + KEY_ID_BYTES;

/// What stands for a text among others, without a way to guess it for who has not the key.
pub type Mark = [u8; 16];

/// Seals what is kept where others can read and write, such as a store that nodes share.
///
/// The first key seals and all of them open. What is sealed is `version (1) | key id (4) | nonce (12)
/// | sealed | tag (16)` under AES-256-GCM-SIV (RFC 8452), as what it is: opened as anything else it is
/// not valid.
pub struct Vault {
    keys: Vec<VaultKey>,
}

struct VaultKey {
    opening: OpeningKey,
    marking: hmac::Key,
}

impl Vault {
    /// Takes 1 to [`Sealer::MAX_KEYS`] keys, the sealing one first.
    pub fn new(keys: &[SealKey]) -> Result<Self, InvalidSealKey> {
        // The same keys would do for a sealer, of which the bounds are.
        Sealer::new(keys)?;
        let keys = keys.iter().map(|key| VaultKey {
            opening: OpeningKey::new(key, "tidewire vault"),
            marking: hmac::Key::new(hmac::HMAC_SHA256, &derive(key, b"tidewire vault mark")),
        });
        Ok(Self { keys: keys.collect() })
    }

    /// Seals `text` as what `purpose` says.
    pub fn seal(&self, purpose: &[u8], text: &[u8]) -> Vec<u8> {
        let first = &self.keys[0].opening;
        let mut all = vec![VERSION];
        all.extend_from_slice(&first.id);
        let mut sealed = text.to_vec();
        let nonce = first
            .cipher
            .seal_in_place_append_tag(Aad::from(bound(&all, purpose)), &mut sealed)
            .expect("a text in memory can be sealed while the system has random bytes");
        all.extend_from_slice(nonce.as_ref());
        all.extend_from_slice(&sealed);
        all
    }

    /// Opens what was sealed as `purpose`.
    ///
    /// # Errors
    ///
    /// When it was sealed as something else or by a key that is not live, or was altered.
    pub fn open(&self, purpose: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (header, rest) = sealed.split_at_checked(HEADER_BYTES).ok_or(SealError::Invalid)?;
        let (nonce, rest) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::Invalid)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Invalid)?;
        if header[0] != VERSION {
            return Err(SealError::Invalid);
        }
        let of_header = |key: &&VaultKey| key.opening.id == header[1..];
        let key = self.keys.iter().find(of_header).ok_or(SealError::Invalid)?;
        let mut text = rest.to_vec();
        let opened =
            key.opening.cipher.open_in_place(nonce, Aad::from(bound(header, purpose)), &mut text);
        let length = opened.map_err(|_| SealError::Invalid)?.len();
        text.truncate(length);
        Ok(text)
    }

    /// Whether what is sealed is sealed with the first key, so that the others can go.
    pub fn is_newest(&self, sealed: &[u8]) -> bool {
        sealed.get(1..HEADER_BYTES) == Some(&self.keys[0].opening.id[..])
    }

    /// What stands for `text`, under each key: two are of one text if any of them is the same.
    pub fn marks(&self, text: &[u8]) -> Vec<Mark> {
        let mark = |key: &VaultKey| {
            let tag = hmac::sign(&key.marking, text);
            tag.as_ref()[..16].try_into().expect("a tag has 32 bytes")
        };
        self.keys.iter().map(mark).collect()
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").finish_non_exhaustive()
    }
}

fn bound(header: &[u8], purpose: &[u8]) -> Vec<u8> {
    [header, purpose].concat()
}
