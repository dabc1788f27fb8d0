use bytes::Bytes;
use serde::de::IgnoredAny;

/// What a publisher wants delivered. Opaque: nothing in the cluster looks inside.
///
/// The two kinds exist only because a JSON client can carry JSON as it stands and must wrap
/// anything else.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Payload {
    /// One JSON value, byte for byte as the publisher wrote it.
    Json(JsonText),
    /// Anything else.
    Binary(Bytes),
}

impl Payload {
    /// Checks once that `text` is one JSON value (RFC 8259) in UTF-8, so that it can be embedded in
    /// a JSON frame without being looked at again.
    pub fn json(text: Bytes) -> Result<Self, InvalidPayload> {
        serde_json::from_slice::<IgnoredAny>(&text).map_err(|_| InvalidPayload)?;
        // IgnoredAny skips over the inside of strings without checking their encoding.
        std::str::from_utf8(&text).map_err(|_| InvalidPayload)?;
        Ok(Self::Json(JsonText(text)))
    }

    /// Takes bytes that a node has already checked: those read back from the log or the broker.
    pub fn checked_json(text: Bytes) -> Self {
        Self::Json(JsonText(text))
    }

    pub fn binary(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }

    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Json(JsonText(bytes)) | Self::Binary(bytes) => bytes,
        }
    }

    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    pub fn is_json(&self) -> bool {
        matches!(self, Self::Json(_))
    }
}

/// The bytes of one JSON value; only [`Payload`] makes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JsonText(Bytes);

impl JsonText {
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

/// Bytes that should have been one JSON value are not.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("payload is not one valid JSON value")]
pub struct InvalidPayload;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_kept_byte_for_byte() {
        let text = Bytes::from_static(b" {\"a\" : 1.50e0,\n\"b\":\"\\u00e9\"} ");

        let payload = Payload::json(text.clone()).expect("valid");

        assert_eq!(payload.bytes(), &text);
    }

    #[test]
    fn what_could_break_out_of_a_json_frame_is_refused() {
        let bad: [&[u8]; 7] =
            [b"", b"1,2", b"{\"a\":1}]", b"\"\xff\"", b"nul", b"\"\x01\"", b"{} {}"];
        for text in bad {
            assert_eq!(Payload::json(Bytes::from_static(text)), Err(InvalidPayload), "{text:?}");
        }
    }
}
