use serde::{Deserialize, Serialize};
use tidewire_model::{Channel, ChannelGrant, DeltaFormat, Identity, MemberWord, Position};

/// What of a session outlives its connection, written to the store while the connection lives.
///
/// It holds who may resume and what they were subscribed to. How far they have read is not in it:
/// clients carry their own positions, so that writes grow with subscriptions and not with
/// publications.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Snapshot {
    pub identity: Identity,
    pub subscriptions: Vec<SavedSubscription>,
    /// Absent from the record of most sessions, and of all from before there was presence.
    #[serde(default, skip_serializing_if = "SavedPresence::is_empty")]
    pub presence: SavedPresence,
    /// What its tokens of one channel allow. Absent likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<ChannelGrant>,
}

/// What a session has to do with presence, as the store keeps it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub struct SavedPresence {
    /// Channels whose members it wants to hear of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watched: Vec<Channel>,
    /// Channels it is a member of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entered: Vec<SavedMember>,
}

/// What a session says of itself in a channel.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct SavedMember {
    pub channel: Channel,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<MemberWord>,
}

impl SavedPresence {
    pub fn is_empty(&self) -> bool {
        self.watched.is_empty() && self.entered.is_empty()
    }
}

/// A subscription as the store keeps it.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct SavedSubscription {
    pub channel: Channel,
    /// Where it began: what a client goes on from that never heard of any position.
    pub start: Option<Position>,
    /// What its client asked for; a resumed session goes on asking for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<DeltaFormat>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_from_before_there_were_deltas_is_read_and_written_as_it_was() {
        let text = r#"{"channel":"a","start":null}"#;

        let saved: SavedSubscription = serde_json::from_str(text).expect("saved");

        assert_eq!(saved.delta, None);
        assert_eq!(serde_json::to_string(&saved).expect("json"), text);
    }

    #[test]
    fn presence_is_kept_and_a_record_without_it_is_as_it_was_before() {
        let identity = r#"{"tenant":"acme","user":"ann","permissions":{},"expires_at":null}"#;
        let before = format!(r#"{{"identity":{identity},"subscriptions":[]}}"#);
        let presence = r#"{"watched":["a"],"entered":[{"channel":"b","word":{"x":1.0}}]}"#;
        let after =
            format!(r#"{{"identity":{identity},"subscriptions":[],"presence":{presence}}}"#);

        for text in [before, after] {
            let snapshot: Snapshot = serde_json::from_str(&text).expect("a snapshot");

            assert_eq!(serde_json::to_string(&snapshot).expect("json"), text);
        }
    }

    #[test]
    fn what_a_subscription_asked_for_is_kept() {
        let channel = Channel::parse("a").expect("channel");
        let saved = SavedSubscription { channel, start: None, delta: Some(DeltaFormat::Fossil) };

        let text = serde_json::to_string(&saved).expect("json");

        assert_eq!(text, r#"{"channel":"a","start":null,"delta":"fossil"}"#);
        assert_eq!(serde_json::from_str::<SavedSubscription>(&text).expect("saved"), saved);
    }
}
