use serde::{Deserialize, Serialize};
use tidewire_model::{Channel, DeltaFormat, Identity, Position};

/// What of a session outlives its connection, written to the store while the connection lives.
///
/// It holds who may resume and what they were subscribed to. How far they have read is not in it:
/// clients carry their own positions, so that writes grow with subscriptions and not with
/// publications.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Snapshot {
    pub identity: Identity,
    pub subscriptions: Vec<SavedSubscription>,
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
    fn what_a_subscription_asked_for_is_kept() {
        let channel = Channel::parse("a").expect("channel");
        let saved = SavedSubscription { channel, start: None, delta: Some(DeltaFormat::Fossil) };

        let text = serde_json::to_string(&saved).expect("json");

        assert_eq!(text, r#"{"channel":"a","start":null,"delta":"fossil"}"#);
        assert_eq!(serde_json::from_str::<SavedSubscription>(&text).expect("saved"), saved);
    }
}
