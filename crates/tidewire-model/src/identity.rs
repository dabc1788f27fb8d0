use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Permissions, Tenant};

/// Who a user is, as the tenant's own system names them: 1 to 128 bytes without control characters.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId(Arc<str>);

impl UserId {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 128;

    pub fn parse(name: &str) -> Result<Self, InvalidUserId> {
        let valid = (1..=Self::MAX_BYTES).contains(&name.len()) && !name.contains(char::is_control);
        if valid { Ok(Self(name.into())) } else { Err(InvalidUserId) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for UserId {
    type Error = InvalidUserId;

    fn try_from(name: String) -> Result<Self, InvalidUserId> {
        Self::parse(&name)
    }
}

impl From<UserId> for String {
    fn from(user: UserId) -> Self {
        user.0.as_ref().into()
    }
}

/// A text is not a user's name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a user is named by 1 to 128 bytes without control characters")]
pub struct InvalidUserId;

/// Who a verified credential says somebody is, and what they may do until when.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Identity {
    pub tenant: Tenant,
    pub user: UserId,
    pub permissions: Permissions,
    /// Seconds since the Unix epoch after which the credential is void; `None` never expires, as a
    /// server's API key.
    pub expires_at: Option<u64>,
}

impl Identity {
    pub fn is_expired(&self, unix_seconds: u64) -> bool {
        self.expires_at.is_some_and(|expiry| unix_seconds >= expiry)
    }
}
