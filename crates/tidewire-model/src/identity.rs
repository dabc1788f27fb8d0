use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::{Grants, Permissions, Provenance, Tenant};

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
#[derive(Clone, Debug, Eq, PartialEq, Deserialize)]
#[serde(from = "Written<'_>")]
pub struct Identity {
    pub tenant: Tenant,
    pub user: UserId,
    pub permissions: Permissions,
    /// Seconds since the Unix epoch after which the credential is void; `None` never expires, as a
    /// server's API key.
    pub expires_at: Option<u64>,
    /// What of it can be revoked; `None` was proved by no token.
    pub provenance: Option<Provenance>,
}

impl Identity {
    pub fn is_expired(&self, unix_seconds: u64) -> bool {
        self.expires_at.is_some_and(|expiry| unix_seconds >= expiry)
    }
}

impl Serialize for Identity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written {
            tenant: self.tenant.clone(),
            user: self.user.clone(),
            permissions: Cow::Borrowed(self.permissions.granted()),
            denied: Cow::Borrowed(self.permissions.denied()),
            expires_at: self.expires_at,
            provenance: self.provenance,
        }
        .serialize(serializer)
    }
}

impl From<Written<'_>> for Identity {
    fn from(written: Written<'_>) -> Self {
        let (granted, denied) = (written.permissions.into_owned(), written.denied.into_owned());
        Self {
            tenant: written.tenant,
            user: written.user,
            permissions: Permissions::new(granted, denied),
            expires_at: written.expires_at,
            provenance: written.provenance,
        }
    }
}

/// An identity as the store keeps it: what came later stands beside what was there at first, and only
/// where there is some, so that records from before are read and written as they were.
#[derive(Deserialize, Serialize)]
struct Written<'a> {
    tenant: Tenant,
    user: UserId,
    permissions: Cow<'a, Grants>,
    #[serde(default, skip_serializing_if = "is_none")]
    denied: Cow<'a, Grants>,
    expires_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provenance: Option<Provenance>,
}

fn is_none(grants: &Grants) -> bool {
    grants.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Filter, Trace};

    #[test]
    fn an_identity_of_which_nothing_new_is_known_is_written_as_it_always_was() {
        let text = r#"{"tenant":"acme","user":"ada","permissions":{"chat/*":["subscribe","publish"]},"expires_at":null}"#;

        let identity: Identity = serde_json::from_str(text).expect("identity");

        assert!(identity.permissions.denied().is_empty());
        assert_eq!(identity.provenance, None);
        assert_eq!(serde_json::to_string(&identity).expect("json"), text);
    }

    #[test]
    fn what_is_denied_and_by_what_it_was_proved_is_kept_with_the_rest() {
        let staff = Filter::parse("staff/**").expect("filter");
        let identity = Identity {
            tenant: Tenant::parse("acme").expect("tenant"),
            user: UserId::parse("ada").expect("user"),
            permissions: Permissions::all().deny(staff, [Action::Publish]),
            expires_at: Some(7),
            provenance: Some(Provenance {
                key: Trace::from_digest([255; 8]),
                token: Some(Trace::from_digest([1; 8])),
                issued_at: 6,
            }),
        };

        let text = serde_json::to_string(&identity).expect("json");

        assert_eq!(serde_json::from_str::<Identity>(&text).expect("identity"), identity);
    }
}
