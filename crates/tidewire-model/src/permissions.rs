use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Channel, Filter};

/// What may be done with a channel.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Subscribe,
    Publish,
    History,
}

/// What an identity may do with which channels. Nothing is allowed that is not granted.
///
/// Written in a token as `{"chat/*": ["subscribe", "publish"]}`. Checking takes time linear in the
/// number of filters, of which there are at most [`Permissions::MAX_FILTERS`].
///
/// One pointer: clones share what is granted.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Permissions(Arc<BTreeMap<Filter, Vec<Action>>>);

impl Permissions {
    /// The most filters one credential may carry.
    pub const MAX_FILTERS: usize = 64;

    /// Everything, on every channel of the tenant.
    pub fn all() -> Self {
        let everything = Filter::parse("**").expect("a valid filter");
        Self::default().grant(everything, [Action::Subscribe, Action::Publish, Action::History])
    }

    #[must_use]
    pub fn grant(mut self, filter: Filter, actions: impl IntoIterator<Item = Action>) -> Self {
        Arc::make_mut(&mut self.0).entry(filter).or_default().extend(actions);
        self
    }

    pub fn allows(&self, action: Action, channel: &Channel) -> bool {
        self.0.iter().any(|(filter, actions)| actions.contains(&action) && filter.matches(channel))
    }

    /// How many filters there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the two are one in memory, and not only equal.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(|granted| Self(Arc::new(granted)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_allowed_that_is_not_granted() {
        let channel = Channel::parse("chat/1").expect("valid");
        let permissions: Permissions =
            serde_json::from_str(r#"{"chat/*": ["subscribe"], "x": ["publish"]}"#).expect("valid");

        assert!(permissions.allows(Action::Subscribe, &channel));
        assert!(!permissions.allows(Action::Publish, &channel));
        assert!(!permissions.allows(Action::History, &channel));
        assert!(!Permissions::default().allows(Action::Subscribe, &channel));
        assert!(Permissions::all().allows(Action::History, &channel));
    }

    #[test]
    fn clones_are_shared_until_one_is_granted_more() {
        let first = Permissions::all();
        let second = first.clone();
        let filter = Filter::parse("x").expect("valid");

        assert!(second.is_shared_with(&first));
        let second = second.grant(filter, [Action::Publish]);

        assert!(!second.is_shared_with(&first));
        assert_eq!((first.len(), second.len()), (1, 2));
        assert_eq!(first, Permissions::all());
        assert!(!first.is_shared_with(&Permissions::all()));
    }

    #[test]
    fn what_is_written_is_the_map_that_is_read() {
        let text = r#"{"chat/*":["subscribe","publish"],"x":["history"]}"#;

        let permissions: Permissions = serde_json::from_str(text).expect("valid");

        assert_eq!(serde_json::to_string(&permissions).expect("json"), text);
        assert!(serde_json::from_str::<Permissions>(r#"{"a//b":[]}"#).is_err());
    }
}
