use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use tidewire_model::{Generation, SessionId, Tenant};

use crate::MIN_SECRET_BYTES;

/// Without an incarnation, which is 0 then, and with one.
const VERSIONS: [u8; 2] = [1, 2];
const KEY_BYTES: usize = 32;
pub(crate) const KEY_ID_BYTES: usize = 4;
/// What stands before the nonce in clear and is authenticated with the rest.
const HEADER_BYTES: usize = 1 + KEY_ID_BYTES;

/// Makes and opens resume tokens: opaque to the client, worthless without the cluster's key.
///
/// The first key seals and all of them open, so a key is changed by putting the new one first and
/// dropping the old one when the last token it sealed has expired. Every node holds the same keys.
///
/// A token is base64url of `version (1) | key id (4) | nonce (12) | sealed | tag (16)`, where sealed
/// holds session (16), generation (8), issued (8), expiry (8), in version 2 the tenant's incarnation
/// (8), and the tenant (1 to 32), big-endian. The
/// nonce is random. The cipher is AES-256-GCM-SIV (RFC 8452), because all nodes seal under one key
/// without knowing of each other: plain GCM would have to retire a key after 2³² tokens.
pub struct Sealer {
    first: OpeningKey,
    others: Vec<OpeningKey>,
}

impl Sealer {
    /// The longest token, in characters.
    pub const MAX_TOKEN_BYTES: usize = 160;
    /// The most keys that may be live at once.
    pub const MAX_KEYS: usize = 8;

    /// Takes 1 to [`MAX_KEYS`](Self::MAX_KEYS) keys, the sealing one first.
    pub fn new(keys: &[SealKey]) -> Result<Self, InvalidSealKey> {
        if keys.len() > Self::MAX_KEYS {
            return Err(InvalidSealKey::TooMany);
        }
        let mut opening: Vec<OpeningKey> = Vec::with_capacity(keys.len());
        for key in keys {
            let key = OpeningKey::new(key, "tidewire seal");
            if opening.iter().any(|other| other.id == key.id) {
                return Err(InvalidSealKey::Repeated);
            }
            opening.push(key);
        }
        let mut opening = opening.into_iter();
        let first = opening.next().ok_or(InvalidSealKey::None)?;
        Ok(Self { first, others: opening.collect() })
    }

    /// Makes a token of at most [`MAX_TOKEN_BYTES`](Self::MAX_TOKEN_BYTES).
    pub fn seal(&self, claims: &ResumeClaims) -> String {
        let mut token = vec![claims.version()];
        token.extend_from_slice(&self.first.id);
        let mut sealed = claims.encode();
        let nonce = self
            .first
            .cipher
            .seal_in_place_append_tag(Aad::from(&token), &mut sealed)
            .expect("a short text can be sealed while the system has random bytes");
        token.extend_from_slice(nonce.as_ref());
        token.extend_from_slice(&sealed);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Reads a token, where `now` is in seconds since the Unix epoch.
    pub fn open(&self, token: &str, now: u64) -> Result<ResumeClaims, SealError> {
        if token.len() > Self::MAX_TOKEN_BYTES {
            return Err(SealError::Invalid);
        }
        let mut token = URL_SAFE_NO_PAD.decode(token).map_err(|_| SealError::Invalid)?;
        let (header, rest) = token.split_at_mut_checked(HEADER_BYTES).ok_or(SealError::Invalid)?;
        let (nonce, sealed) = rest.split_at_mut_checked(NONCE_LEN).ok_or(SealError::Invalid)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Invalid)?;
        let key = self.key_of(header).ok_or(SealError::Invalid)?;
        let content = key
            .cipher
            .open_in_place(nonce, Aad::from(&*header), sealed)
            .map_err(|_| SealError::Invalid)?;
        let claims = ResumeClaims::decode(header[0], content).ok_or(SealError::Invalid)?;
        if now >= claims.expires_at { Err(SealError::Expired) } else { Ok(claims) }
    }

    fn key_of(&self, header: &[u8]) -> Option<&OpeningKey> {
        let (&version, id) = header.split_first()?;
        if !VERSIONS.contains(&version) {
            return None;
        }
        std::iter::once(&self.first).chain(&self.others).find(|key| key.id == id)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

pub(crate) struct OpeningKey {
    pub(crate) id: [u8; KEY_ID_BYTES],
    pub(crate) cipher: RandomizedNonceKey,
}

impl OpeningKey {
    /// The key for one purpose: keys of others cannot be learned from it.
    pub(crate) fn new(key: &SealKey, purpose: &str) -> Self {
        let cipher = RandomizedNonceKey::new(&AES_256_GCM_SIV, &derive(key, purpose.as_bytes()))
            .expect("the key has the cipher's length");
        let named = derive(key, format!("{purpose} key id").as_bytes());
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&named[..KEY_ID_BYTES]);
        Self { id, cipher }
    }
}

/// A secret of the cluster from which a sealing key and its id are derived (HKDF, RFC 5869).
#[derive(Clone, Eq, PartialEq)]
pub struct SealKey([u8; KEY_BYTES]);

impl SealKey {
    /// Wraps 32 bytes, which must have been drawn at random.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Reads 32 bytes from base64 (either alphabet, padded or not), or else condenses a secret of at
    /// least [`MIN_SECRET_BYTES`].
    pub fn parse(text: &str) -> Result<Self, InvalidSealKey> {
        let engines = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD];
        let decoded = engines.iter().find_map(|engine| engine.decode(text).ok());
        if let Some(Ok(bytes)) = decoded.map(<[u8; KEY_BYTES]>::try_from) {
            return Ok(Self(bytes));
        }
        if text.len() < MIN_SECRET_BYTES {
            return Err(InvalidSealKey::Short { bytes: text.len() });
        }
        Ok(Self(condense(text.as_bytes(), b"tidewire seal secret")))
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

pub(crate) fn derive(key: &SealKey, purpose: &[u8]) -> [u8; KEY_BYTES] {
    condense(&key.0, purpose)
}

fn condense(secret: &[u8], purpose: &[u8]) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    Salt::new(HKDF_SHA256, &[])
        .extract(secret)
        .expand(&[purpose], HKDF_SHA256)
        .and_then(|derived| derived.fill(&mut key))
        .expect("32 bytes are within what HKDF can give");
    key
}

/// What a resume token says: which session its bearer may claim, and until when. Times are seconds
/// since the Unix epoch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResumeClaims {
    pub tenant: Tenant,
    /// Which one of the tenant's name it was: a later one has nothing of its sessions.
    pub incarnation: u64,
    pub session: SessionId,
    /// The generation the bearer owned; a claim is for the next.
    pub generation: Generation,
    pub issued_at: u64,
    pub expires_at: u64,
}

impl ResumeClaims {
    fn version(&self) -> u8 {
        VERSIONS[usize::from(self.incarnation != 0)]
    }

    fn encode(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(128);
        content.extend_from_slice(self.session.as_bytes());
        for number in [self.generation.0, self.issued_at, self.expires_at] {
            content.extend_from_slice(&number.to_be_bytes());
        }
        if self.version() == 2 {
            content.extend_from_slice(&self.incarnation.to_be_bytes());
        }
        content.extend_from_slice(self.tenant.as_str().as_bytes());
        content
    }

    fn decode(version: u8, content: &[u8]) -> Option<Self> {
        let (session, rest) = content.split_first_chunk::<16>()?;
        let (generation, rest) = rest.split_first_chunk::<8>()?;
        let (issued_at, rest) = rest.split_first_chunk::<8>()?;
        let (expires_at, rest) = rest.split_first_chunk::<8>()?;
        let (incarnation, tenant) =
            if version == 2 { rest.split_first_chunk::<8>()? } else { (&[0; 8], rest) };
        Some(Self {
            tenant: Tenant::parse(std::str::from_utf8(tenant).ok()?).ok()?,
            incarnation: u64::from_be_bytes(*incarnation),
            session: SessionId::from_bytes(*session),
            generation: Generation(u64::from_be_bytes(*generation)),
            issued_at: u64::from_be_bytes(*issued_at),
            expires_at: u64::from_be_bytes(*expires_at),
        })
    }
}

/// Why a resume token does not open.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealError {
    #[error("resume token has expired")]
    Expired,
    /// Malformed, altered, or sealed by a key that is not live.
    #[error("resume token is not valid")]
    Invalid,
}

/// Why keys cannot seal.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidSealKey {
    #[error("at least one key is needed")]
    None,
    #[error("more than {} keys", Sealer::MAX_KEYS)]
    TooMany,
    #[error("the same key is listed twice")]
    Repeated,
    #[error(
        "key is neither 32 bytes in base64 nor a secret of at least {MIN_SECRET_BYTES} bytes \
         (it has {bytes})"
    )]
    Short { bytes: usize },
}
