//! Which hash slot a channel's keys live in.

use std::sync::LazyLock;

use tidewire_model::TenantChannel;
use xxhash_rust::xxh3::Xxh3;

/// One of 512 shares of all channels. The keys of a partition are in one slot of a cluster, and the
/// partitions are spread evenly over its slots.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Partition(u16);

impl Partition {
    pub(crate) const COUNT: u16 = 512;

    pub(crate) fn of(channel: &TenantChannel) -> Self {
        let mut hash = Xxh3::new();
        hash.update(channel.tenant.as_str().as_bytes());
        hash.update(&[0]);
        hash.update(channel.channel.as_str().as_bytes());
        let index = hash.digest() % u64::from(Self::COUNT);
        Self(u16::try_from(index).expect("below 512"))
    }

    /// The one of this index, below [`COUNT`](Self::COUNT).
    pub(crate) fn at(index: u16) -> Self {
        debug_assert!(index < Self::COUNT);
        Self(index)
    }

    pub(crate) fn index(self) -> usize {
        self.0.into()
    }

    /// Where a cluster has the partition's keys.
    pub(crate) fn slot(self) -> u16 {
        slot(self.tag().as_bytes())
    }

    /// The hash tag of the partition's keys.
    pub(crate) fn tag(self) -> &'static str {
        &TAGS[self.index()]
    }
}

/// The shortest texts whose slots lie in the middle of each partition's share of slots. They are
/// found by trying, always in the same order: other tags would be other keys.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(find_tags);

fn find_tags() -> Vec<String> {
    let mut tags = vec![String::new(); Partition::COUNT.into()];
    let mut missing = tags.len();
    let mut candidates = (0_u32..).map(|number| format!("{number:x}"));
    while missing > 0 {
        let candidate = candidates.next().expect("the numbers do not end before all are found");
        let slot = slot(candidate.as_bytes());
        let is_middle = slot % SLOTS_PER_PARTITION == SLOTS_PER_PARTITION / 2;
        let tag = &mut tags[usize::from(slot / SLOTS_PER_PARTITION)];
        if is_middle && tag.is_empty() {
            *tag = candidate;
            missing -= 1;
        }
    }
    tags
}

const SLOTS: u16 = 16_384;
const SLOTS_PER_PARTITION: u16 = SLOTS / Partition::COUNT;

fn slot(tag: &[u8]) -> u16 {
    crc16(tag) % SLOTS
}

/// CRC-16/XMODEM, as the Redis cluster specification has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tidewire_model::{Channel, Tenant};

    use super::*;

    fn channel(tenant: &str, name: &str) -> TenantChannel {
        TenantChannel::new(
            Tenant::parse(tenant).expect("valid"),
            Channel::parse(name).expect("valid"),
        )
    }

    #[test]
    fn the_checksum_is_that_of_the_cluster_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12_182);
    }

    #[test]
    fn each_partition_has_a_slot_in_the_middle_of_its_share() {
        for index in 0..Partition::COUNT {
            let tag = Partition(index).tag();

            let middle = (2 * u32::from(index) + 1) * u32::from(SLOTS) / 1_024;
            assert_eq!(u32::from(slot(tag.as_bytes())), middle, "partition {index}");
            assert!((1..=6).contains(&tag.len()), "{tag}");
        }
    }

    #[test]
    fn the_tags_stay_what_they_are() {
        let tags: Vec<_> = [0, 1, 255, 511].map(|index| Partition(index).tag()).into();

        assert_eq!(tags, ["4883", "16fb", "4183a", "430"]);
    }

    #[test]
    fn any_number_of_equal_primaries_gets_an_even_share() {
        for primaries in 1..=16_u16 {
            let mut shares = vec![0_u16; primaries.into()];
            for index in 0..Partition::COUNT {
                let slot = u32::from(slot(Partition(index).tag().as_bytes()));
                let primary = slot * u32::from(primaries) / u32::from(SLOTS);
                shares[usize::try_from(primary).expect("small")] += 1;
            }

            let (least, most) = (shares.iter().min(), shares.iter().max());
            let spread = most.expect("some") - least.expect("some");
            assert!(spread <= 1, "{primaries} primaries: {shares:?}");
        }
    }

    #[test]
    fn channels_of_one_tenant_spread_over_the_partitions() {
        let partitions: HashSet<_> =
            (0..5_000).map(|n| Partition::of(&channel("acme", &format!("room:{n}")))).collect();

        assert!(partitions.len() > 500, "{}", partitions.len());
    }

    #[test]
    fn tenant_and_channel_do_not_run_into_each_other() {
        assert_ne!(Partition::of(&channel("ab", "c")), Partition::of(&channel("a", "bc")));
    }
}
