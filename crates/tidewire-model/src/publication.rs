use std::fmt;
use std::sync::Arc;

use crate::{Payload, Position, TenantChannel, UserId};

/// A name a publisher gives a publication, so that sending it again stores it once.
///
/// 1 to 64 bytes without control characters. It is scoped by publisher and channel.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PublicationId(Arc<str>);

impl PublicationId {
    /// The longest id, in bytes.
    pub const MAX_BYTES: usize = 64;

    pub fn parse(text: &str) -> Result<Self, InvalidPublicationId> {
        let is_text = |text: &str| is_printable(text) || !text.contains(char::is_control);
        if (1..=Self::MAX_BYTES).contains(&text.len()) && is_text(text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidPublicationId)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `text` is ASCII without control characters, as nearly every id is. Looks at all of it, many
/// bytes at once.
fn is_printable(text: &str) -> bool {
    text.bytes().fold(true, |all, byte| all & matches!(byte, b' '..=b'~'))
}

impl fmt::Display for PublicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text is not a publication's id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a publication id is 1 to 64 bytes without control characters")]
pub struct InvalidPublicationId;

/// A payload with its channel and position.
///
/// The position names it for ever: no two subscribers see different content under the same channel,
/// epoch and offset.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Publication {
    pub channel: TenantChannel,
    pub position: Position,
    /// The id its publisher gave it, if any.
    pub id: Option<PublicationId>,
    /// When the log took it, in milliseconds since the Unix epoch by the log's clock. Not an
    /// ordering key.
    pub time_ms: u64,
    /// The user who published it; `None` for a server's API key.
    pub publisher: Option<UserId>,
    pub payload: Payload,
}

impl Publication {
    /// Whether no log has it: it stands at [`Position::NONE`], and each node numbers it anew.
    pub fn is_fleeting(&self) -> bool {
        self.position.offset == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_up_to_64_bytes_of_any_text_without_control_characters() {
        let longest = "x".repeat(64);
        for text in ["1", " ~", "größe", longest.as_str()] {
            assert_eq!(PublicationId::parse(text).as_ref().map(PublicationId::as_str), Ok(text));
        }
        let longer = "ä".repeat(33);
        for text in ["", "a\n", "\u{7f}", "ä\u{85}", longer.as_str()] {
            assert_eq!(PublicationId::parse(text), Err(InvalidPublicationId), "{text:?}");
        }
    }
}
