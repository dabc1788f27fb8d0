use std::fmt;

use serde::{Deserialize, Serialize};
use tidewire_model::Trace;

use crate::key::trace;

/// What a token calls itself (`jti`, RFC 7519 section 4.1.7), to be revoked by: 1 to 128 bytes without
/// control characters. Its issuer gives no two tokens the same.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(Box<str>);

impl TokenId {
    /// The longest id, in bytes.
    pub const MAX_BYTES: usize = 128;

    pub fn parse(text: &str) -> Result<Self, InvalidTokenId> {
        let valid = (1..=Self::MAX_BYTES).contains(&text.len()) && !text.contains(char::is_control);
        if valid { Ok(Self(text.into())) } else { Err(InvalidTokenId) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it is looked up by.
    pub fn trace(&self) -> Trace {
        trace("token", &self.0)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TokenId {
    type Error = InvalidTokenId;

    fn try_from(text: String) -> Result<Self, InvalidTokenId> {
        Self::parse(&text)
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        id.0.into()
    }
}

/// A text is not a token's id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a token's id has 1 to 128 bytes and no control characters")]
pub struct InvalidTokenId;
