use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Action;

/// A set of [`Action`]s, one byte. Written as the list of their names; one that is repeated counts once.
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct Actions(u8);

impl Actions {
    pub fn contains(self, action: Action) -> bool {
        self.0 & bit(action) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL.into_iter().filter(move |action| self.contains(*action))
    }
}

fn bit(action: Action) -> u8 {
    1 << action as u8
}

impl Extend<Action> for Actions {
    fn extend<I: IntoIterator<Item = Action>>(&mut self, actions: I) {
        for action in actions {
            self.0 |= bit(action);
        }
    }
}

impl FromIterator<Action> for Actions {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        let mut set = Self::default();
        set.extend(actions);
        set
    }
}

impl fmt::Debug for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for Actions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Actions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = Actions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of actions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Actions, A::Error> {
                let mut actions = Actions::default();
                while let Some(action) = names.next_element::<Action>()? {
                    actions.extend([action]);
                }
                Ok(actions)
            }
        }

        deserializer.deserialize_seq(Names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_written_as_the_names_of_its_actions_and_read_in_any_order() {
        let all: Actions = serde_json::from_str(r#"["presence","history","publish","subscribe"]"#)
            .expect("actions");

        assert_eq!(all, Action::ALL.into_iter().collect());
        assert_eq!(
            serde_json::to_string(&all).expect("json"),
            r#"["subscribe","publish","history","presence"]"#
        );
        assert_eq!(serde_json::from_str::<Actions>("[]").expect("none"), Actions::default());
        assert!(serde_json::from_str::<Actions>(r#"["own"]"#).is_err());
        assert!(serde_json::from_str::<Actions>(r#""publish""#).is_err());
    }

    #[test]
    fn an_action_that_is_repeated_counts_once_and_brings_no_other() {
        let twice: Actions = serde_json::from_str(r#"["publish","publish"]"#).expect("actions");

        assert_eq!(twice.iter().collect::<Vec<_>>(), [Action::Publish]);
        for other in [Action::Subscribe, Action::History, Action::Presence] {
            assert!(!twice.contains(other), "{other:?}");
        }
    }
}
