use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The isolation unit: every channel, session, key and subject belongs to one tenant.
///
/// A name of 1 to 32 characters from `a-z`, `0-9`, `_` and `-`, so that it can stand unescaped in a
/// path, a subject, a key and a metric label. Which tenant a client belongs to follows from the key
/// that verified its credential, never from what the client says.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 32;

    /// Checks `name` once.
    pub fn parse(name: &str) -> Result<Self, InvalidTenant> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        match name.len() {
            0 => Err(InvalidTenant::Empty),
            1..=Self::MAX_BYTES if name.bytes().all(allowed) => Ok(Self(name.into())),
            1..=Self::MAX_BYTES => Err(InvalidTenant::Character),
            bytes => Err(InvalidTenant::TooLong { bytes }),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Tenant {
    type Error = InvalidTenant;

    fn try_from(name: String) -> Result<Self, InvalidTenant> {
        Self::parse(&name)
    }
}

impl From<Tenant> for String {
    fn from(tenant: Tenant) -> Self {
        tenant.0.as_ref().into()
    }
}

/// Why a name cannot be a tenant's.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidTenant {
    #[error("tenant name is empty")]
    Empty,
    #[error("tenant name has {bytes} bytes, at most 32 are allowed")]
    TooLong { bytes: usize },
    #[error("tenant name may hold only a-z, 0-9, `_` and `-`")]
    Character,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_32_lowercase_characters_is_a_tenant() {
        let name = "a-z_09".repeat(5) + "ab";

        assert_eq!(Tenant::parse(&name).map(|tenant| tenant.as_str().len()), Ok(32));
    }

    #[test]
    fn what_could_break_out_of_a_subject_or_a_key_is_no_tenant() {
        for name in ["A", "a.b", "a*", "a>", "a b", "a/b", "ä", "a:b", "a\n"] {
            assert_eq!(Tenant::parse(name), Err(InvalidTenant::Character), "{name:?}");
        }
        assert_eq!(Tenant::parse(""), Err(InvalidTenant::Empty));
        assert_eq!(Tenant::parse(&"a".repeat(33)), Err(InvalidTenant::TooLong { bytes: 33 }));
    }
}
