use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tidewire_model::{Position, TenantChannel};
use tokio::time::Instant;

use super::saved::SavedId;
use crate::DedupeKey;

/// The publications with an id that was used in the last two minutes.
#[derive(Default)]
pub(super) struct RecentIds {
    known: HashMap<RecentKey, Known>,
    /// The keys of `known`, and when each was to be forgotten before it was used again: oldest first.
    expiries: VecDeque<(Instant, RecentKey)>,
}

#[derive(Clone, Copy)]
struct Known {
    position: Position,
    expiry: Instant,
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
        let expiry = |left: Duration| Some(now + left.min(KEPT).checked_sub(away)?);
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
        let is_last = |(expiry, recent): &&(Instant, _)| self.known[recent].expiry == *expiry;
        for (expiry, recent) in self.expiries.iter().filter(is_last) {
            let ((channel, key), position) = (recent, self.known[recent].position);
            let id = SavedId { key: *key, position, left: *expiry - now };
            saved.entry(channel.clone()).or_default().push(id);
        }
        saved
    }

    /// Where the publication with this id is, which counts as a use of it.
    pub(super) fn find(
        &mut self,
        channel: &TenantChannel,
        key: DedupeKey,
        now: Instant,
    ) -> Option<Position> {
        self.expire(now);
        let key = (channel.clone(), key);
        let Known { position, expiry } = *self.known.get(&key)?;
        if expiry < now + WINDOW {
            self.remember(key, position, now + KEPT);
        }
        Some(position)
    }

    pub(super) fn insert(
        &mut self,
        channel: &TenantChannel,
        key: DedupeKey,
        position: Position,
        now: Instant,
    ) {
        self.remember((channel.clone(), key), position, now + KEPT);
    }

    /// `expiry` is not before that of any other.
    fn remember(&mut self, key: RecentKey, position: Position, expiry: Instant) {
        if self.expiries.len() == MAX_IDS {
            self.forget_oldest();
        }
        self.known.insert(key.clone(), Known { position, expiry });
        self.expiries.push_back((expiry, key));
    }

    pub(super) fn retain(&mut self, is_kept: impl Fn(&TenantChannel, Position) -> bool) {
        let known = &mut self.known;
        known.retain(|(channel, _), one| is_kept(channel, one.position));
        self.expiries.retain(|(_, key)| known.contains_key(key));
    }

    fn expire(&mut self, now: Instant) {
        while self.expiries.front().is_some_and(|(expiry, _)| *expiry <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((expiry, key)) = self.expiries.pop_front() else { return };
        if self.known.get(&key).is_some_and(|known| known.expiry == expiry) {
            self.known.remove(&key);
        }
    }
}

/// How long an id is remembered at least after it was used.
const WINDOW: Duration = Duration::from_mins(2);

/// How long it is remembered at most: with some to spare, so that one that is used often fills no more
/// room than a few.
const KEPT: Duration = Duration::from_mins(3);

const MAX_IDS: usize = 1 << 18;
