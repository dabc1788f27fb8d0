use async_trait::async_trait;
use bytes::Bytes;
use tidewire_model::Tenant;

use crate::StoreError;

/// Keeps the documents of tenants, sealed, for all nodes.
///
/// Every change has a version, and every tenant its revisions; both only grow. What is not there says
/// nothing: a removal is an entry of its own. Nothing here can read a document.
#[async_trait]
pub trait TenantStore: Send + Sync {
    /// The next changes after `since`, oldest first; of a tenant that has changed again only the
    /// newest. Cancel-safe.
    async fn changes(&self, since: &Seen) -> Result<Changes, StoreError>;

    /// Writes a revision of one tenant, if the one there is as expected. Repeating a write with its
    /// nonce is as if it had been done once.
    async fn write(&self, write: TenantWrite<'_>) -> Result<Written, StoreError>;
}

/// How far a reader has come: at first nowhere, which is the default.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// Within which versions can be compared. It changes when the store may have lost some.
    pub life: String,
    pub version: u64,
}

/// A page of changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Changes {
    /// From where to go on.
    pub seen: Seen,
    /// These are from the beginning, because `since` is of another life.
    pub is_reset: bool,
    pub entries: Vec<TenantEntry>,
    /// There are more after these.
    pub more: bool,
}

/// A tenant as the store has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TenantEntry {
    pub tenant: Tenant,
    pub revision: u64,
    /// The sealed document; nothing if the tenant was removed.
    pub sealed: Option<Bytes>,
}

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub struct TenantWrite<'a> {
    pub tenant: &'a Tenant,
    pub expects: Expects,
    /// Of what is written; above the one there.
    pub revision: u64,
    /// Nothing removes the tenant.
    pub sealed: Option<&'a [u8]>,
    /// Stand for what no two tenants may both have, under every key that marks.
    pub marks: &'a [[u8; 16]],
    /// Drawn for this write, and the same when it is repeated.
    pub nonce: [u8; 16],
    /// How many tenants there may be.
    pub most: usize,
}

/// What has to be there for a write to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expects {
    /// This revision, whether of a document or of a removal; 0 if there never was one.
    Revision(u64),
    /// An older one than is written, or none: for bringing back what a store has lost.
    Older,
}

/// What has come of a write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Written {
    Done,
    /// Another revision is there.
    Conflict {
        revision: u64,
        /// Whether it is of a document and not of a removal.
        is_there: bool,
    },
    /// Another tenant has one of the marks.
    Taken {
        by: Tenant,
    },
    /// There are as many tenants as there may be.
    Full,
}

/// Removals are remembered too: this many times as many entries as tenants may be kept.
pub(crate) const ENTRIES_PER_TENANT: usize = 4;
/// Entries in a page, at most.
pub(crate) const CHANGES_AT_ONCE: usize = 256;
