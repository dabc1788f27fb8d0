use std::collections::HashMap;

use tidewire_broker::Partition;
use tokio::time::Instant;

/// How many channels of each partition a shard follows: the broker is told of the first and of the
/// last. All channels of a partition belong to one shard, so nothing here is shared.
#[derive(Debug, Default)]
pub(crate) struct Interest(HashMap<Partition, Share>);

#[derive(Debug, Default)]
struct Share {
    channels: usize,
    /// When the broker answered.
    settled_at: Option<Instant>,
}

impl Interest {
    /// Counts a channel; says whether it is the first of its partition.
    pub(crate) fn add(&mut self, partition: &Partition) -> bool {
        let share = self.0.entry(partition.clone()).or_default();
        share.channels += 1;
        share.channels == 1
    }

    /// Discounts a channel; says whether it was the last of its partition.
    pub(crate) fn remove(&mut self, partition: &Partition) -> bool {
        let Some(share) = self.0.get_mut(partition) else { return false };
        share.channels -= 1;
        let was_last = share.channels == 0;
        if was_last {
            self.0.remove(partition);
        }
        was_last
    }

    pub(crate) fn settle(&mut self, partition: &Partition, now: Instant) {
        if let Some(share) = self.0.get_mut(partition) {
            share.settled_at = Some(now);
        }
    }

    /// When the broker knew of a partition, if it does.
    pub(crate) fn settled_at(&self, partition: &Partition) -> Option<Instant> {
        self.0.get(partition)?.settled_at
    }
}
