use std::io::Write as _;

/// What a command answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Nil,
    Integer(i64),
    Bytes(Vec<u8>),
    List(Vec<Reply>),
    Status(String),
    /// Its first word is its code.
    Error(String),
}

impl Reply {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Bytes(text.into().into_bytes())
    }

    pub(crate) fn ok() -> Self {
        Self::Status("OK".into())
    }

    pub(crate) fn of(bytes: Option<&Vec<u8>>) -> Self {
        bytes.map_or(Self::Nil, |bytes| Self::Bytes(bytes.clone()))
    }

    /// As a server writes it (RESP2).
    pub fn encode(&self, to: &mut Vec<u8>) {
        let written = match self {
            Self::Nil => write!(to, "$-1\r\n"),
            Self::Integer(number) => write!(to, ":{number}\r\n"),
            Self::Status(text) => write!(to, "+{text}\r\n"),
            Self::Error(text) => write!(to, "-{text}\r\n"),
            Self::Bytes(bytes) => {
                let begun = write!(to, "${}\r\n", bytes.len());
                to.extend_from_slice(bytes);
                to.extend_from_slice(b"\r\n");
                begun
            }
            Self::List(replies) => {
                let begun = write!(to, "*{}\r\n", replies.len());
                for reply in replies {
                    reply.encode(to);
                }
                begun
            }
        };
        written.expect("memory takes everything");
    }
}
