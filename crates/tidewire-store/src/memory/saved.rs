use std::time::Duration;

use parking_lot::Mutex;
use tidewire_model::{Generation, NodeId, SessionNonce};
use tidewire_session::Snapshot;

use super::expiring::Expiring;
use super::{MemorySessionStore, Record, UnconfirmedClaim};
use crate::SessionKey;

/// A session that a [`MemorySessionStore`] keeps, as a value: for a file, from which another process
/// goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedSession {
    pub key: SessionKey,
    pub generation: Generation,
    pub owner: NodeId,
    pub snapshot: Snapshot,
    /// The claim that led to `generation` and the owner before it, until a write under it shows that
    /// its reply arrived.
    pub unconfirmed: Option<(SessionNonce, NodeId)>,
    /// How long it would still have been kept.
    pub left: Duration,
}

impl MemorySessionStore {
    /// All sessions that have not run out, in any order.
    pub fn saved(&self) -> Vec<SavedSession> {
        let sessions = self.sessions.lock();
        let saved = sessions.live().map(|(key, record, left)| SavedSession {
            key: key.clone(),
            generation: record.generation,
            owner: record.owner.clone(),
            snapshot: record.snapshot.clone(),
            unconfirmed: record
                .unconfirmed
                .as_ref()
                .map(|claim| (claim.nonce, claim.previous.clone())),
            left,
        });
        saved.collect()
    }

    /// A store that goes on from what another one kept, `away` later. What has run out meanwhile is
    /// gone.
    pub fn restored(saved: Vec<SavedSession>, away: Duration) -> Self {
        let mut sessions = Expiring::default();
        for session in saved {
            let Some(left) = session.left.checked_sub(away).filter(|left| !left.is_zero()) else {
                continue;
            };
            let claim = session.unconfirmed;
            let record = Record {
                generation: session.generation,
                owner: session.owner,
                snapshot: session.snapshot,
                unconfirmed: claim.map(|(nonce, previous)| UnconfirmedClaim { nonce, previous }),
            };
            sessions.insert(session.key, record, left.min(LONGEST));
        }
        Self { sessions: Mutex::new(sessions) }
    }
}

/// Longer than any session is kept.
const LONGEST: Duration = Duration::from_hours(24);
