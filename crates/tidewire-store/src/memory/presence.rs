use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use parking_lot::Mutex;
use tidewire_model::{Incarnation, Occupancy, PageMark, SessionId, TenantChannel};
use tokio::time::Instant;

use crate::{
    Age, Applied, Departed, Entry, EntryPage, Expired, Fate, LONGEST_AWAY, Life, Move, Orphaned,
    Presence, StoreError,
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
}

impl Members {
    fn of_life(&self, life: &Life) -> bool {
        self.by_session.values().any(|one| one.life == *life && one.away_until.is_none())
    }
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
        let offset = self.forgotten;
        let begin = || Members { offset, by_session: BTreeMap::new() };
        let members = self.channels.entry(channel.clone()).or_insert_with(begin);
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

    fn occupancy(&self, channel: &TenantChannel, incarnation: Incarnation) -> Occupancy {
        let members = self.channels.get(channel);
        let count = members.map_or(0, |members| members.by_session.len());
        let offset = members.map_or(0, |members| members.offset);
        Occupancy::new(u64::try_from(count).unwrap_or(u64::MAX), incarnation, offset)
    }

    /// Forgets a channel that nobody is in.
    fn forget_if_empty(&mut self, channel: &TenantChannel) {
        if self.channels.get(channel).is_some_and(|members| members.by_session.is_empty()) {
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

#[async_trait]
impl Presence for MemoryPresence {
    async fn apply(
        &self,
        channel: &TenantChannel,
        life: &Life,
        moves: &[Move],
        debounce: Duration,
    ) -> Result<Applied, StoreError> {
        let mut kept = self.kept.lock();
        let debounce = debounce.min(LONGEST_AWAY);
        let fates = moves.iter().map(|one| kept.apply(channel, life, one, debounce)).collect();
        let occupancy = kept.occupancy(channel, self.incarnation);
        kept.forget_if_empty(channel);
        Ok(Applied { fates, occupancy })
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
        let occupancy = kept.occupancy(channel, incarnation);
        Ok(EntryPage { entries, occupancy, next, is_anew })
    }

    async fn occupancies(&self, channels: &[TenantChannel]) -> Result<Vec<Occupancy>, StoreError> {
        let (kept, incarnation) = (self.kept.lock(), self.incarnation);
        Ok(channels.iter().map(|channel| kept.occupancy(channel, incarnation)).collect())
    }

    async fn expire(&self, _part: u16, limit: u32) -> Result<Expired, StoreError> {
        let (mut kept, incarnation) = (self.kept.lock(), self.incarnation);
        let now = Instant::now();
        let mut gone: BTreeMap<TenantChannel, Vec<_>> = BTreeMap::new();
        for _ in 0..limit {
            let Some((channel, session, present)) = kept.take_due(now) else { break };
            gone.entry(channel).or_default().push((session, present.entry.user));
        }
        let departed = |(channel, sessions)| Departed {
            occupancy: kept.occupancy(&channel, incarnation),
            channel,
            sessions,
        };
        let channels: Vec<_> = gone.into_iter().map(departed).collect();
        for departed in &channels {
            kept.forget_if_empty(&departed.channel);
        }
        let has_more = kept.away.first().is_some_and(|(until, ..)| *until <= now);
        Ok(Expired { channels, has_more })
    }

    async fn channels_of(&self, _part: u16, life: &Life) -> Result<Vec<TenantChannel>, StoreError> {
        let kept = self.kept.lock();
        let of_life = kept.channels.iter().filter(|(_, members)| members.of_life(life));
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
        let Some(members) = kept.channels.get_mut(channel) else {
            return Ok(Orphaned { marked, next: None, incarnation });
        };
        let present = members.by_session.iter_mut().skip(from).take(PAGE_OF_ORPHANS);
        for (session, present) in present {
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
        Ok(Orphaned { marked, next, incarnation })
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
