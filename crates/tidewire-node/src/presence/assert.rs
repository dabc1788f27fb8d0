//! Telling the store again what it may have lost, or been told otherwise by others.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tidewire_model::{Incarnation, TenantChannel};
use tidewire_store::StoreError;
use tokio::time::Instant;

use super::roll::{Gone, PartState, REMEMBERED, Wish};
use super::{Desk, Done, Doubt};
use crate::shard::{self, Shard};

/// After so long a silence others may have taken this node for dead.
const SILENCE: Duration = Duration::from_secs(4);
/// By then the others have seen the lease of a node that is back, and mark its members no more: what they
/// have marked since it told who is here is told again.
const SETTLED: Duration = Duration::from_secs(3);
/// Parts that are asked each second which life they are in.
const LOOKED_AT_ONCE: usize = 52;
/// Members that a shard tells again each second at most.
const ASSERTED_PER_SECOND: usize = 5_000;
/// In so many seconds everybody has been told again once.
const ROUND: usize = 600;

impl Desk {
    pub(super) fn note_part(&mut self, part: u16, now: Instant) {
        self.parts.entry(part).or_insert(PartState { incarnation: None, answered_at: now });
    }

    /// Has the members and numbers of a part told again.
    fn doubt(&mut self, part: u16) -> usize {
        self.counts.doubt_part(part);
        self.asserting.retain(|(of_part, ..)| *of_part != part);
        let before = self.asserting.len();
        for (channel, roll) in self.rolls.get(&part).into_iter().flatten() {
            let here = roll.held.iter().filter(|(_, held)| held.wish == Wish::Here);
            self.asserting.extend(here.map(|(session, _)| (part, channel.clone(), *session)));
        }
        self.asserting.len() - before
    }

    /// Those of a part who have gone of late are gone again. Yields their channels.
    fn repeat_gone(&mut self, part: u16) -> Vec<TenantChannel> {
        let (again, rest) =
            std::mem::take(&mut self.gone).into_iter().partition(|gone: &Gone| gone.part == part);
        self.gone = rest;
        let again: VecDeque<Gone> = again;
        let mut channels = Vec::new();
        for Gone { channel, session, held, .. } in again {
            let roll = self.open_roll(part, &channel);
            if let Entry::Vacant(place) = roll.held.entry(session) {
                place.insert(held);
                roll.unsaid.insert(session);
                self.held += 1;
            }
            channels.push(channel);
        }
        channels
    }

    /// Has those told again whose turn it is: a share of all, channel by channel.
    fn take_turn(&mut self) -> usize {
        let (wanted, mut taken) = (self.held.div_ceil(ROUND), 0);
        while taken < wanted {
            let next = self.next_turn();
            let is_round = next.is_none();
            self.turn = next;
            let Some((part, channel)) = &self.turn else {
                // From the beginning, but not for ever: there may be nobody who is here.
                if is_round {
                    break;
                }
                continue;
            };
            let Some(roll) = self.rolls.get(part).and_then(|of_part| of_part.get(channel)) else {
                break;
            };
            let here = roll.held.iter().filter(|(_, held)| held.wish == Wish::Here);
            let before = self.asserting.len();
            self.asserting.extend(here.map(|(session, _)| (*part, channel.clone(), *session)));
            taken += self.asserting.len() - before;
        }
        taken
    }

    fn next_turn(&self) -> Option<(u16, TenantChannel)> {
        let after = match &self.turn {
            None => None,
            Some((part, channel)) => {
                let later = (Bound::Excluded(channel), Bound::Unbounded);
                let next = self.rolls.get(part).and_then(|of_part| of_part.range(later).next());
                if let Some((next, _)) = next {
                    return Some((*part, next.clone()));
                }
                Some(*part)
            }
        };
        let mut parts =
            self.rolls.iter().filter(|(part, _)| after.is_none_or(|after| **part > after));
        let (part, of_part) = parts.next()?;
        of_part.keys().next().map(|channel| (*part, channel.clone()))
    }

    /// The parts that this shard has anything in, each with a channel of it.
    fn parts_in_use(&self) -> BTreeMap<u16, &TenantChannel> {
        let rolls = self.rolls.iter();
        let entered = rolls.filter_map(|(part, of)| of.keys().next().map(|first| (*part, first)));
        self.counts.parts().chain(entered).collect()
    }

    /// The parts whose life is to be asked for now, each with a channel of it.
    fn parts_to_look_at(&mut self, now: Instant) -> Vec<TenantChannel> {
        let used = self.parts_in_use();
        let after = used.range(self.looked.saturating_add(1)..);
        let some: Vec<_> = after.chain(used.range(..=self.looked)).take(LOOKED_AT_ONCE).collect();
        let last = some.last().map(|(part, _)| **part);
        let channels = some.into_iter().map(|(_, channel)| (*channel).clone()).collect();
        let used: BTreeSet<u16> = used.into_keys().collect();
        self.looked = last.unwrap_or_default();
        // Nobody is there for whom the silence of the others would mean anything.
        let unused = self.parts.iter_mut().filter(|(part, _)| !used.contains(part));
        unused.for_each(|(_, state)| state.answered_at = now);
        channels
    }

    /// How long a part may be silent only because it is not asked more often.
    fn patience(&self) -> Duration {
        let turns = u32::try_from(self.parts.len() / LOOKED_AT_ONCE).unwrap_or(u32::MAX);
        SILENCE + Duration::from_secs(1) * turns
    }
}

impl Shard {
    /// What presence has to do each second.
    pub(crate) fn tick_presence(&mut self, now: Instant) {
        let last = self.desk.ticked_at.replace(now);
        let was_asleep = last.is_some_and(|last| now.saturating_duration_since(last) > SILENCE);
        self.compare_watched(now);
        let (held, unsaid) = self.desk.count();
        let (watched, counted) = (self.desk.watched_count(), self.desk.counts.len());
        self.around.metrics.presence([held, unsaid, watched, counted]);
        while self.desk.gone.front().is_some_and(|gone| gone.at + REMEMBERED < now) {
            self.desk.gone.pop_front();
        }
        if held == 0 && counted == 0 {
            return;
        }
        let has_settled = self.desk.settled_at.take_if(|at| *at <= now).is_some();
        if was_asleep {
            self.desk.settled_at = Some(now + SETTLED);
        }
        if was_asleep || has_settled {
            let parts: Vec<_> = self.desk.parts.keys().copied().collect();
            for part in parts {
                self.doubt_part(part, Doubt::CutOff);
            }
        }
        self.look_at_parts(now);
        self.say_counts(now);
        if self.desk.asserting.is_empty() {
            let taken = self.desk.take_turn();
            self.count_asserted(Doubt::Entropy, taken);
        }
        self.assert_some();
    }

    fn look_at_parts(&mut self, now: Instant) {
        for channel in self.desk.parts_to_look_at(now) {
            let around = Arc::clone(&self.around);
            self.running.push(Box::pin(async move {
                let store = &around.presence.store;
                let counted = store.occupancies(std::slice::from_ref(&channel)).await;
                let counted = counted
                    .map(|all| all.first().map(|one| one.occupancy.position.epoch.incarnation()));
                shard::Done::Presence(Done::Looked(store.part_of(&channel), counted))
            }));
        }
    }

    pub(crate) fn finish_look(
        &mut self,
        part: u16,
        looked: &Result<Option<Incarnation>, StoreError>,
        now: Instant,
    ) {
        if let Ok(Some(incarnation)) = looked {
            self.note_incarnation(part, *incarnation, now);
        }
    }

    /// Takes note of which life a part of the store is in.
    pub(super) fn note_incarnation(&mut self, part: u16, incarnation: Incarnation, now: Instant) {
        let patience = self.desk.patience();
        let Some(state) = self.desk.parts.get_mut(&part) else { return };
        let silence = now.saturating_duration_since(state.answered_at);
        state.answered_at = now;
        let known = state.incarnation;
        state.incarnation = known.max(Some(incarnation));
        if known.is_some_and(|known| known < incarnation) {
            self.doubt_part(part, Doubt::Failover);
            for channel in self.desk.repeat_gone(part) {
                self.say(&channel);
            }
        } else if silence > patience {
            self.desk.settled_at = Some(now + SETTLED);
            self.doubt_part(part, Doubt::CutOff);
        }
    }

    fn doubt_part(&mut self, part: u16, doubt: Doubt) {
        let count = self.desk.doubt(part);
        self.count_asserted(doubt, count);
        if count > 0 && doubt != Doubt::Entropy {
            tracing::info!(part, count, reason = ?doubt, "telling the store again who is here");
        }
    }

    fn count_asserted(&self, doubt: Doubt, count: usize) {
        self.around.presence.metrics.asserted[doubt as usize].increment(count as u64);
    }

    fn assert_some(&mut self) {
        let count = self.desk.asserting.len().min(ASSERTED_PER_SECOND);
        let some: Vec<_> = self.desk.asserting.drain(..count).collect();
        let mut channels = Vec::new();
        for (part, channel, session) in some {
            let Some(roll) = self.desk.roll(part, &channel) else { continue };
            if roll.held.get(&session).is_some_and(|held| held.wish == Wish::Here) {
                roll.unsaid.insert(session);
                channels.push(channel);
            }
        }
        channels.dedup();
        for channel in channels {
            self.say(&channel);
        }
    }
}
