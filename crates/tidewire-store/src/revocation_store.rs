use async_trait::async_trait;
use tidewire_model::Tenant;

use crate::{Seen, StoreError};

/// Keeps what has been revoked, for every node to read, and forgets it when it says.
///
/// A revocation is never taken back, and its times only grow: so that who has read one may add it
/// again, and whatever order nodes read and write in comes to the same. Every method may be called from any
/// task. Cancelling an `add` leaves open whether it happened; adding again does no harm.
#[async_trait]
pub trait RevocationStore: Send + Sync {
    /// Adds revocations, at most [`MOST_ADDED`]: all of them or none. Where there is one about the same,
    /// the later of each of its times stands.
    async fn add(&self, revocations: &[Revocation]) -> Result<Added, StoreError>;

    /// What was added or grew after `since`, oldest first, a page at a time. Cancel-safe.
    async fn changes(&self, since: &Seen) -> Result<Revoked, StoreError>;
}

/// The most revocations of one [`RevocationStore::add`].
pub const MOST_ADDED: usize = 1_000;
/// The most revocations that are kept for one tenant, and in all.
pub const MOST_REVOCATIONS_OF_TENANT: usize = 10_000;
pub const MOST_REVOCATIONS: usize = 100_000;
/// The most that are kept for one tenant where there are [`SCARCE_REVOCATIONS`] or more in all: so that
/// those which revoke without end leave others something.
pub const FEW_REVOCATIONS_OF_TENANT: usize = 250;
/// From so many in all on, only those tenants may add more that have few.
pub const SCARCE_REVOCATIONS: usize = 75_000;

/// Whether a tenant may have so many of so many in all.
pub fn has_room_for_revocations(of_tenant: usize, all: usize) -> bool {
    let most = if all > SCARCE_REVOCATIONS {
        FEW_REVOCATIONS_OF_TENANT
    } else {
        MOST_REVOCATIONS_OF_TENANT
    };
    of_tenant <= most && all <= MOST_REVOCATIONS
}

/// What was issued until then is void.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revocation {
    pub tenant: Tenant,
    /// What it is about, in words of whoever wrote it; not looked into here. At most 200 bytes.
    pub about: String,
    /// Seconds since the Unix epoch: what was issued then or before is void.
    pub before: u64,
    /// Seconds since the Unix epoch: from then on nothing that it is about is good any more for
    /// other reasons, and it is forgotten.
    pub until: u64,
}

/// What has come of adding revocations.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Added {
    Done,
    /// One of the tenants, or all together, would have more than are kept
    /// ([`has_room_for_revocations`]). Nothing was added:
    /// revoke something wider instead, such as a user or the tenant.
    Full,
}

/// A page of changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revoked {
    /// From where to go on.
    pub seen: Seen,
    /// These are from the beginning, because `since` is of another life. Who knows revocations that
    /// are not among the pages from here on is to add them again.
    pub is_reset: bool,
    pub revocations: Vec<Revocation>,
    /// There are more after these.
    pub more: bool,
}
