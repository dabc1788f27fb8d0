//! A token as it is written, before anything is proved of it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use tidewire_model::{Actions, Channel, Tenant};

use crate::{KeyId, Refusal, Verifier};

impl KeyId {
    /// What `token` calls its key, unverified: good for looking a key up, and for nothing else.
    pub fn named_in(token: &str) -> Option<Self> {
        let parts = Parts::split(token).ok()?;
        let header: Header = parse_part(parts.header).ok()?;
        Self::parse(&header.kid?).ok()
    }
}

/// A token in the compact form of RFC 7515 section 7.1: header, payload and signature.
pub(crate) struct Parts<'a> {
    pub(crate) signed: &'a str,
    pub(crate) header: &'a str,
    pub(crate) payload: &'a str,
    pub(crate) signature: &'a str,
}

impl<'a> Parts<'a> {
    pub(crate) fn split(token: &'a str) -> Result<Self, Refusal> {
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
pub(crate) struct Header {
    pub(crate) alg: String,
    pub(crate) kid: Option<String>,
    /// Extensions a recipient must understand; we understand none.
    pub(crate) crit: Option<serde::de::IgnoredAny>,
}

/// What of a payload is read before its signature: where to look for the key.
#[derive(Deserialize)]
pub(crate) struct Hint {
    pub(crate) tenant: Option<Tenant>,
    pub(crate) iss: Option<String>,
}

/// What of a payload says that its token is of one channel, and for nothing else.
#[derive(Default, Deserialize)]
pub(crate) struct OneChannel {
    #[serde(default)]
    pub(crate) channel: Option<Channel>,
    #[serde(default)]
    pub(crate) actions: Actions,
}

/// Whether a payload says what its bearer may do: an issuer's need not.
#[derive(Deserialize)]
pub(crate) struct Grant {
    pub(crate) channels: Option<serde::de::IgnoredAny>,
}

pub(crate) fn parse_part<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, Refusal> {
    serde_json::from_slice(&decode_part(part)?).map_err(|_| Refusal::Malformed)
}

pub(crate) fn decode_part(part: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)
}
