use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::Tenant;

/// Something of each tenant, where one tenant's may be replaced while others read a copy.
///
/// A copy costs a pointer for each of 256 parts, and a change the part it is in: with
/// thousands of tenants a change touches dozens.
#[derive(Clone)]
pub struct ByTenant<V> {
    shards: Vec<Arc<HashMap<Tenant, V>>>,
    count: usize,
}

/// Parts that are shared or copied as a whole.
const SHARDS: usize = 256;

impl<V: Clone> ByTenant<V> {
    pub fn get(&self, tenant: &Tenant) -> Option<&V> {
        self.shards[shard(tenant)].get(tenant)
    }

    /// Yields what was there before.
    pub fn set(&mut self, tenant: Tenant, value: V) -> Option<V> {
        let previous = Arc::make_mut(&mut self.shards[shard(&tenant)]).insert(tenant, value);
        self.count += usize::from(previous.is_none());
        previous
    }

    /// Yields what was there.
    pub fn remove(&mut self, tenant: &Tenant) -> Option<V> {
        self.get(tenant)?;
        self.count -= 1;
        Arc::make_mut(&mut self.shards[shard(tenant)]).remove(tenant)
    }
}

impl<V> ByTenant<V> {
    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Tenant, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// How many tenants have one.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// FNV-1a, folded to a byte. It only spreads: names that fall together cost time, and no more.
fn shard(tenant: &Tenant) -> usize {
    let hash = tenant
        .as_str()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash ^ (hash >> 8) ^ (hash >> 16)) as usize % SHARDS
}

impl<V> Default for ByTenant<V> {
    fn default() -> Self {
        Self { shards: vec![Arc::default(); SHARDS], count: 0 }
    }
}

impl<V: fmt::Debug> fmt::Debug for ByTenant<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<V: Clone> FromIterator<(Tenant, V)> for ByTenant<V> {
    fn from_iter<I: IntoIterator<Item = (Tenant, V)>>(values: I) -> Self {
        let mut all = Self::default();
        for (tenant, value) in values {
            all.set(tenant, value);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: usize) -> Tenant {
        Tenant::parse(&format!("tenant-{number}")).expect("tenant")
    }

    #[test]
    fn what_is_set_is_there_until_it_is_removed() {
        let mut all = ByTenant::default();

        assert_eq!(all.set(tenant(1), "a"), None);
        assert_eq!(all.set(tenant(1), "b"), Some("a"));
        assert_eq!((all.get(&tenant(1)), all.len()), (Some(&"b"), 1));
        assert_eq!((all.remove(&tenant(1)), all.remove(&tenant(1))), (Some("b"), None));
        assert!(all.is_empty());
    }

    #[test]
    fn a_change_leaves_copies_and_other_parts_as_they_are() {
        let mut all: ByTenant<usize> = (0..1_000).map(|number| (tenant(number), number)).collect();
        let before = all.clone();

        all.set(tenant(7), 0);

        assert_eq!(before.get(&tenant(7)), Some(&7));
        let shared = all.shards.iter().zip(&before.shards);
        assert_eq!(shared.filter(|(one, other)| Arc::ptr_eq(one, other)).count(), SHARDS - 1);
    }

    #[test]
    fn names_are_spread() {
        let all: ByTenant<()> = (0..10_000).map(|number| (tenant(number), ())).collect();

        let fullest = all.shards.iter().map(|shard| shard.len()).max();

        assert!(fullest < Some(100), "{fullest:?} of 39 on average");
    }
}
