use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tidewire_model::{Position, TenantChannel};
use tokio::time::Instant;

use super::saved::SavedId;
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
    /// What another log remembered, `away` later.
    pub(super) fn restored(
        ids: Vec<(TenantChannel, SavedId)>,
        away: Duration,
        now: Instant,
    ) -> Self {
        let expiry = |left: Duration| Some(now + left.min(WINDOW).checked_sub(away)?);
        let mut live: Vec<_> = ids
            .into_iter()
            .filter_map(|(channel, id)| Some((expiry(id.left)?, channel, id)))
            .collect();
        live.sort_by_key(|(expiry, ..)| *expiry);
        let mut recent = Self::default();
        for (expiry, channel, id) in live {
            recent.remember((channel, id.key), id.position, expiry);
        }
        recent
    }

    pub(super) fn saved(&mut self, now: Instant) -> HashMap<TenantChannel, Vec<SavedId>> {
        self.expire(now);
        let mut saved: HashMap<_, Vec<_>> = HashMap::new();
        for (expiry, recent) in &self.expiries {
            let ((channel, key), position) = (recent, self.positions[recent]);
            let id = SavedId { key: *key, position, left: *expiry - now };
            saved.entry(channel.clone()).or_default().push(id);
        }
        saved
    }

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
        self.remember((channel.clone(), key), position, now + WINDOW);
    }

    /// `expiry` is not before that of any other.
    fn remember(&mut self, key: RecentKey, position: Position, expiry: Instant) {
        if self.expiries.len() == MAX_IDS {
            self.forget_oldest();
        }
        self.positions.insert(key.clone(), position);
        self.expiries.push_back((expiry, key));
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
