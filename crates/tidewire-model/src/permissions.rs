use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Actions, Channel, Filter};

/// What may be done with a channel.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Subscribe,
    Publish,
    History,
    /// Asking who is in a channel, and being told of who comes and goes.
    Presence,
}

/// Channels by pattern, each with what it is said that may, or may not, be done with them.
pub type Grants = BTreeMap<Filter, Actions>;

/// What an identity may do with which channels. Nothing is allowed that is not granted, and nothing
/// that is denied, however narrowly it is granted.
///
/// Written in a token as `"channels": {"chat/*": ["subscribe", "publish"]}`, and beside it, if there
/// is any, `"denied"` of the same shape. Checking takes time linear in the number of filters, of
/// which there are at most [`Permissions::MAX_FILTERS`].
///
/// One pointer: clones share what is granted.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Permissions(Arc<Granted>);

#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
struct Granted {
    granted: Grants,
    denied: Grants,
}

impl Permissions {
    /// The most filters one credential may carry, those that deny included.
    pub const MAX_FILTERS: usize = 64;

    pub fn new(granted: Grants, denied: Grants) -> Self {
        Self(Arc::new(Granted { granted, denied }))
    }

    /// Everything, on every channel of the tenant.
    pub fn all() -> Self {
        let everything = Filter::parse("**").expect("a valid filter");
        Self::default().grant(everything, Action::ALL)
    }

    #[must_use]
    pub fn grant(mut self, filter: Filter, actions: impl IntoIterator<Item = Action>) -> Self {
        Arc::make_mut(&mut self.0).granted.entry(filter).or_default().extend(actions);
        self
    }

    #[must_use]
    pub fn deny(mut self, filter: Filter, actions: impl IntoIterator<Item = Action>) -> Self {
        Arc::make_mut(&mut self.0).denied.entry(filter).or_default().extend(actions);
        self
    }

    /// These, without what `other` denies.
    #[must_use]
    pub fn denied_too(self, other: &Self) -> Self {
        other.denied().iter().fold(self, |permissions, (filter, actions)| {
            permissions.deny(filter.clone(), actions.iter())
        })
    }

    pub fn allows(&self, action: Action, channel: &Channel) -> bool {
        names(&self.0.granted, action, channel) && !self.denies(action, channel)
    }

    /// Whether it is not allowed whatever else is said.
    pub fn denies(&self, action: Action, channel: &Channel) -> bool {
        names(&self.0.denied, action, channel)
    }

    /// Whether each filter of `wanted` is granted whole by one of these, with all its actions. What is denied
    /// is not looked at.
    pub fn covers(&self, wanted: &Grants) -> bool {
        wanted.iter().all(|(filter, actions)| {
            actions.iter().all(|action| {
                let granted = self.0.granted.iter();
                let mut granted = granted.filter(|(_, granted)| granted.contains(action));
                granted.any(|(granted, _)| granted.covers(filter))
            })
        })
    }

    pub fn granted(&self) -> &Grants {
        &self.0.granted
    }

    pub fn denied(&self) -> &Grants {
        &self.0.denied
    }

    /// How many filters there are, those that deny included.
    pub fn len(&self) -> usize {
        self.0.granted.len() + self.0.denied.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the two are one in memory, and not only equal.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

fn names(grants: &Grants, action: Action, channel: &Channel) -> bool {
    grants.iter().any(|(filter, actions)| actions.contains(action) && filter.matches(channel))
}

impl Action {
    pub const ALL: [Self; 4] = [Self::Subscribe, Self::Publish, Self::History, Self::Presence];

    /// What it is called where permissions are written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::History => "history",
            Self::Presence => "presence",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(pattern: &str) -> Filter {
        Filter::parse(pattern).expect("filter")
    }

    fn channel(name: &str) -> Channel {
        Channel::parse(name).expect("channel")
    }

    #[test]
    fn nothing_is_allowed_that_is_not_granted() {
        let permissions = Permissions::default()
            .grant(filter("chat/*"), [Action::Subscribe])
            .grant(filter("x"), [Action::Publish]);

        assert!(permissions.allows(Action::Subscribe, &channel("chat/1")));
        for action in [Action::Publish, Action::History, Action::Presence] {
            assert!(!permissions.allows(action, &channel("chat/1")), "{action:?}");
        }
        assert!(!Permissions::default().allows(Action::Subscribe, &channel("chat/1")));
        for action in Action::ALL {
            assert!(Permissions::all().allows(action, &channel("chat/1")), "{action:?}");
        }
    }

    #[test]
    fn what_is_denied_is_not_allowed_however_narrowly_it_is_granted() {
        let wide = Permissions::all().deny(filter("staff/**"), [Action::Subscribe]);
        let narrow = wide.clone().grant(filter("staff/1"), Action::ALL);

        for permissions in [wide, narrow] {
            assert!(!permissions.allows(Action::Subscribe, &channel("staff/1")));
            assert!(!permissions.allows(Action::Subscribe, &channel("staff/1/2")));
            assert!(permissions.allows(Action::Publish, &channel("staff/1")));
            assert!(permissions.allows(Action::Subscribe, &channel("staff")));
        }
        let nothing = Permissions::all().deny(filter("**"), Action::ALL);
        assert!(!nothing.allows(Action::Publish, &channel("a/b")));
    }

    #[test]
    fn denying_alone_allows_nothing() {
        let permissions = Permissions::default().deny(filter("a"), [Action::Publish]);

        assert!(!permissions.allows(Action::Publish, &channel("b")));
        assert!(!permissions.allows(Action::Subscribe, &channel("a")));
    }

    #[test]
    fn clones_are_shared_until_one_is_granted_more() {
        let first = Permissions::all();
        let second = first.clone();

        assert!(second.is_shared_with(&first));
        let second = second.grant(filter("x"), [Action::Publish]).deny(filter("y"), Action::ALL);

        assert!(!second.is_shared_with(&first));
        assert_eq!((first.len(), second.len()), (1, 3));
        assert_eq!(first, Permissions::all());
        assert!(!first.is_shared_with(&Permissions::all()));
    }

    fn grants() -> impl Strategy<Value = Vec<(String, usize)>> {
        prop::collection::vec(("(a|b|\\*)(/(a|b|\\*)){0,2}(/\\*\\*)?", 0_usize..4), 0..6)
    }

    proptest! {
        #[test]
        fn the_answer_is_that_of_asking_each_filter_in_turn(
            granted in grants(),
            denied in grants(),
            name in "(a|b)(/(a|b)){0,3}",
        ) {
            let parsed = |list: Vec<(String, usize)>| -> Vec<(Filter, Action)> {
                list.into_iter().map(|(text, at)| (filter(&text), Action::ALL[at])).collect()
            };
            let (granted, denied) = (parsed(granted), parsed(denied));
            let channel = channel(&name);
            let permissions = granted.iter().fold(Permissions::default(), |so_far, (filter, action)| {
                so_far.grant(filter.clone(), [*action])
            });
            let permissions = denied.iter().fold(permissions, |so_far, (filter, action)| {
                so_far.deny(filter.clone(), [*action])
            });

            for action in Action::ALL {
                let names = |list: &[(Filter, Action)]| {
                    list.iter().any(|(filter, of)| *of == action && filter.matches(&channel))
                };
                prop_assert_eq!(
                    permissions.allows(action, &channel),
                    names(&granted) && !names(&denied)
                );
            }
        }
    }
}
