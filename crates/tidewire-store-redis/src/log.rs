mod entry;
mod kept;
mod known;

use std::time::Duration;

use async_trait::async_trait;
use redis::Cmd;
use tidewire_broker::{
    Appended, Draft, Head, Log, LogError, MAX_PAGE_BYTES, Outcome, Read, Retention, Secured, Status,
};
use tidewire_model::{
    DeliveryClass, Direction, Epoch, HistoryPage, HistoryQuery, Incarnation, LiveRules, Position,
    Since, TenantChannel,
};

use self::kept::KeptBytes;
use self::known::KnownPositions;
use crate::connection::RedisConnection;
use crate::error::CallError;
use crate::fence::FenceId;
use crate::library::Function;
use crate::partition::Partition;
use crate::random;
use crate::reply::{Reply, unexpected};
use crate::retry::Try;

/// The log in Redis: a stream for each channel, written by a function that numbers, deduplicates
/// and stores in one step.
///
/// The incarnations it reports can be compared within one channel only: in a cluster each partition
/// has its own.
pub struct RedisLog {
    connection: RedisConnection,
    retention: Retention,
    rules: LiveRules,
    known: KnownPositions,
    kept: KeptBytes,
}

impl RedisLog {
    /// Nodes that share a Redis should agree on the retention; the newest write decides.
    pub fn new(connection: RedisConnection, retention: Retention) -> Self {
        let known = KnownPositions::default();
        let kept = KeptBytes::default();
        Self { connection, retention, rules: LiveRules::default(), known, kept }
    }

    /// Keeps of a channel what its rule says now, and the retention of this log of any other.
    #[must_use]
    pub fn with_rules(self, rules: impl Into<LiveRules>) -> Self {
        Self { rules: rules.into(), ..self }
    }

    /// How long an id is remembered after it was last used. In a durable channel the first of several
    /// publications is repeated until replicas are back, and those behind it only then.
    fn dedupe_window(&self, channel: &TenantChannel) -> Duration {
        match self.rules.read(|rules| rules.class(channel)) {
            DeliveryClass::Durable => Duration::from_hours(1),
            DeliveryClass::Ephemeral | DeliveryClass::Recoverable => Duration::from_mins(2),
        }
    }

    fn retention(&self, channel: &TenantChannel) -> Retention {
        self.rules.read(|rules| rules.retention(channel, self.retention))
    }

    /// The fence, and the keys of what is kept of a channel.
    fn keys(&self, channel: &TenantChannel) -> (FenceId, Vec<String>) {
        let partition = Partition::of(channel);
        let fence = self.connection.fence(partition);
        let names = self.connection.keys();
        let keys =
            vec![fence.key.clone(), names.meta(partition, channel), names.log(partition, channel)];
        (fence, keys)
    }

    /// How much more the channel's tenant may keep in this part of the log, as the function takes it, if
    /// it has a bound; then what it keeps is counted in further `keys`. What goes on in its epoch was
    /// acknowledged before, and is counted only.
    async fn bound(
        &self,
        channel: &TenantChannel,
        goes_on: bool,
        keys: &mut Vec<String>,
    ) -> String {
        let tenant = &channel.tenant;
        let Some(most) = self.most_kept(channel) else { return String::new() };
        let partition = self.connection.is_cluster().then(|| Partition::of(channel));
        keys.extend(self.connection.keys().kept(partition));
        if goes_on {
            return format!(" {tenant}");
        }
        let elsewhere = match partition {
            Some(partition) => self.kept.elsewhere(&self.connection, tenant, partition).await,
            None => 0,
        };
        format!("{} {tenant}", most.saturating_sub(elsewhere))
    }

    fn most_kept(&self, channel: &TenantChannel) -> Option<u64> {
        self.rules.read(|rules| rules.limits(&channel.tenant).kept_bytes)
    }

    async fn try_append(
        &self,
        channel: &TenantChannel,
        epoch: Option<Epoch>,
        drafts: &[Draft],
    ) -> Result<Option<Outcome>, CallError> {
        if drafts.is_empty() {
            return Ok(Some(Outcome::Kept { appended: Vec::new(), by: Incarnation::ZERO }));
        }
        let (fence, mut keys) = self.keys(channel);
        keys.push(self.connection.keys().dedupe(Partition::of(channel)));
        let bound = self.bound(channel, epoch.is_some(), &mut keys).await;
        let batch = random::nonce(self.connection.random());
        let retention = self.retention(channel);
        let window = self.dedupe_window(channel).as_millis();
        // Taken before the first try is sent: whatever any of the tries stores is above it.
        let known = self.known.find(channel);
        let build = |attempt: &Try| {
            let mut call = begin_call(Function::Append, &keys, attempt, retention.ttl);
            call.arg(retention.size).arg(&batch);
            call.arg(if attempt.may_have_happened { "again" } else { "first" });
            match known {
                None => call.arg("").arg(0),
                Some(Position { epoch, offset }) => call.arg(epoch.as_str()).arg(offset),
            };
            call.arg(epoch.as_ref().map_or("", Epoch::as_str));
            call.arg(u64::try_from(window).expect("an hour at most")).arg(&bound);
            for (place, draft) in drafts.iter().enumerate() {
                call.arg(entry::dedupe_field(channel, draft))
                    .arg(entry::describe(draft, batch, place))
                    .arg(draft.payload.bytes().as_ref());
            }
            call
        };
        let (by, mut reply) =
            self.connection.call_fenced(Function::Append, &fence, APPEND_BUDGET, build).await?;
        match reply.text()?.as_str() {
            "KEPT" => {}
            "FORKED" => return Ok(Some(Outcome::Forked)),
            "FULL" => return Ok(None),
            _ => return Err(unexpected("what became of a batch")),
        }
        let appended: Vec<_> =
            drafts.iter().map(|_| parse_appended(&mut reply)).collect::<Result<_, _>>()?;
        if let Some(newest) = appended.iter().rfind(|one| !one.duplicate) {
            self.known.insert(channel, newest.position);
        }
        Ok(Some(Outcome::Kept { appended, by }))
    }

    async fn try_read(
        &self,
        channel: &TenantChannel,
        since: Since,
        limit: usize,
    ) -> Result<Read, CallError> {
        let (fence, keys) = self.keys(channel);
        let ttl = self.retention(channel).ttl;
        let build = |attempt: &Try| {
            let mut call = begin_call(Function::Read, &keys, attempt, ttl);
            call.arg(limit.clamp(1, MOST_ENTRIES)).arg(MAX_PAGE_BYTES);
            match since {
                Since::Now => call.arg("now"),
                Since::Last(count) => call.arg("last").arg(count),
                Since::Position(Position { epoch, offset }) => {
                    call.arg("position").arg(epoch.as_str()).arg(offset)
                }
            };
            call
        };
        let budget = self.connection.deadline();
        let (_, mut reply) =
            self.connection.call_fenced(Function::Read, &fence, budget, build).await?;
        let status = parse_status(&reply.text()?)?;
        let base = reply.number()?;
        let top = reply.number()?;
        let lineage = entry::parse_lineage(&reply.text()?)?;
        let mut publications = entry::parse_all(reply.nested()?, channel, &lineage)?;
        publications.truncate(limit.min(entry::count_without_hole(&publications, base)));
        let epoch = lineage.current();
        let incarnation = epoch.incarnation();
        self.known.insert(channel, Position::new(epoch, top));
        Ok(Read { status, base, publications, epoch, top, lineage, incarnation })
    }

    async fn try_page(
        &self,
        channel: &TenantChannel,
        query: HistoryQuery,
    ) -> Result<HistoryPage, CallError> {
        let (fence, keys) = self.keys(channel);
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX).clamp(1, MOST_ENTRIES);
        let direction = match query.direction {
            Direction::Forward => "forward",
            Direction::Backward => "backward",
        };
        let ttl = self.retention(channel).ttl;
        let build = |attempt: &Try| {
            let mut call = begin_call(Function::Page, &keys, attempt, ttl);
            call.arg(limit).arg(MAX_PAGE_BYTES).arg(direction);
            match query.from {
                None => call.arg(""),
                Some(from) => call.arg(from.epoch.as_str()).arg(from.offset),
            };
            call
        };
        let budget = self.connection.deadline();
        let (_, mut reply) =
            self.connection.call_fenced(Function::Page, &fence, budget, build).await?;
        let top = reply.number()?;
        let lineage = entry::parse_lineage(&reply.text()?)?;
        let publications = entry::parse_all(reply.nested()?, channel, &lineage)?;
        let has_more = reply.number()? == 1;
        let last = publications.last().map(|last| last.position);
        let top = Position::new(lineage.current(), top);
        Ok(HistoryPage { publications, top, next: last.filter(|_| has_more) })
    }

    async fn try_heads(&self, channels: &[TenantChannel]) -> Result<Vec<Head>, CallError> {
        let mut heads = vec![None; channels.len()];
        for group in self.heads_groups(channels) {
            let found = self.heads_of(&group, channels).await?;
            for (index, head) in group.into_iter().zip(found) {
                self.known.insert(&channels[index], head.position);
                heads[index] = Some(head);
            }
        }
        let all: Option<Vec<_>> = heads.into_iter().collect();
        Ok(all.expect("the groups hold every channel"))
    }

    /// Which channels can be asked for together: those of one partition in a cluster, any
    /// elsewhere, but not so many that others have to wait long.
    fn heads_groups(&self, channels: &[TenantChannel]) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..channels.len()).collect();
        let place = |index: &usize| self.part_of(&channels[*index]);
        order.sort_by_key(place);
        order
            .chunk_by(|left, right| place(left) == place(right))
            .flat_map(|group| group.chunks(MOST_HEADS))
            .map(Vec::from)
            .collect()
    }

    async fn heads_of(
        &self,
        group: &[usize],
        channels: &[TenantChannel],
    ) -> Result<Vec<Head>, CallError> {
        let fence = self.connection.fence(Partition::of(&channels[group[0]]));
        let mut keys = vec![fence.key.clone()];
        for channel in group.iter().map(|index| &channels[*index]) {
            let partition = Partition::of(channel);
            keys.push(self.connection.keys().meta(partition, channel));
            keys.push(self.connection.keys().log(partition, channel));
        }
        // It is about the numbering only, which may outlive its publications by longer.
        let ttls = group.iter().map(|index| self.retention(&channels[*index]).ttl);
        let ttl = ttls.max().unwrap_or_default();
        let build = |attempt: &Try| begin_call(Function::Heads, &keys, attempt, ttl);
        let budget = self.connection.deadline();
        let (_, mut reply) =
            self.connection.call_fenced(Function::Heads, &fence, budget, build).await?;
        group.iter().map(|_| parse_head(&mut reply)).collect()
    }

    /// Asks for the heads of no channel: the fence answers with its incarnation.
    async fn try_incarnation(&self, channel: &TenantChannel) -> Result<Incarnation, CallError> {
        let fence = self.connection.fence(Partition::of(channel));
        let keys = [fence.key.clone()];
        let ttl = self.retention.ttl;
        let build = |attempt: &Try| begin_call(Function::Heads, &keys, attempt, ttl);
        let budget = self.connection.deadline();
        let (incarnation, _) =
            self.connection.call_fenced(Function::Heads, &fence, budget, build).await?;
        Ok(incarnation)
    }
}

#[async_trait]
impl Log for RedisLog {
    async fn append_in(
        &self,
        channel: &TenantChannel,
        epoch: Option<Epoch>,
        drafts: &[Draft],
    ) -> Result<Outcome, LogError> {
        let outcome = self.try_append(channel, epoch, drafts).await;
        let outcome = outcome.map_err(|error| error.into_log_error(self.connection.address()))?;
        let most = self.most_kept(channel).unwrap_or_default();
        outcome.ok_or(LogError::Full { most })
    }

    async fn read(
        &self,
        channel: &TenantChannel,
        since: Since,
        limit: usize,
    ) -> Result<Read, LogError> {
        let read = self.try_read(channel, since, limit).await;
        read.map_err(|error| error.into_log_error(self.connection.address()))
    }

    async fn page(
        &self,
        channel: &TenantChannel,
        query: HistoryQuery,
    ) -> Result<HistoryPage, LogError> {
        let page = self.try_page(channel, query).await;
        page.map_err(|error| error.into_log_error(self.connection.address()))
    }

    async fn heads(&self, channels: &[TenantChannel]) -> Result<Vec<Head>, LogError> {
        let heads = self.try_heads(channels).await;
        heads.map_err(|error| error.into_log_error(self.connection.address()))
    }

    async fn incarnation(&self, channel: &TenantChannel) -> Result<Incarnation, LogError> {
        let incarnation = self.try_incarnation(channel).await;
        incarnation.map_err(|error| error.into_log_error(self.connection.address()))
    }

    fn hear_of(&self, channel: &TenantChannel, incarnation: Incarnation) {
        let fence = self.connection.fence(Partition::of(channel));
        self.connection.hear_of(&fence, incarnation);
    }

    fn part_of(&self, channel: &TenantChannel) -> u16 {
        let index = if self.connection.is_cluster() { Partition::of(channel).index() } else { 0 };
        u16::try_from(index).expect("there are 512")
    }

    async fn confirm(&self, channel: &TenantChannel, by: Incarnation) -> Result<Secured, LogError> {
        let secured = self.connection.confirm(Partition::of(channel), by).await;
        secured.map_err(|error| error.into_log_error(self.connection.address()))
    }

    async fn health(&self) -> Result<(), LogError> {
        let healthy = self.connection.health().await;
        healthy.map_err(|error| error.into_log_error(self.connection.address()))
    }

    async fn secure(&self, within: Duration) -> Result<Secured, LogError> {
        let secured = self.connection.secure(within).await;
        secured.map_err(|error| error.into_log_error(self.connection.address()))
    }
}

/// Begins a call of a fenced function, about channels that are kept for `ttl`.
fn begin_call(function: Function, keys: &[String], attempt: &Try, ttl: Duration) -> Cmd {
    let mut call = function.call(keys);
    let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    call.arg(attempt.seen.as_str())
        .arg(&attempt.nonce)
        .arg(u8::from(attempt.raise))
        .arg(ttl.clamp(1, LONGEST_TTL_MS));
    call
}

fn parse_appended(reply: &mut Reply) -> Result<Appended, CallError> {
    let position = Position::new(reply.epoch()?, reply.number()?);
    Ok(Appended { position, duplicate: reply.number()? == 1, time_ms: reply.number()? })
}

fn parse_head(reply: &mut Reply) -> Result<Head, CallError> {
    let position = Position::new(reply.epoch()?, reply.number()?);
    Ok(Head { position, incarnation: position.epoch.incarnation() })
}

fn parse_status(letter: &str) -> Result<Status, CallError> {
    match letter {
        "F" => Ok(Status::Fresh),
        "C" => Ok(Status::Continues),
        "W" => Ok(Status::Rewound),
        "X" => Ok(Status::Reset),
        "T" => Ok(Status::Trimmed),
        _ => Err(unexpected("a status")),
    }
}

/// How long an append whose reply was lost is repeated before its outcome is said to be unknown.
const APPEND_BUDGET: Duration = Duration::from_secs(5);

/// The most publications of one reply: a caller that wants more reads on.
const MOST_ENTRIES: usize = 1_000;

/// The most channels of one call for heads, which takes Redis about half a millisecond.
const MOST_HEADS: usize = 200;

/// Ten years: beyond all use, and far from where Redis' times overflow.
const LONGEST_TTL_MS: u64 = 10 * 366 * 24 * 60 * 60 * 1_000;
