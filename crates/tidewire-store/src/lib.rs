//! The ports that keep what outlives a connection or a node, in-memory implementations, and the
//! suites that every implementation passes.
//!
//! [`SessionStore`] keeps sessions, so that a client resumes on any node. [`Membership`] keeps the
//! leases of live nodes, so that anyone can compute where a tenant belongs.

pub mod conformance;
mod membership;
mod memory;
mod session_store;

pub use membership::{Membership, NodeLease, NodeLoad, NodeState};
pub use memory::{MemoryMembership, MemorySessionStore, SavedSession};
pub use session_store::{Claim, ClaimRequest, Saved, SessionKey, SessionStore, SessionWrite};

/// Why a store could not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("store at {address} is unavailable: {reason}")]
    Unavailable { address: String, reason: String },
    #[error("store entry cannot be read: {reason}")]
    Corrupt { reason: String },
}
