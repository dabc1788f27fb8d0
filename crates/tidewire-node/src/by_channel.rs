//! Maps by channel that are looked into for every publication.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use tidewire_model::TenantChannel;
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(crate) type ByChannel<V> = HashMap<TenantChannel, V, Seeded>;

/// XXH3 from a seed of its own for each map: channel names are chosen by clients, who must not know
/// which of them collide. A quarter of what the standard library's hasher takes for a name.
#[derive(Clone, Debug)]
pub(crate) struct Seeded(u64);

impl Default for Seeded {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Seeded {
    type Hasher = Chained;

    fn build_hasher(&self) -> Chained {
        Chained(self.0)
    }
}

/// The hash of what has been written, which is the seed for what comes next.
#[derive(Debug)]
pub(crate) struct Chained(u64);

impl Hasher for Chained {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// Takes the mark behind a text, which tells nothing that the chain does not.
    fn write_u8(&mut self, byte: u8) {
        self.0 = self.0.wrapping_add(byte.into());
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tidewire_model::{Channel, Tenant};

    use super::*;

    #[test]
    fn where_the_tenant_ends_and_the_channel_begins_makes_a_difference() {
        let seeded = Seeded::default();
        let names = [("ab", "c"), ("a", "bc"), ("a", "b"), ("b", "a"), ("a", "a")];

        let hashes = names.map(|(tenant, channel)| {
            let tenant = Tenant::parse(tenant).expect("tenant");
            seeded.hash_one(TenantChannel::new(tenant, Channel::parse(channel).expect("channel")))
        });

        assert_eq!(HashSet::from(hashes).len(), names.len());
    }

    #[test]
    fn two_maps_do_not_share_a_seed() {
        assert_ne!(Seeded::default().hash_one("a"), Seeded::default().hash_one("a"));
    }
}
