//! Counting subscribers, of channels that nobody enters.
//!
//! Each second a shard says how many it has where that may be another number than the one it said last. The store
//! adds up what the nodes say, and tells one of them when to publish how many there are. A second costs what has
//! changed in it and a small part of the rest, so that a tenant with very many channels does not hold
//! the others up.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tidewire_model::{PresenceChange, TenantChannel};
use tidewire_store::{StoreError, Tally};
use tokio::time::Instant;

use super::Done;
use super::roll::REMEMBERED;
use crate::shard::{self, Shard};

/// The channels of a shard whose subscribers are counted.
#[derive(Default)]
pub(super) struct Counts {
    /// By the part of the store that they are in.
    parts: BTreeMap<u16, BTreeMap<TenantChannel, Counted>>,
    len: usize,
    /// Those that may have another number than the one said last, each once.
    unsure: VecDeque<(u16, TenantChannel)>,
    /// The last one that was looked at only because it was its turn.
    turn: Option<(u16, TenantChannel)>,
}

/// What is known of one of them.
struct Counted {
    /// What the store has, if that is known.
    said: Option<u64>,
    said_at: Instant,
    is_under_way: bool,
    is_unsure: bool,
    /// Its rule has it no more.
    is_over: bool,
}

/// Numbers that a shard says in a second at most.
const SAID_PER_SECOND: usize = 5_000;
/// A number that stays the same is said again all the same, when it has its turn after that.
const REPEATED_EVERY: Duration = Duration::from_mins(10);
/// In so many seconds each has its turn, if there are more than have one in a second anyway.
const ROUND: usize = 60;
const TURNS_PER_SECOND: usize = 64;

impl Counts {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The parts that they are in, each with one of them.
    pub(super) fn parts(&self) -> impl Iterator<Item = (u16, &TenantChannel)> {
        self.parts.iter().filter_map(|(part, of)| of.keys().next().map(|first| (*part, first)))
    }

    fn find(&mut self, part: u16, channel: &TenantChannel) -> Option<&mut Counted> {
        self.parts.get_mut(&part).and_then(|of_part| of_part.get_mut(channel))
    }

    /// Begins to count, where nobody has been said to be yet, or goes on.
    fn begin(&mut self, part: u16, channel: &TenantChannel, now: Instant) {
        if let Some(counted) = self.find(part, channel) {
            counted.is_over = false;
        } else {
            let (said, said_at) = (Some(0), now);
            let new =
                Counted { said, said_at, is_under_way: false, is_unsure: false, is_over: false };
            self.parts.entry(part).or_default().insert(channel.clone(), new);
            self.len += 1;
        }
        self.doubt(part, channel);
    }

    fn remove(&mut self, part: u16, channel: &TenantChannel) {
        let Some(of_part) = self.parts.get_mut(&part) else { return };
        self.len -= usize::from(of_part.remove(channel).is_some());
        if of_part.is_empty() {
            self.parts.remove(&part);
        }
    }

    fn doubt(&mut self, part: u16, channel: &TenantChannel) {
        let of_part = self.parts.get_mut(&part);
        if let Some(counted) = of_part.and_then(|of_part| of_part.get_mut(channel)) {
            counted.list(part, channel, &mut self.unsure);
        }
    }

    /// Has the numbers of a part said again.
    pub(super) fn doubt_part(&mut self, part: u16) {
        for (channel, counted) in self.parts.get_mut(&part).into_iter().flatten() {
            counted.said = None;
            counted.list(part, channel, &mut self.unsure);
        }
    }

    /// Has no rule for any of them, until it is said otherwise.
    fn end_all(&mut self) {
        for (part, of_part) in &mut self.parts {
            for (channel, counted) in of_part {
                counted.is_over = true;
                counted.list(*part, channel, &mut self.unsure);
            }
        }
    }

    /// Those to look at in this second: whose turn it is, and as many as may be said of who is unsure.
    fn take(&mut self) -> Vec<(u16, TenantChannel)> {
        let mut taken = self.take_turn();
        let most = SAID_PER_SECOND.min(self.unsure.len());
        for (part, channel) in self.unsure.drain(..most).collect::<Vec<_>>() {
            if let Some(counted) = self.find(part, &channel) {
                counted.is_unsure = false;
            }
            taken.push((part, channel));
        }
        taken
    }

    fn take_turn(&mut self) -> Vec<(u16, TenantChannel)> {
        let most = self.len.div_ceil(ROUND).max(TURNS_PER_SECOND);
        let name = |part: &u16, channel: &TenantChannel| (*part, channel.clone());
        let begun = self.turn.iter().flat_map(|(part, last)| {
            let later = (Bound::Excluded(last), Bound::Unbounded);
            let rest = self.parts.get(part).into_iter().flat_map(move |of| of.range(later));
            rest.map(move |(channel, _)| name(part, channel))
        });
        let after = self.turn.as_ref().map_or(Bound::Unbounded, |(part, _)| Bound::Excluded(*part));
        let others = self.parts.range((after, Bound::Unbounded));
        let others =
            others.flat_map(|(part, of)| of.keys().map(move |channel| name(part, channel)));
        let taken: Vec<_> = begun.chain(others).take(most).collect();
        self.turn = if taken.len() == most { taken.last().cloned() } else { None };
        taken
    }
}

impl Counted {
    fn list(
        &mut self,
        part: u16,
        channel: &TenantChannel,
        unsure: &mut VecDeque<(u16, TenantChannel)>,
    ) {
        if !std::mem::replace(&mut self.is_unsure, true) {
            unsure.push_back((part, channel.clone()));
        }
    }

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

impl Shard {
    /// Counts the subscribers of a channel that is followed, if its rule says so.
    pub(crate) fn count_if_ruled(&mut self, channel: &TenantChannel, now: Instant) {
        if !self.rules.counts_subscribers(channel) {
            return;
        }
        let part = self.around.presence.store.part_of(channel);
        self.desk.note_part(part, now);
        self.desk.counts.begin(part, channel, now);
    }

    /// Has the subscribers of a channel counted again, if they are: there may be more or fewer. Not
    /// needed of those whose worker has fallen behind, who take their places again: if they do not,
    /// the channel's turn finds that out.
    pub(crate) fn doubt_count(&mut self, channel: &TenantChannel) {
        if self.desk.counts.len() > 0 {
            let part = self.around.presence.store.part_of(channel);
            self.desk.counts.doubt(part, channel);
        }
    }

    /// Counts as the rules have it now.
    pub(crate) fn recount(&mut self, now: Instant) {
        self.desk.counts.end_all();
        let channels: Vec<_> = self.channels.keys().cloned().collect();
        for channel in channels {
            self.count_if_ruled(&channel, now);
        }
    }

    /// Says how many subscribers there are where the store may not know.
    pub(super) fn say_counts(&mut self, now: Instant) {
        for (part, channel) in self.desk.counts.take() {
            let Some(counted) = self.desk.counts.find(part, &channel) else { continue };
            let followed = self.channels.get(&channel).filter(|_| !counted.is_over);
            let subscribers = followed.map_or(0, |state| state.audience.places() as u64);
            if counted.is_unsaid(subscribers, now) {
                counted.is_under_way = true;
                self.say_count(channel, subscribers);
            } else if followed.is_none() && counted.is_settled(now) {
                self.desk.counts.remove(part, &channel);
            }
        }
    }

    fn say_count(&mut self, channel: TenantChannel, subscribers: u64) {
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
        if let Some(counted) = self.desk.counts.find(part, channel) {
            counted.is_under_way = false;
            counted.said = outcome.as_ref().ok().filter(is_current).map(|_| subscribers);
            counted.said_at = now;
        }
        self.desk.counts.doubt(part, channel);
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tidewire_model::{Channel, Tenant};

    use super::*;

    #[test]
    fn a_second_looks_at_what_changed_and_at_a_sixtieth_of_the_rest() {
        let mut counts = counts(60_000);
        while !counts.unsure.is_empty() {
            counts.take();
        }
        counts.doubt(3, &channel(3));
        counts.doubt(3, &channel(3));
        counts.turn = Some((4, channel(0)));

        let taken = counts.take();

        assert_eq!(taken.len(), 1_001);
        assert_eq!(taken.iter().filter(|one| **one == (3, channel(3))).count(), 1);
    }

    #[test]
    fn each_has_its_turn_once_in_a_round_over_all_parts() {
        let mut counts = counts(6_000);
        let mut turns = HashMap::new();

        for _ in 0..ROUND {
            for one in counts.take_turn() {
                *turns.entry(one).or_insert(0) += 1;
            }
        }

        assert_eq!(turns.len(), 6_000);
        assert!(turns.values().all(|turns| *turns == 1));
    }

    #[test]
    fn of_few_each_has_its_turn_each_second() {
        let mut counts = counts(10);

        let seconds = [(); 3].map(|()| counts.take_turn().len());

        assert_eq!(seconds, [10; 3]);
    }

    #[test]
    fn what_is_removed_is_in_no_part_and_has_no_turn() {
        let mut counts = counts(7);
        counts.take();

        (0..7).for_each(|number| counts.remove(part(number), &channel(number)));

        assert_eq!((counts.len(), counts.parts().count(), counts.take().len()), (0, 0, 0));
    }

    fn counts(count: u16) -> Counts {
        let mut counts = Counts::default();
        let now = Instant::now();
        (0..count).for_each(|number| counts.begin(part(number), &channel(number), now));
        counts
    }

    fn part(number: u16) -> u16 {
        number % 7
    }

    fn channel(number: u16) -> TenantChannel {
        TenantChannel::new(
            Tenant::parse("acme").expect("valid"),
            Channel::parse(&format!("room/{number}")).expect("valid"),
        )
    }
}
