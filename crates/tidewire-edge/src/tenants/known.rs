use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use tidewire_auth::Vault;
use tidewire_model::Tenant;
use tidewire_store::{Seen, TenantEntry};
use tokio::time::Instant;

/// What has been read of the store, and what the store has lost since.
#[derive(Default)]
pub(super) struct Known {
    pub(super) seen: Seen,
    /// When the store was last read to its end.
    pub(super) read_at: Option<Instant>,
    pub(super) unreadable: HashSet<Tenant>,
    entries: HashMap<Tenant, Kept>,
}

struct Kept {
    revision: u64,
    sealed: Option<Bytes>,
    marks: Vec<[u8; 16]>,
    /// The revision that the store has in its current life.
    stored: u64,
}

/// Something that the store has lost.
pub(super) struct Lost {
    pub(super) tenant: Tenant,
    pub(super) revision: u64,
    pub(super) sealed: Option<Bytes>,
    pub(super) marks: Vec<[u8; 16]>,
}

impl Known {
    /// Tenants with a document, and its revision.
    pub(super) fn there(&self) -> impl Iterator<Item = (&Tenant, u64)> {
        let entries = self.entries.iter();
        entries.filter(|(_, kept)| kept.sealed.is_some()).map(|(name, kept)| (name, kept.revision))
    }

    /// Those that are sealed with another key than the first of `vault`.
    pub(super) fn sealed_otherwise(&self, vault: &Vault) -> impl Iterator<Item = &Tenant> {
        let is_older =
            |kept: &Kept| kept.sealed.as_ref().is_some_and(|text| !vault.is_newest(text));
        self.entries.iter().filter(move |(_, kept)| is_older(kept)).map(|(name, _)| name)
    }

    pub(super) fn is_unreadable(&self, tenant: &Tenant) -> bool {
        self.unreadable.contains(tenant)
    }

    pub(super) fn sealed(&self, tenant: &Tenant) -> Option<(u64, Bytes)> {
        let kept = self.entries.get(tenant)?;
        Some((kept.revision, kept.sealed.clone()?))
    }

    /// The newest revision of a tenant, of a removal too; 0 if there never was one.
    pub(super) fn revision(&self, tenant: &Tenant) -> u64 {
        self.entries.get(tenant).map_or(0, |kept| kept.revision)
    }

    /// Takes note that the store begins anew, and may have lost anything.
    pub(super) fn reset(&mut self) {
        self.entries.values_mut().for_each(|kept| kept.stored = 0);
    }

    /// Takes an entry of the store. Whether it is to take effect: one that is older than what is known
    /// is not.
    pub(super) fn take(&mut self, entry: &TenantEntry) -> bool {
        let known = self.entries.get_mut(&entry.tenant);
        if let Some(known) = known {
            known.stored = entry.revision;
            let is_same = known.revision == entry.revision && known.sealed == entry.sealed;
            if is_same || known.revision > entry.revision {
                return false;
            }
        }
        let kept = Kept {
            revision: entry.revision,
            sealed: entry.sealed.clone(),
            marks: Vec::new(),
            stored: entry.revision,
        };
        self.entries.insert(entry.tenant.clone(), kept);
        true
    }

    /// Remembers what stands for a tenant's keys, to bring it back with them.
    pub(super) fn mark(&mut self, tenant: &Tenant, marks: Vec<[u8; 16]>) {
        if let Some(kept) = self.entries.get_mut(tenant) {
            kept.marks = marks;
        }
    }

    /// Up to `most` of what the store had once and has not any more.
    pub(super) fn lost(&self, most: usize) -> Vec<Lost> {
        let lost = self.entries.iter().filter(|(_, kept)| kept.stored < kept.revision);
        let lost = lost.take(most).map(|(tenant, kept)| Lost {
            tenant: tenant.clone(),
            revision: kept.revision,
            sealed: kept.sealed.clone(),
            marks: kept.marks.clone(),
        });
        lost.collect()
    }

    /// The store has this revision again, or a newer one.
    pub(super) fn restored(&mut self, tenant: &Tenant, revision: u64) {
        if let Some(kept) = self.entries.get_mut(tenant) {
            kept.stored = kept.stored.max(revision);
        }
    }
}
