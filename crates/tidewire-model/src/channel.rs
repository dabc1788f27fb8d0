use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Tenant;

/// The name of a stream of publications inside one tenant, such as `room:42` or `sport/football`.
///
/// UTF-8, 1 to 255 bytes, at most 16 levels split by `/`, none of them empty. Control characters
/// and the pattern characters `*`, `>`, `+` and `#` are refused, and names that start with `$` are
/// reserved. `:` is an ordinary character. Names are compared byte for byte: no Unicode
/// normalisation takes place.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Channel(Arc<str>);

impl Channel {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 255;
    /// The most levels a name may have.
    pub const MAX_LEVELS: usize = 16;

    /// Checks `name` once, so that holding a `Channel` is proof that it is valid.
    pub fn parse(name: &str) -> Result<Self, InvalidChannel> {
        if !is_plain(name.as_bytes()) {
            check_outline(name)?;
            check_characters(name)?;
        }
        Ok(Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The reserved channel whose publications are the changes of who is in this one; `None` if its name
    /// would be too long.
    pub fn presence(&self) -> Option<Self> {
        let name = format!("{PRESENCE}{}", self.0);
        (name.len() <= Self::MAX_BYTES && !self.is_reserved()).then(|| Self(name.into()))
    }

    /// Whose presence a reserved channel tells of.
    pub fn watched(&self) -> Option<Self> {
        self.0.strip_prefix(PRESENCE).map(|name| Self(name.into()))
    }

    /// The channel itself, or the one it is named after if it is reserved: both are in one partition.
    pub fn stem(&self) -> &str {
        self.0.strip_prefix(PRESENCE).unwrap_or(&self.0)
    }

    /// Whether no client can name it.
    pub fn is_reserved(&self) -> bool {
        self.0.as_bytes()[0] == b'$'
    }

    /// Checks the name of a reserved channel: for what comes from other nodes, never from a client.
    pub fn parse_reserved(name: &str) -> Result<Self, InvalidChannel> {
        let base = name.strip_prefix(PRESENCE).ok_or(InvalidChannel::Reserved)?;
        Self::parse(base)?.presence().ok_or(InvalidChannel::TooLong { bytes: name.len() })
    }

    /// The parts of the name between its slashes.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

/// What the names of channels begin with that tell of presence in others.
const PRESENCE: &str = "$presence/";

/// Whether one look at each byte shows that a name breaks no rule, as it does for nearly every name.
fn is_plain(name: &[u8]) -> bool {
    let (mut levels, mut previous) = (1, b'/');
    for &byte in name {
        if !IS_PLAIN[usize::from(byte)] {
            if byte != b'/' || previous == b'/' {
                return false;
            }
            levels += 1;
        }
        previous = byte;
    }
    previous != b'/' && name.len() <= Channel::MAX_BYTES && levels <= Channel::MAX_LEVELS
}

/// Of each byte, whether it is an ASCII character that no rule names.
const IS_PLAIN: [bool; 256] = {
    let mut is_plain = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        is_plain[byte as usize] = !matches!(byte, b'/' | b'$' | b'*' | b'>' | b'+' | b'#');
        byte += 1;
    }
    is_plain
};

/// The rules a channel and a [`Filter`](crate::Filter) share for a name as a whole.
pub(crate) fn check_outline(name: &str) -> Result<(), InvalidChannel> {
    if name.is_empty() {
        return Err(InvalidChannel::Empty);
    }
    if name.len() > Channel::MAX_BYTES {
        return Err(InvalidChannel::TooLong { bytes: name.len() });
    }
    if name.starts_with('$') {
        return Err(InvalidChannel::Reserved);
    }
    if name.split('/').any(str::is_empty) {
        return Err(InvalidChannel::EmptyLevel);
    }
    let levels = name.split('/').count();
    if levels > Channel::MAX_LEVELS {
        return Err(InvalidChannel::TooManyLevels { levels });
    }
    Ok(())
}

/// The rule for what may stand in a name, or in a part of one.
pub(crate) fn check_characters(text: &str) -> Result<(), InvalidChannel> {
    let is_forbidden = |&c: &char| c.is_control() || matches!(c, '*' | '>' | '+' | '#');
    match text.chars().find(is_forbidden) {
        Some(character) => Err(InvalidChannel::Character { character }),
        None => Ok(()),
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Channel {
    type Error = InvalidChannel;

    fn try_from(name: String) -> Result<Self, InvalidChannel> {
        Self::parse(&name)
    }
}

impl From<Channel> for String {
    fn from(channel: Channel) -> Self {
        channel.0.as_ref().into()
    }
}

/// Why a name cannot be a channel's.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidChannel {
    #[error("channel name is empty")]
    Empty,
    #[error("channel name has {bytes} bytes, at most 255 are allowed")]
    TooLong { bytes: usize },
    #[error("channel names that start with `$` are reserved")]
    Reserved,
    #[error("channel name holds {character:?}, which is not allowed")]
    Character { character: char },
    #[error("channel name has an empty level; remove the leading, trailing or doubled `/`")]
    EmptyLevel,
    #[error("channel name has {levels} levels, at most 16 are allowed")]
    TooManyLevels { levels: usize },
}

/// A channel together with the tenant it belongs to: the only name that is unique in a cluster.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TenantChannel {
    pub tenant: Tenant,
    pub channel: Channel,
}

impl TenantChannel {
    pub fn new(tenant: Tenant, channel: Channel) -> Self {
        Self { tenant, channel }
    }
}

impl fmt::Display for TenantChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.channel)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_are_channels() {
        let longest = "x".repeat(255);
        for name in
            ["a", "room:42", "sport/football/live", "größe", "a b", "a$", "a/$b", longest.as_str()]
        {
            assert_eq!(Channel::parse(name).map(String::from).as_deref(), Ok(name));
        }
    }

    #[test]
    fn each_bad_name_says_what_is_wrong_with_it() {
        let cases = [
            ("", InvalidChannel::Empty),
            ("$sys", InvalidChannel::Reserved),
            ("a//b", InvalidChannel::EmptyLevel),
            ("/", InvalidChannel::EmptyLevel),
            ("/a", InvalidChannel::EmptyLevel),
            ("a/", InvalidChannel::EmptyLevel),
            ("*//", InvalidChannel::EmptyLevel),
            ("a*", InvalidChannel::Character { character: '*' }),
            ("a>", InvalidChannel::Character { character: '>' }),
            ("a+", InvalidChannel::Character { character: '+' }),
            ("a#", InvalidChannel::Character { character: '#' }),
            ("a\0", InvalidChannel::Character { character: '\0' }),
            ("a\u{7f}", InvalidChannel::Character { character: '\u{7f}' }),
            ("ä#", InvalidChannel::Character { character: '#' }),
            ("a\u{85}", InvalidChannel::Character { character: '\u{85}' }),
        ];
        for (name, expected) in cases {
            assert_eq!(Channel::parse(name), Err(expected), "{name:?}");
        }
        assert_eq!(Channel::parse(&"x".repeat(256)), Err(InvalidChannel::TooLong { bytes: 256 }));
        assert_eq!(
            Channel::parse(&["x"; 17].join("/")),
            Err(InvalidChannel::TooManyLevels { levels: 17 })
        );
    }

    #[test]
    fn a_channel_of_presence_is_named_after_another_and_by_no_client() {
        let base = Channel::parse("room/42").expect("valid");
        let presence = base.presence().expect("short enough");

        assert_eq!(presence.as_str(), "$presence/room/42");
        assert_eq!((presence.watched(), base.watched()), (Some(base.clone()), None));
        assert_eq!((presence.is_reserved(), base.is_reserved()), (true, false));
        assert_eq!(presence.presence(), None);
        assert_eq!(Channel::parse(presence.as_str()), Err(InvalidChannel::Reserved));
        assert_eq!(Channel::parse_reserved(presence.as_str()), Ok(presence));
        for name in ["room/42", "$presence/", "$presence/a//b", "$presence/$presence/a", "$other/a"]
        {
            assert!(Channel::parse_reserved(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_name_that_leaves_no_room_has_no_channel_of_presence() {
        let longest = Channel::parse(&"x".repeat(245)).expect("valid");
        let too_long = Channel::parse(&"x".repeat(246)).expect("valid");

        assert!(longest.presence().is_some());
        assert_eq!(too_long.presence(), None);
    }

    proptest! {
        #[test]
        fn a_name_that_is_plain_breaks_no_rule(name in "[ab/$*é\\x00~]{0,6}(/a){0,16}") {
            let is_valid = check_outline(&name).and_then(|()| check_characters(&name)).is_ok();

            prop_assert!(is_valid || !is_plain(name.as_bytes()));
            prop_assert_eq!(Channel::parse(&name).is_ok(), is_valid);
        }
    }
}
