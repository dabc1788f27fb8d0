//! What this process knows of the log's incarnations.

use std::time::Duration;

use parking_lot::Mutex;
use tidewire_model::Incarnation;
use tokio::time::Instant;

use crate::key::Keys;
use crate::partition::Partition;

/// The newest incarnations seen: no server that has an older one is believed.
///
/// One server has one incarnation for everything. In a cluster each partition has its own, because a
/// partition moves to another server alone.
pub(crate) struct Fences {
    per_partition: bool,
    fences: Mutex<Vec<Fence>>,
}

#[derive(Clone, Copy)]
struct Fence {
    seen: Incarnation,
    raised: Option<Instant>,
}

/// One of [`Fences`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct FenceId {
    index: usize,
    pub(crate) key: String,
}

impl Fences {
    pub(crate) fn new(per_partition: bool) -> Self {
        let count = if per_partition { Partition::COUNT } else { 1 };
        let unseen = Fence { seen: Incarnation::ZERO, raised: None };
        Self { per_partition, fences: Mutex::new(vec![unseen; count.into()]) }
    }

    pub(crate) fn count(&self) -> usize {
        self.fences.lock().len()
    }

    pub(crate) fn of(&self, partition: Partition, keys: &Keys) -> FenceId {
        if self.per_partition {
            FenceId { index: partition.index(), key: keys.fence(partition) }
        } else {
            FenceId { index: 0, key: keys.shared_fence() }
        }
    }

    pub(crate) fn seen(&self, fence: &FenceId) -> Incarnation {
        self.fences.lock()[fence.index].seen
    }

    /// Notes what a server answered with. Whether it may be believed: nothing newer has been seen.
    pub(crate) fn observe(&self, fence: &FenceId, incarnation: Incarnation) -> bool {
        let seen = &mut self.fences.lock()[fence.index].seen;
        *seen = incarnation.max(*seen);
        incarnation == *seen
    }

    /// Whether a server that is behind may be raised now: two that both think they are the primary
    /// must not outbid each other at the speed of the network.
    pub(crate) fn may_raise(&self, fence: &FenceId, now: Instant) -> bool {
        let raised = &mut self.fences.lock()[fence.index].raised;
        if raised.is_some_and(|last| now < last + RAISE_INTERVAL) {
            return false;
        }
        *raised = Some(now);
        true
    }
}

impl FenceId {
    /// Below [`Fences::count`].
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The key of what is written to be waited for, by the server that has the fence.
    pub(crate) fn mark(&self) -> String {
        format!("{}w", self.key)
    }
}

const RAISE_INTERVAL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_incarnation_than_one_seen_is_not_believed() {
        let fences = Fences::new(false);
        let fence = FenceId { index: 0, key: String::new() };
        let [old, new] = [1, 2].map(|ms| Incarnation::new(ms, 0));

        assert!(fences.observe(&fence, new));
        assert!(!fences.observe(&fence, old));
        assert!(fences.observe(&fence, new));
        assert_eq!(fences.seen(&fence), new);
    }

    #[test]
    fn a_fence_is_raised_once_in_two_seconds() {
        let fences = Fences::new(true);
        let fence = FenceId { index: 7, key: String::new() };
        let other = FenceId { index: 8, key: String::new() };
        let now = Instant::now();

        assert!(fences.may_raise(&fence, now));
        assert!(!fences.may_raise(&fence, now + Duration::from_millis(1_999)));
        assert!(fences.may_raise(&other, now));
        assert!(fences.may_raise(&fence, now + RAISE_INTERVAL));
    }
}
