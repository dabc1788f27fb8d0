use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::channel::{check_characters, check_outline};
use crate::{Channel, InvalidChannel};

/// A channel name or a pattern of names, such as `room:42`, `chat/*` or `orders/**`.
///
/// `*` stands for exactly one level, `**` for one or more levels and only at the end. Both stand
/// alone in their level: `room-*` is refused, because half-level wildcards cannot be looked up in a
/// trie. Matching takes time linear in the number of levels.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Filter(Box<str>);

impl Filter {
    /// Checks `pattern` once.
    pub fn parse(pattern: &str) -> Result<Self, InvalidFilter> {
        check_outline(pattern).map_err(InvalidFilter::Name)?;
        let mut levels = pattern.split('/').peekable();
        while let Some(level) = levels.next() {
            match level {
                "*" => {}
                "**" if levels.peek().is_none() => {}
                "**" => return Err(InvalidFilter::RestNotLast),
                literal => check_literal(literal)?,
            }
        }
        Ok(Self(pattern.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `channel` is one of the names this filter stands for.
    pub fn matches(&self, channel: &Channel) -> bool {
        let is_slash = |byte: &u8| *byte == b'/';
        let mut levels = channel.as_str().as_bytes().split(is_slash);
        for wanted in self.0.as_bytes().split(is_slash) {
            let Some(level) = levels.next() else { return false };
            match wanted {
                b"**" => return true,
                b"*" => {}
                literal if literal == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// Whether this filter stands for every name that `other` stands for.
    pub fn covers(&self, other: &Self) -> bool {
        let mut others = other.0.split('/');
        for wanted in self.0.split('/') {
            let Some(level) = others.next() else { return false };
            match wanted {
                "**" => return true,
                "*" if level != "**" => {}
                literal if literal == level => {}
                _ => return false,
            }
        }
        others.next().is_none()
    }

    /// How much more narrowly this filter names channels than another: level by level from the left,
    /// a name is narrower than `*`, and that than `**`; of two that are alike as far as both go, the
    /// longer is narrower. Two different filters that match one channel are never equal.
    pub fn compare_specificity(&self, other: &Self) -> Ordering {
        self.ranks().cmp(other.ranks())
    }

    fn ranks(&self) -> impl Iterator<Item = u8> {
        self.0.split('/').map(|level| match level {
            "**" => 0,
            "*" => 1,
            _ => 2,
        })
    }
}

fn check_literal(level: &str) -> Result<(), InvalidFilter> {
    if level.contains('*') {
        return Err(InvalidFilter::PartialWildcard);
    }
    check_characters(level).map_err(InvalidFilter::Name)
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Filter {
    type Error = InvalidFilter;

    fn try_from(pattern: String) -> Result<Self, InvalidFilter> {
        Self::parse(&pattern)
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> Self {
        filter.0.into()
    }
}

/// Why a text cannot be a filter.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidFilter {
    #[error(transparent)]
    Name(InvalidChannel),
    #[error("`**` may stand only at the end of a pattern")]
    RestNotLast,
    #[error("`*` must be a whole level of a pattern")]
    PartialWildcard,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(filter: &str, channel: &str) -> bool {
        Filter::parse(filter).expect("filter").matches(&Channel::parse(channel).expect("channel"))
    }

    #[test]
    fn a_literal_matches_only_itself() {
        assert!(matches("chat/1", "chat/1"));
        assert!(!matches("chat/1", "chat/2"));
        assert!(!matches("chat", "chat/1"));
        assert!(!matches("chat/1", "chat"));
    }

    #[test]
    fn one_star_stands_for_exactly_one_level() {
        assert!(matches("chat/*", "chat/1"));
        assert!(matches("*/1", "chat/1"));
        assert!(!matches("chat/*", "chat"));
        assert!(!matches("chat/*", "chat/1/2"));
    }

    #[test]
    fn two_stars_stand_for_the_rest() {
        assert!(matches("**", "a/b/c"));
        assert!(matches("a/**", "a/b/c"));
        assert!(!matches("a/**", "a"));
        assert!(!matches("a/**", "b/a"));
    }

    #[test]
    fn patterns_a_trie_could_not_hold_are_refused() {
        assert_eq!(Filter::parse("a/**/b"), Err(InvalidFilter::RestNotLast));
        assert_eq!(Filter::parse("room-*"), Err(InvalidFilter::PartialWildcard));
        assert_eq!(Filter::parse("a//b"), Err(InvalidFilter::Name(InvalidChannel::EmptyLevel)));
        assert_eq!(
            Filter::parse("a/b+"),
            Err(InvalidFilter::Name(InvalidChannel::Character { character: '+' }))
        );
    }

    #[test]
    fn a_dollar_is_reserved_where_a_name_starts_and_nowhere_else() {
        for reserved in ["$sys", "$sys/*", "$"] {
            assert_eq!(
                Filter::parse(reserved),
                Err(InvalidFilter::Name(InvalidChannel::Reserved)),
                "{reserved}"
            );
        }
        assert!(matches("a/$b", "a/$b"));
        assert!(matches("*/$b", "a/$b"));
    }

    #[test]
    fn narrower_filters_come_after_wider_ones() {
        let wider_first =
            ["**", "*", "*/**", "*/1", "chat", "chat/**", "chat/*", "chat/*/x", "chat/1"];

        let filters = wider_first.map(|pattern| Filter::parse(pattern).expect("filter"));

        for pair in filters.windows(2) {
            assert_eq!(pair[0].compare_specificity(&pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(pair[1].compare_specificity(&pair[0]), Ordering::Greater, "{pair:?}");
        }
    }

    proptest! {
        #[test]
        fn of_two_filters_of_one_channel_one_is_narrower(
            one in "(a|b|\\*)(/(a|b|\\*)){0,3}(/\\*\\*)?",
            other in "(a|b|\\*)(/(a|b|\\*)){0,3}(/\\*\\*)?",
            name in "(a|b)(/(a|b)){0,4}",
        ) {
            let [one, other] = [one, other].map(|pattern| Filter::parse(&pattern).expect("filter"));
            let name = Channel::parse(&name).expect("channel");

            let order = one.compare_specificity(&other);

            prop_assert_eq!(order, other.compare_specificity(&one).reverse());
            if one.matches(&name) && other.matches(&name) {
                prop_assert_eq!(order == Ordering::Equal, one == other);
            }
        }

        #[test]
        fn every_channel_is_a_filter_that_matches_it(name in "[a-z$:/*]{0,12}|\\PC{1,8}") {
            if let Ok(channel) = Channel::parse(&name) {
                prop_assert!(Filter::parse(&name).expect("filter").matches(&channel));
            }
        }
    }
}
