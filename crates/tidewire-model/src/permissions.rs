use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Permissions(BTreeMap<Filter, Vec<Action>>);

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
        self.0.entry(filter).or_default().extend(actions);
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
}
