use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use parking_lot::Mutex;
use tidewire_model::Tenant;

use crate::{
    Added, Revocation, RevocationStore, Revoked, Seen, StoreError, has_room_for_revocations,
};

/// Keeps revocations in memory, for one node; each has a numbering of its own. What has run out is gone at
/// the next call.
#[derive(Default)]
pub struct MemoryRevocationStore {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    life: u64,
    newest: u64,
    by_number: BTreeMap<u64, Revocation>,
    numbers: HashMap<(Tenant, String), u64>,
}

/// Revocations of one page.
const PAGE: usize = 1_000;

impl MemoryRevocationStore {
    /// Forgets everything, as a store that was emptied. For tests of what comes after.
    pub fn empty(&self) {
        let mut known = self.known.lock();
        *known = Known { life: known.life + 1, ..Known::default() };
    }
}

impl Known {
    fn forget_expired(&mut self, now: u64) {
        let numbers = &mut self.numbers;
        self.by_number.retain(|_, revocation| {
            let is_live = revocation.until > now;
            if !is_live {
                numbers.remove(&name(revocation));
            }
            is_live
        });
    }

    fn has_room(&self, revocations: &[Revocation]) -> bool {
        let mut new: Vec<_> = revocations.iter().map(name).collect();
        new.retain(|name| !self.numbers.contains_key(name));
        new.sort();
        new.dedup();
        let of = |tenant: &Tenant| {
            let known = self.numbers.keys().filter(|(known, _)| known == tenant);
            known.count() + new.iter().filter(|(known, _)| known == tenant).count()
        };
        let tenants: HashSet<_> = new.iter().map(|(tenant, _)| tenant).collect();
        let all = self.numbers.len() + new.len();
        tenants.into_iter().all(|tenant| has_room_for_revocations(of(tenant), all))
    }

    fn add(&mut self, revocation: &Revocation) {
        let known = self.numbers.get(&name(revocation)).copied();
        let old = known.and_then(|number| self.by_number.get(&number));
        let mut revocation = revocation.clone();
        if let Some(old) = old {
            revocation.before = revocation.before.max(old.before);
            revocation.until = revocation.until.max(old.until);
            if revocation == *old {
                return;
            }
        }
        self.newest += 1;
        self.numbers.insert(name(&revocation), self.newest);
        self.by_number.insert(self.newest, revocation);
        if let Some(number) = known {
            self.by_number.remove(&number);
        }
    }
}

#[async_trait]
impl RevocationStore for MemoryRevocationStore {
    async fn add(&self, revocations: &[Revocation]) -> Result<Added, StoreError> {
        let mut known = self.known.lock();
        known.forget_expired(unix_seconds());
        if !known.has_room(revocations) {
            return Ok(Added::Full);
        }
        for revocation in revocations {
            known.add(revocation);
        }
        Ok(Added::Done)
    }

    async fn changes(&self, since: &Seen) -> Result<Revoked, StoreError> {
        let mut known = self.known.lock();
        let life = format!("memory {:p} {}", &raw const self.known, known.life);
        known.forget_expired(unix_seconds());
        let is_reset = since.life != life;
        let from = if is_reset { 0 } else { since.version };
        let page: Vec<_> = known.by_number.range(from + 1..).take(PAGE).collect();
        let number = page.last().map_or(from, |(number, _)| **number);
        Ok(Revoked {
            revocations: page.iter().map(|(_, revocation)| (*revocation).clone()).collect(),
            seen: Seen { life, version: number },
            more: known.by_number.range(number + 1..).next().is_some(),
            is_reset,
        })
    }
}

fn name(revocation: &Revocation) -> (Tenant, String) {
    (revocation.tenant.clone(), revocation.about.clone())
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
