//! Counting subscribers, of channels that nobody enters.
//!
//! Each second a shard says how many it has where that is another number than the one it said last. The store
//! adds up what the nodes say, and tells one of them when to publish how many there are.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tidewire_model::{PresenceChange, TenantChannel};
use tidewire_store::{StoreError, Tally};
use tokio::time::Instant;

use super::roll::REMEMBERED;
use super::{Desk, Done};
use crate::shard::{self, Shard};

/// What is known of a channel whose subscribers are counted.
pub(super) struct Counted {
    pub(super) part: u16,
    /// What the store has, if that is known.
    said: Option<u64>,
    said_at: Instant,
    is_under_way: bool,
    /// Its rule has it no more.
    is_over: bool,
}

/// Numbers that a shard says in a second at most.
const SAID_PER_SECOND: usize = 5_000;
/// A number that stays the same is said again all the same.
const REPEATED_EVERY: Duration = Duration::from_mins(10);

impl Counted {
    fn is_unsaid(&self, subscribers: u64, now: Instant) -> bool {
        let is_old = subscribers > 0 && self.said_at + REPEATED_EVERY <= now;
        !self.is_under_way && (self.said != Some(subscribers) || is_old)
    }

    /// Whether it may be forgotten that there is nobody: not before a failover could no more bring back
    /// those who were there.
    fn is_settled(&self, now: Instant) -> bool {
        self.said == Some(0) && self.said_at + REMEMBERED <= now
    }
}

impl Desk {
    /// Has the numbers of a part said again.
    pub(super) fn doubt_counts(&mut self, part: u16) {
        for counted in self.counted.values_mut().filter(|counted| counted.part == part) {
            counted.said = None;
        }
    }
}

impl Shard {
    /// Counts the subscribers of a channel that is followed, if its rule says so.
    pub(crate) fn count_if_ruled(&mut self, channel: &TenantChannel, now: Instant) {
        if !self.rules.counts_subscribers(channel) {
            return;
        }
        let part = self.around.presence.store.part_of(channel);
        self.desk.note_part(part, now);
        let (said, said_at) = (Some(0), now);
        let new = Counted { part, said, said_at, is_under_way: false, is_over: false };
        self.desk.counted.entry(channel.clone()).or_insert(new).is_over = false;
    }

    /// Counts as the rules have it now.
    pub(crate) fn recount(&mut self, now: Instant) {
        self.desk.counted.values_mut().for_each(|counted| counted.is_over = true);
        let channels: Vec<_> = self.channels.keys().cloned().collect();
        for channel in channels {
            self.count_if_ruled(&channel, now);
        }
    }

    /// Says how many subscribers there are where the store does not know.
    pub(super) fn say_counts(&mut self, now: Instant) {
        let after = self.desk.counted_turn.take().map_or(Bound::Unbounded, Bound::Excluded);
        let (mut unsaid, mut over) = (Vec::new(), Vec::new());
        for (channel, counted) in self.desk.counted.range((after, Bound::Unbounded)) {
            let followed = self.channels.get(channel).filter(|_| !counted.is_over);
            let subscribers = followed.map_or(0, |state| state.audience.places() as u64);
            if counted.is_unsaid(subscribers, now) {
                unsaid.push((channel.clone(), subscribers));
            } else if followed.is_none() && counted.is_settled(now) {
                over.push(channel.clone());
            }
            if unsaid.len() == SAID_PER_SECOND {
                self.desk.counted_turn = Some(channel.clone());
                break;
            }
        }
        for channel in over {
            self.desk.counted.remove(&channel);
        }
        for (channel, subscribers) in unsaid {
            self.say_count(channel, subscribers);
        }
    }

    fn say_count(&mut self, channel: TenantChannel, subscribers: u64) {
        if let Some(counted) = self.desk.counted.get_mut(&channel) {
            counted.is_under_way = true;
        }
        let around = Arc::clone(&self.around);
        self.running.push(Box::pin(async move {
            let outcome = around.presence.tally(&channel, subscribers).await;
            shard::Done::Presence(Done::Tallied(channel, subscribers, outcome))
        }));
    }

    pub(super) fn finish_say_count(
        &mut self,
        channel: &TenantChannel,
        (subscribers, outcome): (u64, Result<Tally, StoreError>),
        now: Instant,
    ) {
        let part = self.around.presence.store.part_of(channel);
        let known = self.desk.parts.get(&part).and_then(|state| state.incarnation);
        // What an earlier life of the store has taken, this one may not have.
        let is_current =
            |tally: &&Tally| Some(tally.occupancy.position.epoch.incarnation()) >= known;
        if let Some(counted) = self.desk.counted.get_mut(channel) {
            counted.is_under_way = false;
            counted.said = outcome.as_ref().ok().filter(is_current).map(|_| subscribers);
            counted.said_at = now;
        }
        match outcome {
            Ok(Tally { occupancy, telling }) => {
                self.tell(channel, (PresenceChange::at(occupancy), telling), now);
                self.note_incarnation(part, occupancy.position.epoch.incarnation(), now);
            }
            Err(error) => {
                tracing::debug!(%channel, %error, "cannot say how many are in a channel");
                self.around.presence.metrics.failed.increment(1);
            }
        }
    }
}
