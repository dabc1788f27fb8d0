//! The log of a single process: everything a log over a network promises, except survival of a
//! crash.

mod kept;
mod recent;
mod saved;

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use parking_lot::Mutex;
use tidewire_model::{
    Epoch, HistoryPage, HistoryQuery, Incarnation, LiveRules, Position, Publication, Since, Tenant,
    TenantChannel,
};
use tokio::time::Instant;

use self::kept::Kept;
use self::recent::RecentIds;
pub use self::saved::{SavedChannel, SavedId, SavedLog};
use crate::{Appended, Draft, Head, Log, LogError, Outcome, Read, Retention};

/// Orders publications and keeps the newest of each channel in memory.
///
/// Bounded: per channel by [`Retention`], in ids by 262,144 of the last two minutes (beyond that the
/// oldest is forgotten early, and repeating it stores it again), in idle channels by forgetting them
/// a day after their publications ran out, or an hour after their last use when they had none.
pub struct MemoryLog {
    retention: Retention,
    rules: LiveRules,
    sources: Sources,
    state: Mutex<State>,
}

/// What a [`MemoryLog`] takes from outside, so that a test can hold it still.
///
/// How long something has been kept is measured by tokio's clock, which a test can pause.
pub struct Sources {
    /// Milliseconds since the Unix epoch.
    pub unix_ms: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Tells epochs and incarnations of one millisecond apart.
    pub random: Box<dyn Fn() -> u32 + Send + Sync>,
}

impl Default for Sources {
    /// The system's clock and random numbers.
    fn default() -> Self {
        Self { unix_ms: Box::new(system_unix_ms), random: Box::new(system_random) }
    }
}

fn system_unix_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

fn system_random() -> u32 {
    getrandom::u32().expect("the system has random numbers")
}

impl MemoryLog {
    pub fn new(retention: Retention) -> Self {
        Self::with_sources(retention, Sources::default())
    }

    pub fn with_sources(retention: Retention, sources: Sources) -> Self {
        let started_ms = (sources.unix_ms)();
        let state = State {
            started_ms,
            incarnation: Incarnation::new(started_ms, (sources.random)()),
            channels: HashMap::new(),
            recent: RecentIds::default(),
            next_sweep: Instant::now() + SWEEP_INTERVAL,
        };
        Self { retention, rules: LiveRules::default(), sources, state: Mutex::new(state) }
    }

    /// Keeps of a channel what its rule says now, and the retention of this log of any other.
    #[must_use]
    pub fn with_rules(self, rules: impl Into<LiveRules>) -> Self {
        Self { rules: rules.into(), ..self }
    }

    fn retention(&self, channel: &TenantChannel) -> Retention {
        self.rules.read(|rules| rules.retention(channel, self.retention))
    }

    /// Begins a new incarnation, as if the log had crashed and come back without the newest `lost`
    /// publications of each channel. For tests of what a failover does.
    pub fn restart(&self, lost: u64) {
        let mut state = self.state.lock();
        state.started_ms = (self.sources.unix_ms)().max(state.started_ms + 1);
        state.incarnation = Incarnation::new(state.started_ms, (self.sources.random)());
        let State { channels, recent, .. } = &mut *state;
        for kept in channels.values_mut() {
            kept.lose(lost);
        }
        recent.retain(|channel, position| {
            channels.get(channel).is_some_and(|kept| position.offset <= kept.top())
        });
    }

    /// What is kept of `channel`, which has begun its life in this incarnation then.
    fn open<'a>(&self, state: &'a mut State, channel: &TenantChannel) -> Open<'a> {
        let (now, retention) = (Instant::now(), self.retention(channel));
        state.sweep(now, |channel| self.retention(channel));
        let State { channels, recent, incarnation, .. } = state;
        if !channels.contains_key(channel) {
            channels.insert(channel.clone(), Kept::new(now));
        }
        let kept = channels.get_mut(channel).expect("inserted above if it was missing");
        kept.expire(now, retention.ttl);
        kept.touch(now);
        kept.live_in(*incarnation, || (self.sources.random)());
        let now_ms = (self.sources.unix_ms)();
        Open { now, now_ms, kept, recent, retention, incarnation: *incarnation }
    }

    /// What is kept of all channels of a tenant: a look at all channels there are, for those few tenants
    /// of a single process that have a bound.
    fn kept_bytes(&self, state: &mut State, tenant: &Tenant) -> u64 {
        let now = Instant::now();
        let own = state.channels.iter_mut().filter(|(channel, _)| channel.tenant == *tenant);
        let kept = own.map(|(channel, kept)| {
            kept.expire(now, self.retention(channel).ttl);
            kept.bytes()
        });
        kept.sum()
    }

    /// What is kept of `channel` for who only asks; `None` if it has never begun.
    fn peek<'a>(&self, state: &'a mut State, channel: &TenantChannel) -> Option<&'a mut Kept> {
        let now = Instant::now();
        state.sweep(now, |channel| self.retention(channel));
        let kept = state.channels.get_mut(channel)?;
        kept.expire(now, self.retention(channel).ttl);
        kept.live_in(state.incarnation, || (self.sources.random)());
        Some(kept)
    }

    /// Where a channel stands that has never begun: in an epoch of this answer alone.
    fn nowhere(&self, incarnation: Incarnation) -> Position {
        Position::new(incarnation.epoch((self.sources.random)()), 0)
    }
}

fn append_one(open: &mut Open<'_>, channel: &TenantChannel, draft: &Draft) -> Appended {
    let Open { now, now_ms, kept, recent, retention, .. } = open;
    let key = draft.dedupe_key(&channel.channel);
    if let Some(position) = key.and_then(|key| recent.find(channel, key, *now)) {
        let time_ms = kept.find(position.offset).map_or(*now_ms, |first| first.time_ms);
        return Appended { position, time_ms, duplicate: true };
    }
    let position = kept.next_position();
    kept.push(publication(channel, position, *now_ms, draft), retention.size);
    if let Some(key) = key {
        recent.insert(channel, key, position, *now);
    }
    Appended { position, time_ms: *now_ms, duplicate: false }
}

fn publication(
    channel: &TenantChannel,
    position: Position,
    time_ms: u64,
    draft: &Draft,
) -> Publication {
    Publication {
        channel: channel.clone(),
        position,
        id: draft.id.clone(),
        time_ms,
        publisher: draft.publisher.clone(),
        payload: draft.payload.clone(),
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn append_in(
        &self,
        channel: &TenantChannel,
        epoch: Option<Epoch>,
        drafts: &[Draft],
    ) -> Result<Outcome, LogError> {
        let mut state = self.state.lock();
        let most = self.rules.read(|rules| rules.limits(&channel.tenant).kept_bytes);
        if let Some(most) = most.filter(|_| epoch.is_none())
            && self.kept_bytes(&mut state, &channel.tenant) >= most
        {
            return Err(LogError::Full { most });
        }
        let mut open = self.open(&mut state, channel);
        if epoch.is_some_and(|epoch| epoch != open.kept.top_position().epoch) {
            return Ok(Outcome::Forked);
        }
        let append_one = |draft| append_one(&mut open, channel, draft);
        let appended = drafts.iter().map(append_one).collect();
        Ok(Outcome::Kept { appended, by: open.incarnation })
    }

    async fn read(
        &self,
        channel: &TenantChannel,
        since: Since,
        limit: usize,
    ) -> Result<Read, LogError> {
        let mut state = self.state.lock();
        let open = self.open(&mut state, channel);
        Ok(open.kept.read(since, limit, open.incarnation))
    }

    async fn page(
        &self,
        channel: &TenantChannel,
        query: HistoryQuery,
    ) -> Result<HistoryPage, LogError> {
        let mut state = self.state.lock();
        let incarnation = state.incarnation;
        Ok(match self.peek(&mut state, channel) {
            Some(kept) => kept.page(query),
            None => {
                HistoryPage { publications: Vec::new(), top: self.nowhere(incarnation), next: None }
            }
        })
    }

    async fn heads(&self, channels: &[TenantChannel]) -> Result<Vec<Head>, LogError> {
        let mut state = self.state.lock();
        let incarnation = state.incarnation;
        let head = |channel| {
            let position = match self.peek(&mut state, channel) {
                Some(kept) => {
                    kept.touch(Instant::now());
                    kept.top_position()
                }
                None => self.nowhere(incarnation),
            };
            Head { position, incarnation }
        };
        Ok(channels.iter().map(head).collect())
    }

    async fn incarnation(&self, _channel: &TenantChannel) -> Result<Incarnation, LogError> {
        Ok(self.state.lock().incarnation)
    }

    async fn health(&self) -> Result<(), LogError> {
        Ok(())
    }
}

/// One channel, and what appending to it takes.
struct Open<'a> {
    now: Instant,
    /// The same for all of a batch, in milliseconds since the Unix epoch.
    now_ms: u64,
    kept: &'a mut Kept,
    recent: &'a mut RecentIds,
    retention: Retention,
    incarnation: Incarnation,
}

struct State {
    /// Which `unix_ms` the incarnation was made of.
    started_ms: u64,
    incarnation: Incarnation,
    channels: HashMap<TenantChannel, Kept>,
    recent: RecentIds,
    next_sweep: Instant,
}

impl State {
    /// Forgets channels that have been idle long enough, at most once a minute.
    fn sweep(&mut self, now: Instant, retention: impl Fn(&TenantChannel) -> Retention) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_INTERVAL;
        self.channels.retain(|channel, kept| {
            let retention = retention(channel);
            kept.expire(now, retention.ttl);
            let ttl = if kept.top() == 0 { UNUSED_TTL } else { retention.ttl + NUMBERING_TTL };
            now < kept.touched() + ttl
        });
    }
}

const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// How much longer than its publications a channel's numbering is kept, so that it goes on where it
/// left off.
const NUMBERING_TTL: Duration = Duration::from_hours(24);

/// How long a channel is kept that nobody has published to.
const UNUSED_TTL: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests;
