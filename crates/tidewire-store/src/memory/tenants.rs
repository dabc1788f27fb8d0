use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tidewire_model::Tenant;

use crate::tenant_store::{CHANGES_AT_ONCE, ENTRIES_PER_TENANT};
use crate::{Changes, Expects, Seen, StoreError, TenantEntry, TenantStore, TenantWrite, Written};

/// Keeps the documents of tenants in memory.
#[derive(Debug, Default)]
pub struct MemoryTenantStore(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How often it has been emptied.
    life: u64,
    version: u64,
    entries: HashMap<Tenant, Entry>,
    by_version: BTreeMap<u64, Tenant>,
    owners: HashMap<[u8; 16], Tenant>,
}

#[derive(Debug)]
struct Entry {
    revision: u64,
    version: u64,
    nonce: [u8; 16],
    sealed: Option<Bytes>,
    marks: Vec<[u8; 16]>,
}

impl MemoryTenantStore {
    /// Forgets everything, as a store that was emptied. For tests of what comes after.
    pub fn empty(&self) {
        let mut state = self.0.lock();
        *state = State { life: state.life + 1, ..State::default() };
    }
}

impl State {
    fn seen(&self, version: u64) -> Seen {
        Seen { life: self.life.to_string(), version }
    }

    /// Why a write cannot be done, if it cannot.
    fn objection(&self, write: &TenantWrite<'_>) -> Option<Written> {
        let known = self.entries.get(write.tenant);
        let revision = known.map_or(0, |entry| entry.revision);
        let is_there = known.is_some_and(|entry| entry.sealed.is_some());
        let is_expected = match write.expects {
            Expects::Revision(expected) => revision == expected,
            Expects::Older => revision < write.revision,
        };
        if !is_expected {
            return Some(Written::Conflict { revision, is_there });
        }
        let foreign = |mark| self.owners.get(mark).filter(|owner| *owner != write.tenant);
        if let Some(owner) = write.marks.iter().find_map(foreign) {
            return Some(Written::Taken { by: owner.clone() });
        }
        let there = self.entries.values().filter(|entry| entry.sealed.is_some()).count();
        let is_new = write.sealed.is_some() && !is_there && there >= write.most;
        let is_unknown = known.is_none() && self.entries.len() >= ENTRIES_PER_TENANT * write.most;
        (is_new || is_unknown).then_some(Written::Full)
    }

    fn put(&mut self, write: &TenantWrite<'_>) {
        self.version += 1;
        let entry = Entry {
            revision: write.revision,
            version: self.version,
            nonce: write.nonce,
            sealed: write.sealed.map(Bytes::copy_from_slice),
            marks: write.marks.to_vec(),
        };
        if let Some(previous) = self.entries.insert(write.tenant.clone(), entry) {
            self.by_version.remove(&previous.version);
            for mark in previous.marks {
                self.owners.remove(&mark);
            }
        }
        self.by_version.insert(self.version, write.tenant.clone());
        self.owners.extend(write.marks.iter().map(|mark| (*mark, write.tenant.clone())));
    }
}

#[async_trait]
impl TenantStore for MemoryTenantStore {
    async fn changes(&self, since: &Seen) -> Result<Changes, StoreError> {
        let state = self.0.lock();
        let is_reset = since.life != state.life.to_string() || since.version > state.version;
        let from = if is_reset { 0 } else { since.version };
        let mut newer = state.by_version.range(from + 1..);
        let page: Vec<_> = newer.by_ref().take(CHANGES_AT_ONCE).collect();
        let version = page.last().map_or(from, |(version, _)| **version);
        let entries = page.into_iter().map(|(_, tenant)| {
            let entry = &state.entries[tenant];
            let (revision, sealed) = (entry.revision, entry.sealed.clone());
            TenantEntry { tenant: tenant.clone(), revision, sealed }
        });
        let entries = entries.collect();
        Ok(Changes { seen: state.seen(version), is_reset, entries, more: newer.next().is_some() })
    }

    async fn write(&self, write: TenantWrite<'_>) -> Result<Written, StoreError> {
        let mut state = self.0.lock();
        let is_repeated = state
            .entries
            .get(write.tenant)
            .is_some_and(|entry| entry.nonce == write.nonce && entry.revision == write.revision);
        if is_repeated {
            return Ok(Written::Done);
        }
        if let Some(objection) = state.objection(&write) {
            return Ok(objection);
        }
        state.put(&write);
        Ok(Written::Done)
    }
}
