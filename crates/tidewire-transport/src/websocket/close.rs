use bytes::{BufMut, Bytes};
use tidewire_model::Disconnect;

use super::Violation;

/// A close code that may stand in a close frame (RFC 6455 section 7.4).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct CloseCode(u16);

impl CloseCode {
    pub const NORMAL: Self = Self(1000);
    /// The peer is leaving, such as a browser closing its page.
    pub const GOING_AWAY: Self = Self(1001);

    /// Checks `code` once: `None` for those that are reserved, or mean that there was no code.
    pub fn parse(code: u16) -> Option<Self> {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999).then_some(Self(code))
    }

    pub fn value(self) -> u16 {
        self.0
    }
}

impl From<Disconnect> for CloseCode {
    fn from(disconnect: Disconnect) -> Self {
        Self(disconnect.code())
    }
}

/// What a close frame said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Close {
    pub code: CloseCode,
    /// At most 123 bytes.
    pub reason: String,
}

impl Close {
    /// Reads the payload of a close frame; an empty one says nothing.
    pub(super) fn parse(payload: &[u8]) -> Result<Option<Self>, Violation> {
        let Some((code, reason)) = payload.split_first_chunk::<2>() else {
            return if payload.is_empty() { Ok(None) } else { Err(Violation::CloseLength) };
        };
        let code = CloseCode::parse(u16::from_be_bytes(*code)).ok_or(Violation::CloseCode)?;
        let reason = str::from_utf8(reason).map_err(|_| Violation::InvalidUtf8)?;
        Ok(Some(Self { code, reason: reason.to_owned() }))
    }
}

/// The payload of a close frame, its reason cut at a character boundary.
pub(super) fn encode_close(code: CloseCode, reason: &str) -> Bytes {
    let reason = &reason[..reason.floor_char_boundary(MAX_REASON_BYTES)];
    let mut payload = Vec::with_capacity(2 + reason.len());
    payload.put_u16(code.value());
    payload.put_slice(reason.as_bytes());
    payload.into()
}

/// What a control frame's 125 bytes leave beside the code.
const MAX_REASON_BYTES: usize = 123;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_disconnect_has_a_code_that_may_be_sent() {
        for disconnect in Disconnect::ALL {
            assert_eq!(CloseCode::parse(disconnect.code()), Some(CloseCode::from(disconnect)));
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let payload = encode_close(CloseCode::NORMAL, &"é".repeat(100));

        let close = Close::parse(&payload).unwrap().unwrap();

        assert_eq!(close.reason, "é".repeat(61));
    }
}
