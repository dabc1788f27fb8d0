use std::time::Duration;

use async_trait::async_trait;
use tidewire_model::{Generation, NodeId, SessionId, SessionNonce, Tenant};
use tidewire_session::Snapshot;

use crate::StoreError;

/// Keeps sessions while their clients are connected, and for a while after.
///
/// A session has one owner at a time. Each change of owner raises its generation, and every write
/// names the generation it was made under: one that has been overtaken is refused by the store, so
/// that a node which was cut off or asleep cannot harm a session that has moved on.
///
/// Every method may be called from any task.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// Writes a session, new or known, keeps it for `ttl` from now, and confirms the claim that led
    /// to its generation: that can not be repeated from now on.
    ///
    /// A session that is not there is made: it is new, or the store has lost it and its owner
    /// brings it back. A higher generation than the store knows wins for the same reason.
    async fn save(&self, write: SessionWrite<'_>, ttl: Duration) -> Result<Saved, StoreError>;

    /// Takes a session over, in one round trip. The session is then kept for `ttl` unless written
    /// again.
    ///
    /// Cancelling leaves open whether it happened; asking again with the same nonce gives the same
    /// answer as long as the session has not been saved under the new generation.
    async fn claim(&self, request: &ClaimRequest, ttl: Duration) -> Result<Claim, StoreError>;

    /// Whether the store can be reached now, and if not, what is wrong.
    async fn health(&self) -> Result<(), StoreError>;
}

/// The name of a session in a cluster.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct SessionKey {
    pub tenant: Tenant,
    pub session: SessionId,
}

/// A session as its owner wants it kept.
#[derive(Clone, Copy, Debug)]
pub struct SessionWrite<'a> {
    pub key: &'a SessionKey,
    /// 1 for a new session.
    pub generation: Generation,
    pub owner: &'a NodeId,
    pub snapshot: &'a Snapshot,
}

/// A wish to own a session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimRequest {
    pub key: SessionKey,
    /// The generation the client's token names.
    pub generation: Generation,
    pub owner: NodeId,
    /// Drawn by the client once per series of attempts.
    pub nonce: SessionNonce,
}

/// The answer to a wish to own a session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Claim {
    /// The session is the claimant's now, under `generation`.
    Granted {
        generation: Generation,
        snapshot: Snapshot,
        /// Who owned it before.
        previous: NodeId,
    },
    /// There is no such session: it ended, or its window has passed.
    Missing,
    /// Somebody else has claimed it since the token was given out.
    Fenced,
}

/// Whether a write was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Saved {
    Done,
    /// The session has a newer generation or another owner: this one must let go of it.
    Fenced,
}
