use std::collections::{HashSet, VecDeque};

use tidewire_model::PublicationId;

/// The ids of a channel's newest publications. After a failover a channel is rewound and some of them
/// come again under other offsets; only their ids tell.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    order: VecDeque<PublicationId>,
    ids: HashSet<PublicationId>,
}

impl Seen {
    const MOST: usize = 1_024;

    /// Says whether `id` is new, and remembers it; forgets the oldest beyond a bound.
    pub(crate) fn insert(&mut self, id: &PublicationId) -> bool {
        if !self.ids.insert(id.clone()) {
            return false;
        }
        self.order.push_back(id.clone());
        if self.order.len() > Self::MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}
