//! Telling the store, those who asked, and those who watch.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidewire_broker::Draft;
use tidewire_model::{
    ErrorCode, Event, Failure, MemberId, PresenceChange, PresenceMode, PresenceRule, SessionId,
    TenantChannel,
};
use tidewire_store::{
    Age, Applied, Entry, Fate, MOST_MOVES, Move, StoreError, Tally, Telling, Terms,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::roll::{Awaiting, Gone, Roll, Wish, former, member};
use super::{Done, PresenceWay, moved};
use crate::ask::Reply;
use crate::lane::Pending;
use crate::shard::{self, Shard};

/// What came of telling the store.
pub(crate) struct Said {
    channel: TenantChannel,
    moves: Vec<Move>,
    debounce: Duration,
    outcome: Result<Applied, StoreError>,
}

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(2);
/// The most changes of one publication: with a KiB each they stay below 32 KiB.
const MOST_CHANGES: usize = 24;
/// The store's clock is not ours.
const LATENESS: Duration = Duration::from_millis(50);

impl PresenceWay {
    /// Moves members of this node's.
    async fn apply(
        &self,
        channel: &TenantChannel,
        moves: &[Move],
        terms: Terms,
    ) -> Result<Applied, StoreError> {
        let _permit = self.calls.acquire().await;
        self.note().await?;
        self.store.apply(channel, &self.life, moves, terms).await
    }

    /// Says how many subscribers this node has.
    pub(super) async fn tally(
        &self,
        channel: &TenantChannel,
        subscribers: u64,
    ) -> Result<Tally, StoreError> {
        let _permit = self.calls.acquire().await;
        self.note().await?;
        self.store.tally(channel, &self.life, subscribers).await
    }

    /// Has the store know of this node, which may have something there from then on.
    async fn note(&self) -> Result<(), StoreError> {
        if !self.is_noted.load(Ordering::Relaxed) {
            self.store.lives(Some(&self.life)).await?;
            self.is_noted.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// How a channel's members are kept; as most are, where its rule is gone.
pub(super) fn terms(rule: Option<PresenceRule>) -> Terms {
    let PresenceRule { mode, debounce, listed } = rule.unwrap_or_default();
    let listed = match mode {
        PresenceMode::Members => listed,
        PresenceMode::Count => 0,
    };
    Terms { debounce, listed }
}

impl Shard {
    /// Tells the store what is unsaid of a channel, unless a call is under way or to be repeated.
    pub(crate) fn say(&mut self, channel: &TenantChannel) {
        let part = self.around.presence.store.part_of(channel);
        let terms = terms(self.rules.presence(&channel.tenant, &channel.channel));
        let Some(roll) = self.desk.roll(part, channel) else { return };
        if roll.is_under_way || roll.failures > 0 || roll.unsaid.is_empty() {
            return;
        }
        let (moves, at_least) = roll.take_unsaid();
        self.desk.under_way += 1;
        let debounce = terms.debounce.max(at_least);
        let terms = Terms { debounce, ..terms };
        let (around, channel) = (Arc::clone(&self.around), channel.clone());
        self.running.push(Box::pin(async move {
            let outcome = around.presence.apply(&channel, &moves, terms).await;
            let said = Said { channel, moves, debounce, outcome };
            shard::Done::Presence(Done::Said(said))
        }));
    }

    /// Does what is due about channels by now.
    pub(crate) fn ring_presence(&mut self, now: Instant) {
        while let Some(channel) = self.desk.retries.due(now) {
            self.say_again(&channel);
        }
        while let Some(channel) = self.desk.owed.due(now) {
            self.ask_what_is_owed(channel);
        }
    }

    /// Asks whether it is still to be told how many there are in a channel.
    fn ask_what_is_owed(&mut self, channel: TenantChannel) {
        let terms = terms(self.rules.presence(&channel.tenant, &channel.channel));
        let around = Arc::clone(&self.around);
        self.running.push(Box::pin(async move {
            let applied = around.presence.apply(&channel, &[], terms).await;
            shard::Done::Presence(Done::Owed(channel, applied))
        }));
    }

    pub(super) fn finish_ask(
        &mut self,
        channel: &TenantChannel,
        applied: Result<Applied, StoreError>,
        now: Instant,
    ) {
        match applied {
            Ok(Applied { occupancy, telling, .. }) => {
                self.tell(channel, (PresenceChange::at(occupancy), telling), now);
            }
            // Who watches compares, and finds it.
            Err(error) => tracing::debug!(%channel, %error, "cannot ask what is to be told"),
        }
    }

    /// Tells those who watch a channel, or remembers to.
    pub(super) fn tell(
        &mut self,
        channel: &TenantChannel,
        (change, telling): (PresenceChange, Telling),
        now: Instant,
    ) {
        if let Telling::CountLater(wait) = telling {
            self.owe(channel, wait, now);
        }
        for (reserved, draft) in publications(channel, change, telling) {
            let (reply, _nobody_waits) = oneshot::channel();
            self.accept(reserved, Pending { draft, reply: Reply::Caller(reply) }, now);
        }
    }

    /// Remembers to ask in some time whether it is still to be told how many there are.
    pub(crate) fn owe(&mut self, channel: &TenantChannel, wait: Duration, now: Instant) {
        if !self.desk.owed.has(channel) {
            self.desk.owed.set(channel, Some(now + wait + LATENESS));
        }
    }

    /// Calls the store again about a channel, whose last call has failed.
    fn say_again(&mut self, channel: &TenantChannel) {
        let part = self.around.presence.store.part_of(channel);
        if let Some(roll) = self.desk.roll(part, channel) {
            roll.failures = 0;
        }
        self.say(channel);
    }

    pub(crate) fn finish_say(&mut self, said: Said, now: Instant) {
        let Said { channel, moves, debounce, outcome } = said;
        let part = self.around.presence.store.part_of(&channel);
        self.desk.under_way -= 1;
        if let Some(roll) = self.desk.roll(part, &channel) {
            roll.is_under_way = false;
        }
        match outcome {
            Ok(applied) => {
                let incarnation = applied.occupancy.position.epoch.incarnation();
                self.take_applied((part, &channel), &moves, &applied, now);
                if applied.fates.contains(&Fate::Away) {
                    // If there is no room, the regular look finds it.
                    let _ = self.around.presence.due.try_send((part, now + debounce + LATENESS));
                }
                self.note_incarnation(part, incarnation, now);
                self.say(&channel);
            }
            Err(error) => {
                tracing::debug!(%channel, %error, "cannot say who is in a channel");
                self.around.presence.metrics.failed.increment(1);
                self.put_back((part, &channel), &moves, now);
            }
        }
        self.desk.forget_if_empty(part, &channel);
    }

    fn take_applied(
        &mut self,
        (part, channel): (u16, &TenantChannel),
        moves: &[Move],
        applied: &Applied,
        now: Instant,
    ) {
        let mut change = PresenceChange::at(applied.occupancy);
        for (one, fate) in moves.iter().zip(&applied.fates) {
            let Some(roll) = self.desk.roll(part, channel) else { return };
            note_change(&mut change, one, *fate, roll);
            roll.answer(channel, one, *fate);
            let (session, age) = named(one);
            let is_current = roll.held.get(&session).is_some_and(|held| held.age == age);
            let is_over = !matches!(one, Move::Enter { .. }) || *fate == Fate::Stale;
            if *fate == Fate::Stale {
                self.around.presence.metrics.stale.increment(1);
            }
            if !is_current || !is_over {
                continue;
            }
            if let Some(held) = roll.held.remove(&session) {
                roll.unsaid.remove(&session);
                self.desk.held -= 1;
                if *fate != Fate::Stale {
                    let channel = channel.clone();
                    self.desk.remember(Gone { at: now, part, channel, session, held });
                }
            }
        }
        let metrics = &self.around.presence.metrics;
        metrics.joined.increment(change.joined.len() as u64);
        metrics.updated.increment(change.updated.len() as u64);
        metrics.left.increment(change.left.len() as u64);
        self.tell(channel, (change, applied.telling), now);
    }

    /// Has what could not be said said later, and refuses who has waited too long.
    fn put_back(&mut self, (part, channel): (u16, &TenantChannel), moves: &[Move], now: Instant) {
        let Some(roll) = self.desk.roll(part, channel) else { return };
        let sessions = moves.iter().map(|one| named(one).0);
        roll.unsaid.extend(sessions.filter(|session| roll.held.contains_key(session)));
        for awaiting in roll.awaiting.extract_if(.., |awaiting| awaiting.until <= now) {
            awaiting.answer.refuse(not_stored());
        }
        let retry = FIRST_RETRY * 2_u32.pow(roll.failures.min(5));
        roll.failures += 1;
        self.desk.retries.set(channel, Some(now + retry.min(LONGEST_RETRY)));
    }
}

impl Roll {
    /// What is to be said next, and how long who is away is to be waited for at least.
    fn take_unsaid(&mut self) -> (Vec<Move>, Duration) {
        self.is_under_way = true;
        let (mut moves, mut at_least) = (Vec::new(), Duration::ZERO);
        while moves.len() < MOST_MOVES {
            let Some(session) = self.unsaid.pop_first() else { break };
            let Some(held) = self.held.get(&session) else { continue };
            if let Wish::Away { at_least: wanted } = held.wish {
                at_least = at_least.max(wanted);
            }
            moves.push(held.to_move(session));
        }
        (moves, at_least)
    }

    /// Answers those whose word the store has.
    fn answer(&mut self, channel: &TenantChannel, one: &Move, fate: Fate) {
        let (session, age) = named(one);
        let is_answered =
            |awaiting: &mut Awaiting| awaiting.session == session && awaiting.age <= age;
        for Awaiting { answer, is_leaving, .. } in self.awaiting.extract_if(.., is_answered) {
            let (request, channel) = (answer.request, channel.channel.clone());
            if fate == Fate::Stale {
                answer.refuse(moved());
            } else if is_leaving {
                answer.give(Event::Left { request, channel });
            } else {
                let member = MemberId::of(&session);
                answer.give(Event::Entered { request, channel, member });
            }
        }
    }
}

fn named(one: &Move) -> (SessionId, Age) {
    match one {
        Move::Enter { entry: Entry { session, .. }, age }
        | Move::Away { session, age }
        | Move::Leave { session, age } => (*session, *age),
    }
}

/// Adds what others are to hear of a move.
fn note_change(change: &mut PresenceChange, one: &Move, fate: Fate, roll: &Roll) {
    match (one, fate) {
        (Move::Enter { entry, .. }, Fate::Joined) => change.joined.push(member(entry)),
        (Move::Enter { entry, .. }, Fate::Updated) => change.updated.push(member(entry)),
        (Move::Leave { session, .. }, Fate::Left) => {
            change.left.extend(roll.held.get(session).map(|held| former(session, &held.user)));
        }
        _ => {}
    }
}

/// What is published of a change of who is in `channel`: as many publications as it takes.
pub(super) fn publications(
    channel: &TenantChannel,
    change: PresenceChange,
    telling: Telling,
) -> Vec<(TenantChannel, Draft)> {
    let Some(reserved) = channel.channel.presence() else { return Vec::new() };
    let pieces = match telling {
        Telling::Names => pieces(change),
        Telling::Count => vec![change.without_names()],
        Telling::NamesAgain => vec![PresenceChange { lost: true, ..change.without_names() }],
        Telling::CountLater(_) | Telling::Nothing => Vec::new(),
    };
    let draft = |change: PresenceChange| {
        let reserved = TenantChannel::new(channel.tenant.clone(), reserved.clone());
        (reserved, Draft { id: None, publisher: None, payload: change.to_payload() })
    };
    pieces.into_iter().map(draft).collect()
}

/// The same in pieces of which each stands where its last change does; only the last knows how many are
/// there after it.
fn pieces(mut change: PresenceChange) -> Vec<PresenceChange> {
    let mut pieces = Vec::new();
    while change.len() > MOST_CHANGES {
        let mut room = MOST_CHANGES;
        let joined = change.joined.drain(..room.min(change.joined.len())).collect::<Vec<_>>();
        room -= joined.len();
        let updated = change.updated.drain(..room.min(change.updated.len())).collect::<Vec<_>>();
        room -= updated.len();
        let left = change.left.drain(..room.min(change.left.len())).collect();
        let mut position = change.position;
        if let Some(position) = &mut position {
            position.offset = position.offset.saturating_sub(change.len() as u64);
        }
        pieces.push(PresenceChange { position, joined, updated, left, count: None, lost: false });
    }
    if !change.is_empty() {
        pieces.push(change);
    }
    pieces
}

fn not_stored() -> Failure {
    let message =
        "presence cannot be stored now; it will be when it can, and asking again does no harm";
    Failure::new(ErrorCode::Unavailable, message).retry_after(LONGEST_RETRY)
}

#[cfg(test)]
mod tests {
    use tidewire_model::{Incarnation, Member, Occupancy, UserId};

    use super::*;

    #[test]
    fn a_large_change_goes_in_pieces_whose_positions_follow_each_other() {
        let member = |of: u8| Member {
            id: MemberId::of(&SessionId::from_bytes([of; 16])),
            user: UserId::parse("ann").expect("valid"),
            data: None,
        };
        let left = (0..10).map(|of| former(&SessionId::from_bytes([of; 16]), &member(of).user));
        let change = PresenceChange {
            joined: (0..30).map(member).collect(),
            updated: (0..30).map(member).collect(),
            left: left.collect(),
            ..PresenceChange::at(Occupancy::new(7, Incarnation::ZERO, 1_000))
        };

        let pieces = pieces(change);

        let offsets = pieces.iter().map(|piece| piece.position.map(|position| position.offset));
        assert_eq!(offsets.collect::<Vec<_>>(), [Some(954), Some(978), Some(1_000)]);
        assert_eq!(pieces.iter().map(PresenceChange::len).collect::<Vec<_>>(), [24, 24, 22]);
        assert_eq!(
            pieces.iter().map(|piece| piece.count).collect::<Vec<_>>(),
            [None, None, Some(7)]
        );
        assert_eq!(pieces.iter().map(|piece| piece.left.len()).sum::<usize>(), 10);
    }
}
