use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use parking_lot::Mutex;
use tidewire_model::{Incarnation, Occupancy, PageMark, SessionId, TenantChannel};
use tokio::time::Instant;

use crate::{
    Age, Applied, Departed, Entry, EntryPage, Expired, Fate, LONGEST_AWAY, Life, Move, Orphaned,
    Presence, Standing, StoreError, Tally, Telling, Terms,
};

/// Keeps who is in which channel in memory: all in one part. Time is tokio's, which a test can pause.
pub struct MemoryPresence {
    incarnation: Incarnation,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    channels: BTreeMap<TenantChannel, Members>,
    /// Who leaves when.
    away: BTreeSet<(Instant, TenantChannel, SessionId)>,
    lives: BTreeSet<Life>,
    /// The highest offset of a channel that was forgotten: others begin there.
    forgotten: u64,
}

struct Members {
    offset: u64,
    by_session: BTreeMap<SessionId, Present>,
    /// Subscribers, where nobody enters.
    subscribers: BTreeMap<Life, u64>,
    /// Present while only how many there are is told.
    counted: Option<Counted>,
}

/// What was told last of a channel's members when only their number was.
struct Counted {
    at: Instant,
    count: u64,
    listed: u32,
}

impl Members {
    fn beginning_at(offset: u64) -> Self {
        let (by_session, subscribers) = Default::default();
        Self { offset, by_session, subscribers, counted: None }
    }

    fn has(&self, life: &Life) -> bool {
        self.subscribers.contains_key(life)
            || self.by_session.values().any(|one| one.life == *life && one.away_until.is_none())
    }

    fn count(&self) -> u64 {
        let members = u64::try_from(self.by_session.len()).unwrap_or(u64::MAX);
        self.subscribers.values().sum::<u64>().saturating_add(members)
    }

    fn occupancy(&self, incarnation: Incarnation) -> Occupancy {
        Occupancy::new(self.count(), incarnation, self.offset)
    }

    fn set_subscribers(&mut self, life: &Life, subscribers: u64) {
        let before = match subscribers {
            0 => self.subscribers.remove(life),
            _ => self.subscribers.insert(life.clone(), subscribers),
        };
        self.offset += u64::from(before.unwrap_or(0) != subscribers);
    }

    /// What is to be told now; of as many as were `listed` when that was said last, unless it is said now.
    fn tell(&mut self, listed: Option<u32>) -> Telling {
        let (count, now) = (self.count(), Instant::now());
        let Some(told) = &mut self.counted else {
            let Some(listed) = listed.filter(|listed| count > u64::from(*listed)) else {
                return Telling::Names;
            };
            self.counted = Some(Counted { at: now, count, listed });
            return Telling::Count;
        };
        told.listed = listed.unwrap_or(told.listed);
        if count * 5 < u64::from(told.listed) * 4 {
            self.counted = None;
            return Telling::NamesAgain;
        }
        if count == told.count {
            return Telling::Nothing;
        }
        let wait = (told.at + told_every(count)).saturating_duration_since(now);
        if !wait.is_zero() && (count == 0) == (told.count == 0) {
            return Telling::CountLater(wait);
        }
        (told.at, told.count) = (now, count);
        Telling::Count
    }

    fn tally(&mut self, incarnation: Incarnation, listed: Option<u32>) -> Tally {
        let telling = self.tell(listed);
        Tally { occupancy: self.occupancy(incarnation), telling }
    }
}

fn told_every(count: u64) -> Duration {
    Duration::from_secs(if count > 10_000 { 5 } else { 1 })
}

struct Present {
    life: Life,
    age: Age,
    entry: Entry,
    away_until: Option<Instant>,
}

/// Tells apart those that are made in one millisecond.
static MADE: AtomicU32 = AtomicU32::new(0);
const PAGE_OF_CHANNELS: usize = 100;
const PAGE_OF_ORPHANS: usize = 500;

impl Default for MemoryPresence {
    fn default() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ms = u64::try_from(since_epoch.as_millis()).unwrap_or_default();
        let nonce = MADE.fetch_add(1, Ordering::Relaxed);
        Self { incarnation: Incarnation::new(ms, nonce), kept: Mutex::default() }
    }
}

impl Kept {
    fn apply(
        &mut self,
        channel: &TenantChannel,
        life: &Life,
        one: &Move,
        debounce: Duration,
    ) -> Fate {
        let members = open(&mut self.channels, channel, self.forgotten);
        let (session, age) = match one {
            Move::Enter { entry, age } => (entry.session, *age),
            Move::Away { session, age } | Move::Leave { session, age } => (*session, *age),
        };
        let known = members.by_session.get_mut(&session);
        if known.as_ref().is_some_and(|known| known.age > age) {
            return Fate::Stale;
        }
        let away_until = known.as_ref().and_then(|known| known.away_until);
        let fate = match (one, known) {
            (Move::Enter { entry, .. }, known) => {
                let fate = match known {
                    None => Fate::Joined,
                    Some(known) if known.entry == *entry => Fate::Kept,
                    Some(_) => Fate::Updated,
                };
                let (life, entry) = (life.clone(), entry.clone());
                members.by_session.insert(session, Present { life, age, entry, away_until: None });
                fate
            }
            (_, None) => return Fate::Unknown,
            (Move::Away { .. }, Some(known)) => {
                known.age = age;
                if away_until.is_none() {
                    let until = Instant::now() + debounce;
                    known.away_until = Some(until);
                    self.away.insert((until, channel.clone(), session));
                }
                return Fate::Away;
            }
            (Move::Leave { .. }, Some(_)) => {
                members.by_session.remove(&session);
                Fate::Left
            }
        };
        members.offset += u64::from(fate.is_change());
        if let Some(until) = away_until {
            self.away.remove(&(until, channel.clone(), session));
        }
        fate
    }

    /// What is told of a channel after a step there. One that nobody is in is forgotten.
    fn tally(
        &mut self,
        channel: &TenantChannel,
        incarnation: Incarnation,
        listed: Option<u32>,
    ) -> Tally {
        let members = open(&mut self.channels, channel, self.forgotten);
        let tally = members.tally(incarnation, listed);
        self.forget_if_empty(channel);
        tally
    }

    fn standing(&self, channel: &TenantChannel, incarnation: Incarnation) -> Standing {
        let nobody = Members::beginning_at(0);
        let members = self.channels.get(channel).unwrap_or(&nobody);
        let is_counted = members.counted.is_some();
        Standing { occupancy: members.occupancy(incarnation), is_counted }
    }

    /// Forgets a channel that nobody is in.
    fn forget_if_empty(&mut self, channel: &TenantChannel) {
        if self.channels.get(channel).is_some_and(|members| members.count() == 0) {
            let gone = self.channels.remove(channel);
            self.forgotten = self.forgotten.max(gone.map_or(0, |members| members.offset));
        }
    }

    /// Takes somebody whose time is up.
    fn take_due(&mut self, now: Instant) -> Option<(TenantChannel, SessionId, Present)> {
        let (until, channel, session) = self.away.first()?.clone();
        if until > now {
            return None;
        }
        self.away.pop_first();
        let members = self.channels.get_mut(&channel)?;
        let present = members.by_session.remove(&session)?;
        members.offset += 1;
        Some((channel, session, present))
    }
}

fn open<'a>(
    channels: &'a mut BTreeMap<TenantChannel, Members>,
    channel: &TenantChannel,
    offset: u64,
) -> &'a mut Members {
    channels.entry(channel.clone()).or_insert_with(|| Members::beginning_at(offset))
}

#[async_trait]
impl Presence for MemoryPresence {
    async fn apply(
        &self,
        channel: &TenantChannel,
        life: &Life,
        moves: &[Move],
        terms: Terms,
    ) -> Result<Applied, StoreError> {
        let mut kept = self.kept.lock();
        let debounce = terms.debounce.min(LONGEST_AWAY);
        let fates = moves.iter().map(|one| kept.apply(channel, life, one, debounce)).collect();
        let Tally { occupancy, telling } =
            kept.tally(channel, self.incarnation, Some(terms.listed));
        Ok(Applied { fates, occupancy, telling })
    }

    async fn tally(
        &self,
        channel: &TenantChannel,
        life: &Life,
        subscribers: u64,
    ) -> Result<Tally, StoreError> {
        let kept = &mut *self.kept.lock();
        open(&mut kept.channels, channel, kept.forgotten).set_subscribers(life, subscribers);
        Ok(kept.tally(channel, self.incarnation, Some(0)))
    }

    async fn page(
        &self,
        channel: &TenantChannel,
        from: Option<PageMark>,
        limit: u32,
    ) -> Result<EntryPage, StoreError> {
        let kept = self.kept.lock();
        let incarnation = self.incarnation;
        let is_anew = from.is_some_and(|from| from.incarnation != incarnation);
        // The place is the beginning of the session to go on after, which nobody else's is likely to share.
        let after = from.filter(|_| !is_anew).map(|from| from.place);
        let is_beyond = |session: &SessionId| after.is_none_or(|after| place(session) > after);
        let members = kept.channels.get(channel);
        let mut rest = members
            .into_iter()
            .flat_map(|members| &members.by_session)
            .filter(|(session, _)| is_beyond(session));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let entries: Vec<_> = rest
            .by_ref()
            .take(limit)
            .map(|(_, present)| (present.life.clone(), present.entry.clone()))
            .collect();
        let last = entries.last().map(|(_, entry)| place(&entry.session));
        let next = last.filter(|_| rest.next().is_some());
        let next = next.map(|place| PageMark { incarnation, place });
        let occupancy = kept.standing(channel, incarnation).occupancy;
        Ok(EntryPage { entries, occupancy, next, is_anew })
    }

    async fn occupancies(&self, channels: &[TenantChannel]) -> Result<Vec<Standing>, StoreError> {
        let (kept, incarnation) = (self.kept.lock(), self.incarnation);
        Ok(channels.iter().map(|channel| kept.standing(channel, incarnation)).collect())
    }

    async fn expire(&self, _part: u16, limit: u32) -> Result<Expired, StoreError> {
        let (mut kept, incarnation) = (self.kept.lock(), self.incarnation);
        let now = Instant::now();
        let mut gone: BTreeMap<TenantChannel, Vec<_>> = BTreeMap::new();
        for _ in 0..limit {
            let Some((channel, session, present)) = kept.take_due(now) else { break };
            gone.entry(channel).or_default().push((session, present.entry.user));
        }
        let departed = |(channel, sessions)| {
            let Tally { occupancy, telling } = kept.tally(&channel, incarnation, None);
            Departed { channel, sessions, occupancy, telling }
        };
        let channels = gone.into_iter().map(departed).collect();
        let has_more = kept.away.first().is_some_and(|(until, ..)| *until <= now);
        Ok(Expired { channels, has_more })
    }

    async fn channels_of(&self, _part: u16, life: &Life) -> Result<Vec<TenantChannel>, StoreError> {
        let kept = self.kept.lock();
        let of_life = kept.channels.iter().filter(|(_, members)| members.has(life));
        Ok(of_life.take(PAGE_OF_CHANNELS).map(|(channel, _)| channel.clone()).collect())
    }

    async fn orphan(
        &self,
        channel: &TenantChannel,
        life: &Life,
        from: u64,
        debounce: Duration,
    ) -> Result<Orphaned, StoreError> {
        let (kept, incarnation) = (&mut *self.kept.lock(), self.incarnation);
        let until = Instant::now() + debounce.min(LONGEST_AWAY);
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let (mut marked, mut looked_at) = (0, 0);
        let members = open(&mut kept.channels, channel, kept.forgotten);
        if from == 0 {
            members.set_subscribers(life, 0);
        }
        for (session, present) in members.by_session.iter_mut().skip(from).take(PAGE_OF_ORPHANS) {
            looked_at += 1;
            if present.life == *life && present.away_until.is_none() {
                present.away_until = Some(until);
                kept.away.insert((until, channel.clone(), *session));
                marked += 1;
            }
        }
        let next = from.saturating_add(looked_at);
        let is_last = next >= members.by_session.len();
        let next = u64::try_from(next).ok().filter(|_| !is_last);
        Ok(Orphaned { marked, next, tally: kept.tally(channel, incarnation, None) })
    }

    async fn lives(&self, own: Option<&Life>) -> Result<Vec<Life>, StoreError> {
        let mut kept = self.kept.lock();
        kept.lives.extend(own.cloned());
        Ok(kept.lives.iter().cloned().collect())
    }

    async fn forget(&self, life: &Life) -> Result<(), StoreError> {
        self.kept.lock().lives.remove(life);
        Ok(())
    }

    fn parts(&self) -> u16 {
        1
    }

    fn part_of(&self, _channel: &TenantChannel) -> u16 {
        0
    }
}

/// Orders sessions as their names do.
fn place(session: &SessionId) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&session.as_bytes()[..8]);
    u64::from_be_bytes(first)
}
