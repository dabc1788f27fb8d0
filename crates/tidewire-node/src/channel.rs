//! Joining and leaving channels, and following those that somebody has joined.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tidewire_broker::{BrokerError, LogError, Partition, Read, Status};
use tidewire_hub::Outbox;
use tidewire_model::{
    ConnectionId, Delivery, ErrorCode, Failure, Incarnation, JoinId, Joined, Since, TenantChannel,
    Tenure,
};
use tokio::time::Instant;

use crate::ask::{Join, refuse};
use crate::audience::{Audience, Tenures};
use crate::feed::Feed;
use crate::publish::stopped;
use crate::shard::{Done, PAGE, Shard, Surroundings};

/// A channel this node follows.
#[derive(Debug)]
pub(crate) struct ChannelState {
    pub(crate) feed: Feed,
    pub(crate) audience: Audience,
    joiners: Vec<Joiner>,
    /// When something was last delivered, or when it was first followed.
    pub(crate) active_at: Instant,
    /// Since when nobody has wanted it.
    pub(crate) idle_since: Option<Instant>,
    /// When to tell of what came and has no place here; see `classes.rs`.
    pub(crate) loss_told_at: Option<Instant>,
}

/// Somebody who is not in step yet.
#[derive(Debug)]
struct Joiner {
    connection: ConnectionId,
    join: JoinId,
    since: Since,
    outbox: Outbox,
    give_up_at: Instant,
    waits_for: WaitsFor,
    /// How often what the log said was doubted.
    doubts: u32,
    /// Held as long as anybody waits: a read that has not begun when it is gone need not.
    presence: Arc<()>,
}

#[derive(Debug)]
enum WaitsFor {
    /// The feed to be opened, or to catch up with what the log said.
    Feed,
    /// Its own read of the log.
    Read,
    /// Another try.
    Retry { at: Instant },
}

/// How long a join may wait for the log before it is refused.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(100);
/// How often a client is believed rather than the log that does not know its position: half a second.
const MOST_DOUBTS: u32 = 5;

impl ChannelState {
    /// One that nobody has joined yet.
    pub(crate) fn new(feed: Feed, now: Instant) -> Self {
        Self {
            feed,
            audience: Audience::default(),
            joiners: Vec::new(),
            active_at: now,
            idle_since: None,
            loss_told_at: None,
        }
    }

    /// When something is to be done about this channel without anything happening to it.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let joiners = self.joiners.iter().map(|joiner| match joiner.waits_for {
            WaitsFor::Retry { at } => at.min(joiner.give_up_at),
            WaitsFor::Feed | WaitsFor::Read => joiner.give_up_at,
        });
        joiners.chain(self.feed.wake_at()).chain(self.loss_told_at).min()
    }

    pub(crate) fn has_joiners(&self) -> bool {
        !self.joiners.is_empty()
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.has_joiners() || !self.audience.is_empty()
    }

    /// Whether its position is held against the log's now and again: somebody would miss what is
    /// missing, and there is a log to know of it.
    pub(crate) fn is_compared(&self) -> bool {
        !self.audience.is_empty() && !self.feed.is_fleeting()
    }

    /// Remembers since when nobody has wanted the channel.
    pub(crate) fn note_if_idle(&mut self, now: Instant) {
        if !self.is_wanted() {
            self.idle_since.get_or_insert(now);
        }
    }

    /// Has everybody who is not in step yet wait for the feed that there is now: what they have asked
    /// the log may be of no use with it.
    pub(crate) fn put_joiners_back(&mut self) {
        for joiner in &mut self.joiners {
            joiner.waits_for = WaitsFor::Feed;
        }
    }

    fn joiner(&mut self, (connection, join): (ConnectionId, JoinId)) -> Option<&mut Joiner> {
        self.joiners
            .iter_mut()
            .find(|joiner| (joiner.connection, joiner.join) == (connection, join))
    }
}

impl Joiner {
    /// Reads a page for this joiner, when the node has fewer such reads under way than it may, and
    /// if it is still there then.
    fn read(&self, around: &Surroundings, channel: TenantChannel) -> BoxFuture<'static, Done> {
        let (log, joins) = (Arc::clone(&around.log), Arc::clone(&around.joins));
        let (since, key) = (self.since, (self.connection, self.join));
        let presence = Arc::downgrade(&self.presence);
        Box::pin(async move {
            let _permit = joins.acquire().await;
            if presence.strong_count() == 0 {
                return Done::Nothing;
            }
            let outcome = log.read(&channel, since, PAGE).await;
            Done::ReadForJoin(channel, key, outcome)
        })
    }

    /// The life of the log that this one has seen something of, if the log that was `read` may be
    /// one that it has replaced. Only for a while: what a client says can be made up.
    fn doubt(&mut self, read: &Read) -> Option<Incarnation> {
        let Since::Position(position) = self.since else { return None };
        let seen = position.epoch.incarnation();
        let is_doubtful = read.status == Status::Reset && seen > read.incarnation;
        if !is_doubtful || self.doubts == MOST_DOUBTS {
            return None;
        }
        self.doubts += 1;
        Some(seen)
    }

    fn refuse(self, channel: TenantChannel, failure: Failure) {
        let Self { connection, join, outbox, .. } = self;
        refuse(&outbox, (channel, connection, join), failure);
    }
}

impl Shard {
    pub(crate) fn join(&mut self, join: Join, now: Instant) {
        if let Err(failure) = self.follow_for(&join, now) {
            return join.refuse(failure);
        }
        let Join { channel, since, connection, id: join, outbox, .. } = join;
        let since = match since {
            Since::Now if self.rules.gives_latest(&channel) => Since::Last(1),
            since => since,
        };
        let Some(state) = self.channels.get_mut(&channel) else { return };
        state.idle_since = None;
        let give_up_at = now + PATIENCE;
        let waits_for = WaitsFor::Feed;
        let presence = Arc::new(());
        state.joiners.push(Joiner {
            connection,
            join,
            since,
            outbox,
            give_up_at,
            waits_for,
            doubts: 0,
            presence,
        });
        self.settle(&channel, now);
    }

    /// Forgets somebody who is not in step yet. If the answer is given already, nobody is there to
    /// forget: its place comes back by [`Shard::release`].
    pub(crate) fn withdraw(
        &mut self,
        channel: &TenantChannel,
        key: (ConnectionId, JoinId),
        now: Instant,
    ) {
        let Some(state) = self.channels.get_mut(channel) else { return };
        state.joiners.retain(|joiner| (joiner.connection, joiner.join) != key);
        state.note_if_idle(now);
    }

    pub(crate) fn release(
        &mut self,
        channel: &TenantChannel,
        (outbox, tenure): (&Outbox, Tenure),
        now: Instant,
    ) {
        let Some(state) = self.channels.get_mut(channel) else { return };
        state.audience.release(outbox, tenure);
        state.note_if_idle(now);
    }

    /// Ends a worker's tenure, with a last word that tells it so.
    pub(crate) fn give_up(&mut self, channel: TenantChannel, outbox: &Outbox, now: Instant) {
        let mut ended = None;
        if let Some(state) = self.channels.get_mut(&channel) {
            ended = state.audience.dismiss(outbox);
            state.note_if_idle(now);
        }
        outbox.lag(channel, ended.unwrap_or_default());
    }

    /// Tells everybody who is not in step yet that the node is stopping.
    pub(crate) fn refuse_joiners(&mut self) {
        let mut channels: Vec<_> = self.channels.iter_mut().collect();
        channels.sort_unstable_by_key(|(channel, _)| *channel);
        for (channel, state) in channels {
            for joiner in state.joiners.drain(..) {
                joiner.refuse(channel.clone(), stopped());
            }
        }
    }

    /// The broker knows that this node wants a partition, so the log may be read: what is published
    /// from now on arrives by itself. If the broker is away, reading now and again has to do until
    /// it is back.
    pub(crate) fn subscribed(
        &mut self,
        partition: &Partition,
        outcome: &Result<(), BrokerError>,
        now: Instant,
    ) {
        if let Err(error) = outcome {
            tracing::warn!(%error, tenant = %partition.tenant, "cannot subscribe to a partition");
        }
        self.interest.settle(partition, now);
        let of_partition =
            self.channels.keys().filter(|channel| Partition::of(channel) == *partition);
        let mut channels: Vec<_> = of_partition.cloned().collect();
        channels.sort_unstable();
        for channel in channels {
            if let Some(state) = self.channels.get_mut(&channel) {
                state.feed.begin(now, now);
            }
            self.settle(&channel, now);
        }
    }

    /// Brings in everybody who can be, starts reads for those who need one, and refuses those who
    /// have waited too long.
    pub(crate) fn advance_joins(&mut self, channel: &TenantChannel, now: Instant) {
        let Some(state) = self.channels.get_mut(channel) else { return };
        let is_open = state.feed.position().is_some();
        for mut joiner in std::mem::take(&mut state.joiners) {
            if joiner.give_up_at <= now {
                joiner.refuse(channel.clone(), out_of_reach());
                continue;
            }
            let is_due = match joiner.waits_for {
                WaitsFor::Feed => is_open,
                WaitsFor::Read => false,
                WaitsFor::Retry { at } => is_open && at <= now,
            };
            if is_due {
                if let Some(start) = state.feed.join(joiner.since) {
                    self.around.metrics.recovered(&start);
                    let is_sampled = self.rules.is_sampled(channel);
                    admit(
                        &mut state.audience,
                        &mut self.tenures,
                        (channel, joiner),
                        Joined { is_sampled, ..start },
                    );
                    continue;
                }
                joiner.waits_for = WaitsFor::Read;
                self.running.push(joiner.read(&self.around, channel.clone()));
            }
            state.joiners.push(joiner);
        }
    }

    pub(crate) fn finish_read_for_join(
        &mut self,
        channel: &TenantChannel,
        key: (ConnectionId, JoinId),
        outcome: Result<Read, LogError>,
        now: Instant,
    ) {
        let Some(state) = self.channels.get_mut(channel) else { return };
        // Whoever left meanwhile is not there any more, and needs no answer.
        let Some(joiner) = state.joiner(key) else { return };
        let since = joiner.since;
        if let Some(seen) = outcome.as_ref().ok().and_then(|read| joiner.doubt(read)) {
            self.around.log.hear_of(channel, seen);
            self.wait_for_retry(channel, key, now);
            return self.settle(channel, now);
        }
        let answer = outcome.map(|read| {
            state.feed.observe(read.top_position(), now);
            state.feed.splice(since, read)
        });
        match answer {
            Ok(Ok(start)) => {
                let index = state.joiners.iter().position(|j| (j.connection, j.join) == key);
                if let Some(index) = index {
                    let joiner = state.joiners.swap_remove(index);
                    self.around.metrics.recovered(&start);
                    let is_sampled = self.rules.is_sampled(channel);
                    admit(
                        &mut state.audience,
                        &mut self.tenures,
                        (channel, joiner),
                        Joined { is_sampled, ..start },
                    );
                    self.doubt_count(channel);
                }
            }
            Ok(Err(_out_of_step)) => {
                state.feed.read_by(now);
                self.wait_for_retry(channel, key, now);
            }
            Err(error) => {
                tracing::debug!(%channel, %error, "cannot read the log for a join");
                self.wait_for_retry(channel, key, now);
            }
        }
        self.settle(channel, now);
    }

    fn wait_for_retry(
        &mut self,
        channel: &TenantChannel,
        key: (ConnectionId, JoinId),
        now: Instant,
    ) {
        let joiner = self.channels.get_mut(channel).and_then(|state| state.joiner(key));
        if let Some(joiner) = joiner {
            joiner.waits_for = WaitsFor::Retry { at: now + RETRY };
        }
    }
}

/// Answers a join, and gives its worker a place in the channel if it is in step.
fn admit(
    audience: &mut Audience,
    tenures: &mut Tenures,
    (channel, joiner): (&TenantChannel, Joiner),
    start: Joined,
) {
    let Joiner { connection, join, outbox, .. } = joiner;
    let tenure =
        if start.live { audience.admit(outbox.clone(), tenures) } else { Tenure::default() };
    let (channel, outcome) = (channel.clone(), Ok(start));
    outbox.answer(Delivery::Joined { channel, connection, join, tenure, outcome });
}

/// What somebody is told who has waited too long.
fn out_of_reach() -> Failure {
    let message = "the channel's log cannot be reached; try again";
    Failure::new(ErrorCode::Unavailable, message).retry_after(RETRY)
}
