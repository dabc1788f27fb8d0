use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tidewire_model::{Position, TenantChannel};
use tokio::time::Instant;

use crate::DedupeKey;

/// The publications with an id of the last two minutes.
#[derive(Default)]
pub(super) struct RecentIds {
    positions: HashMap<RecentKey, Position>,
    /// The keys of `positions`, oldest first.
    expiries: VecDeque<(Instant, RecentKey)>,
}

/// A [`DedupeKey`] is unique in a tenant only.
type RecentKey = (TenantChannel, DedupeKey);

impl RecentIds {
    pub(super) fn find(
        &mut self,
        channel: &TenantChannel,
        key: DedupeKey,
        now: Instant,
    ) -> Option<Position> {
        self.expire(now);
        self.positions.get(&(channel.clone(), key)).copied()
    }

    pub(super) fn insert(
        &mut self,
        channel: &TenantChannel,
        key: DedupeKey,
        position: Position,
        now: Instant,
    ) {
        if self.expiries.len() == MAX_IDS {
            self.forget_oldest();
        }
        let key = (channel.clone(), key);
        self.positions.insert(key.clone(), position);
        self.expiries.push_back((now + WINDOW, key));
    }

    pub(super) fn retain(&mut self, is_kept: impl Fn(&TenantChannel, Position) -> bool) {
        let positions = &mut self.positions;
        positions.retain(|(channel, _), position| is_kept(channel, *position));
        self.expiries.retain(|(_, key)| positions.contains_key(key));
    }

    fn expire(&mut self, now: Instant) {
        while self.expiries.front().is_some_and(|(expiry, _)| *expiry <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.expiries.pop_front() {
            self.positions.remove(&key);
        }
    }
}

/// How long an id is remembered.
const WINDOW: Duration = Duration::from_mins(2);

const MAX_IDS: usize = 1 << 18;
