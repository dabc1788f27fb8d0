use serde::{Deserialize, Serialize};
use tidewire_model::{Channel, Identity, Position};

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
}
