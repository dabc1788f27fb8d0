//! The ports that keep what outlives a connection or a node, in-memory implementations, and the
//! suites that every implementation passes.
//!
//! [`SessionStore`] keeps sessions, so that a client resumes on any node. [`Membership`] keeps the
//! leases of live nodes, so that anyone can compute where a tenant belongs. [`TenantStore`] keeps the
//! documents of tenants that come while nodes run, [`RevocationStore`] what has been revoked, and
//! [`TicketStore`] what one-time tickets stand for.
//! [`Presence`] keeps who is in which channel, [`QuotaStore`] which node has which part of a quota.

pub mod conformance;
mod membership;
mod memory;
mod presence;
mod quota_store;
mod revocation_store;
mod session_store;
mod tenant_store;
mod ticket_store;

pub use membership::{Membership, NodeLease, NodeLoad, NodeState};
pub use memory::{
    MemoryMembership, MemoryPresence, MemoryQuotaStore, MemoryRevocationStore, MemorySessionStore,
    MemoryTenantStore, MemoryTicketStore, SavedSession,
};
pub use presence::{
    Age, Applied, Departed, Entry, EntryPage, Expired, Fate, LONGEST_AWAY, Life, MOST_MOVES, Move,
    Orphaned, Presence, Standing, Tally, Telling, Terms,
};
pub use quota_store::{Grant, QuotaClaim, QuotaStore};
pub use revocation_store::{
    Added, FEW_REVOCATIONS_OF_TENANT, MOST_ADDED, MOST_REVOCATIONS, MOST_REVOCATIONS_OF_TENANT,
    Revocation, RevocationStore, Revoked, SCARCE_REVOCATIONS, has_room_for_revocations,
};
pub use session_store::{Claim, ClaimRequest, Saved, SessionKey, SessionStore, SessionWrite};
pub use tenant_store::{Changes, Expects, Seen, TenantEntry, TenantStore, TenantWrite, Written};
pub use ticket_store::{TicketName, TicketStore};

/// Why a store could not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("store at {address} is unavailable: {reason}")]
    Unavailable { address: String, reason: String },
    #[error("store entry cannot be read: {reason}")]
    Corrupt { reason: String },
}
