//! Who is in a channel, as its members told it themselves.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::{Epoch, Incarnation, InvalidId, InvalidPayload, Payload, Position, SessionId, UserId};

/// How presence in a channel is kept: nothing of it is, in a channel whose rule says nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PresenceRule {
    pub mode: PresenceMode,
    /// How long who is lost stays a member, so that coming back in time is no leave. Zero to a minute.
    pub debounce: Duration,
    /// While there are more members than this, those who watch are told how many there are instead of who
    /// comes and goes. 1 to 100,000.
    pub listed: u32,
}

/// Who it is that is present.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PresenceMode {
    /// Those who have entered, and they say so themselves.
    Members,
    /// Whoever is subscribed, of whom nothing is known but how many they are.
    Count,
}

impl Default for PresenceRule {
    fn default() -> Self {
        let (mode, debounce) = (PresenceMode::Members, Duration::from_secs(5));
        Self { mode, debounce, listed: 1_000 }
    }
}

/// What others call a session that has entered a channel: the same over every resume, and of no use
/// to resume it. 16 hexadecimal digits when written.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct MemberId([u8; 8]);

impl MemberId {
    pub fn of(session: &SessionId) -> Self {
        let digest = Sha256::digest(session.as_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest[..8]);
        Self(bytes)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MemberId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidId);
        }
        u64::from_str_radix(text, 16).map(|id| Self(id.to_be_bytes())).map_err(|_| InvalidId)
    }
}

impl TryFrom<String> for MemberId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<MemberId> for String {
    fn from(id: MemberId) -> Self {
        id.to_string()
    }
}

/// One who has entered a channel.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Member {
    #[serde(rename = "member")]
    pub id: MemberId,
    pub user: UserId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<MemberWord>,
}

/// What a member says of itself: one JSON value, at most [`MemberWord::MAX_BYTES`].
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "Box<RawValue>", into = "Box<RawValue>")]
pub struct MemberWord(Bytes);

impl MemberWord {
    /// The longest, in bytes.
    pub const MAX_BYTES: usize = 1_024;

    /// Checks that `text` is one JSON value; how long it is, is for whoever takes it from a client.
    pub fn parse(text: Bytes) -> Result<Self, InvalidPayload> {
        Payload::json(text).map(|payload| Self(payload.bytes().clone()))
    }

    /// What a payload holds, if that is JSON.
    pub fn of(payload: &Payload) -> Option<Self> {
        payload.is_json().then(|| Self(payload.bytes().clone()))
    }

    /// The JSON, as its member wrote it.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    pub fn payload(&self) -> Payload {
        Payload::checked_json(self.0.clone())
    }
}

impl TryFrom<Box<RawValue>> for MemberWord {
    type Error = InvalidPayload;

    fn try_from(text: Box<RawValue>) -> Result<Self, InvalidPayload> {
        Payload::json_value(text.get().to_owned().into())
            .map(|payload| Self(payload.bytes().clone()))
    }
}

impl From<MemberWord> for Box<RawValue> {
    fn from(word: MemberWord) -> Self {
        let text = String::from_utf8(word.0.into()).expect("checked JSON is UTF-8");
        RawValue::from_string(text).expect("checked JSON")
    }
}

/// One who has left a channel.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct FormerMember {
    #[serde(rename = "member")]
    pub id: MemberId,
    pub user: UserId,
}

/// How many are in a channel, as of a change of its membership.
///
/// Each change takes the next offset, so that who has heard of one knows whether another is missing. The
/// epoch is another one after each failover of the store. A channel that nobody has entered begins at offset 0
/// of an epoch that says nothing but the store's life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Occupancy {
    pub count: u64,
    pub position: Position,
}

impl Occupancy {
    /// As of change `offset` in a life of the store.
    pub fn new(count: u64, incarnation: Incarnation, offset: u64) -> Self {
        Self { count, position: Position::new(incarnation.epoch(0), offset) }
    }
}

/// What has changed in who is in a channel: what nodes tell each other, and each client that watches.
///
/// Written as JSON it is what a client of the native protocol is sent.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub struct PresenceChange {
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub position: Option<ChangePosition>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<Member>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub updated: Vec<Member>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<FormerMember>,
    /// After all of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Changes may be missing: the list is to be loaded again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
}

/// Where the last of some changes stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct ChangePosition {
    pub epoch: Epoch,
    pub offset: u64,
}

impl PresenceChange {
    /// Says that changes may be missing.
    pub fn loss() -> Self {
        Self { lost: true, ..Self::default() }
    }

    /// Nothing yet, as of `occupancy`.
    pub fn at(occupancy: Occupancy) -> Self {
        let Position { epoch, offset } = occupancy.position;
        Self {
            position: Some(ChangePosition { epoch, offset }),
            count: Some(occupancy.count),
            ..Self::default()
        }
    }

    /// How many there are and as of which change, without what the changes are.
    #[must_use]
    pub fn without_names(self) -> Self {
        Self { position: self.position, count: self.count, ..Self::default() }
    }

    /// How many changes it holds: the first stands at its offset less so many, and one.
    pub fn len(&self) -> usize {
        self.joined.len() + self.updated.len() + self.left.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As a payload.
    pub fn to_payload(&self) -> Payload {
        let text = serde_json::to_vec(self).expect("it is made of plain members");
        Payload::checked_json(text.into())
    }

    /// What a node has written as a payload.
    pub fn of(payload: &Payload) -> Option<Self> {
        serde_json::from_slice(payload.bytes()).ok()
    }
}

/// Some of the members of a channel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemberPage {
    pub members: Vec<Member>,
    pub occupancy: Occupancy,
    /// From where the next page goes on; the last has none.
    pub next: Option<PageMark>,
}

/// Where a page of members ends. Of use only in the life of the store that gave it out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PageMark {
    pub incarnation: Incarnation,
    pub place: u64,
}

impl fmt::Display for PageMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.incarnation, self.place)
    }
}

impl FromStr for PageMark {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (incarnation, place) = text.split_once(':').ok_or(InvalidId)?;
        let is_plain = !place.is_empty() && place.bytes().all(|byte| byte.is_ascii_digit());
        let place = place.parse().ok().filter(|_| is_plain).ok_or(InvalidId)?;
        Ok(Self { incarnation: Incarnation::parse(incarnation).map_err(|_| InvalidId)?, place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(byte: u8) -> SessionId {
        SessionId::from_bytes([byte; 16])
    }

    fn member(byte: u8, data: Option<&'static str>) -> Member {
        let data = data.map(|text| MemberWord::parse(text.into()).expect("JSON"));
        Member {
            id: MemberId::of(&session(byte)),
            user: UserId::parse("ann").expect("valid"),
            data,
        }
    }

    #[test]
    fn a_members_name_is_part_of_a_digest_of_its_session() {
        let id = MemberId::of(&session(7));

        // printf '\7%.0s' {1..16} | sha256sum
        assert_eq!(id.to_string(), "d761d406af2a4a5a");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_ne!(id, MemberId::of(&session(8)));
        for text in ["", "7", "+000000000000001", "00000000000000001", "000000000000000g"] {
            assert_eq!(text.parse::<MemberId>(), Err(InvalidId), "{text:?}");
        }
    }

    #[test]
    fn a_change_is_written_with_what_it_has_and_read_back() {
        let occupancy = Occupancy::new(2, Incarnation::parse("mfabc1200001").expect("valid"), 10);
        let left = FormerMember { id: member(3, None).id, user: member(3, None).user };
        let change = PresenceChange {
            joined: vec![member(1, Some("{\"a\": 1.50}"))],
            updated: vec![member(2, None)],
            left: vec![left],
            ..PresenceChange::at(occupancy)
        };

        let payload = change.to_payload();
        let text = std::str::from_utf8(payload.bytes()).expect("UTF-8");

        assert!(text.starts_with("{\"epoch\":\"mfabc12000010000\",\"offset\":10,\"joined\":[{"));
        assert!(text.contains("\"data\":{\"a\": 1.50}}"), "{text}");
        assert!(text.ends_with("\"user\":\"ann\"}],\"count\":2}"), "{text}");
        assert_eq!(PresenceChange::of(&payload), Some(change.clone()));
        assert_eq!(change.len(), 3);
    }

    #[test]
    fn a_loss_says_nothing_else() {
        let payload = PresenceChange::loss().to_payload();

        assert_eq!(payload.bytes(), &"{\"lost\":true}");
        assert_eq!(PresenceChange::of(&payload), Some(PresenceChange::loss()));
    }

    #[test]
    fn marks_are_read_as_they_are_written_and_nothing_else_is() {
        let mark: PageMark = "mfabc1200001:17".parse().expect("a mark");

        assert_eq!(mark.to_string(), "mfabc1200001:17");
        for text in ["", ":", "mfabc1200001", "mfabc1200001:", "mfabc1200001:+1", "x:1"] {
            assert_eq!(text.parse::<PageMark>(), Err(InvalidId), "{text:?}");
        }
    }
}
