//! The owner of a share of the node's channels: one task, one loop, no lock.
//!
//! It waits for one [`Action`], applies it, and starts what follows from it. What takes time (the
//! log, the broker) runs as futures that it owns and polls, and comes back as [`Done`]. A channel
//! belongs to exactly one shard, so its publications are handled in one order.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tidewire_broker::{
    Broker, BrokerError, Draft, Head, Log, LogError, Outcome, Partition, Read, Secured,
};
use tidewire_model::{
    ChannelRules, ConnectionId, Envelope, Incarnation, JoinId, LiveRules, Position, Publication,
    Random, Reader, TenantChannel,
};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::append::Newest;
use crate::ask::{Ask, Reply};
use crate::audience::Tenures;
use crate::by_channel::ByChannel;
use crate::channel::ChannelState;
use crate::checks::Checks;
use crate::classes::Reclassing;
use crate::confirm::Kept;
use crate::feed::Step;
use crate::following::Followed;
use crate::interest::Interest;
use crate::lane::{Batch, Lane, Pending};
use crate::metrics::Metrics;
use crate::paces::Paces;
use crate::presence::{self, Desk, PresenceWay};
use crate::publish::stopped;
use crate::ring::RingBounds;
use crate::tail::{Tail, TailLimits};
use crate::throttle::Throttle;
use crate::timers::Timers;

/// Everything another task can ask of a shard.
#[derive(Debug)]
pub(crate) enum Action {
    Ask {
        ask: Ask,
        at: Instant,
    },
    Publish {
        channel: TenantChannel,
        pending: Pending,
    },
    Receive(Publication),
    Observe {
        channel: TenantChannel,
        position: Position,
    },
    /// In so long a time it may be to be told how many members the channel has.
    Owe {
        channel: TenantChannel,
        wait: Duration,
    },
}

/// What a future of this shard's came to.
pub(crate) enum Done {
    Subscribed(Partition, Result<(), BrokerError>),
    Read(TenantChannel, Result<Read, LogError>),
    ReadForJoin(TenantChannel, (ConnectionId, JoinId), Result<Read, LogError>),
    Appended(TenantChannel, Batch, Result<Outcome, LogError>),
    Confirmed(TenantChannel, Kept, Result<Secured, LogError>),
    Compared(TenantChannel, Result<Read, LogError>),
    Healed(TenantChannel, Vec<Draft>, Result<Outcome, LogError>),
    Watched(u16, Result<Incarnation, LogError>),
    Heads(Vec<TenantChannel>, Result<Vec<Head>, LogError>),
    Presence(presence::Done),
    /// Whoever wanted it had left before it was begun.
    Nothing,
}

/// What all shards of a node share.
pub(crate) struct Surroundings {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) broker: Arc<dyn Broker>,
    /// Bounds the reads this node has under way to repair channels.
    pub(crate) repairs: Arc<Semaphore>,
    /// Bounds the reads this node has under way to bring subscribers in step: apart from repairs,
    /// so that those who return cannot hold up those who are there.
    pub(crate) joins: Arc<Semaphore>,
    /// Whether the broker does not bring what others publish; see `hearing.rs`.
    pub(crate) is_deaf: Arc<AtomicBool>,
    /// How many channels a shard compares each second while it is deaf.
    pub(crate) polled_per_second: usize,
    pub(crate) rings: Arc<RingBounds>,
    /// Of each shard.
    pub(crate) tail_limits: TailLimits,
    pub(crate) presence: Arc<PresenceWay>,
    pub(crate) followed: Arc<Followed>,
    /// Tells the node's own numberings apart.
    pub(crate) random: Random,
    pub(crate) metrics: Metrics,
}

/// Set by anyone to say that publications may have been lost on their way to this shard.
#[derive(Debug, Default)]
pub(crate) struct Suspicion(Notify);

impl Suspicion {
    pub(crate) fn raise(&self) {
        self.0.notify_one();
    }
}

pub(crate) struct Shard {
    pub(crate) around: Arc<Surroundings>,
    /// As they were when the turn began.
    pub(crate) rules: Reader<ChannelRules>,
    pub(crate) channels: ByChannel<ChannelState>,
    pub(crate) interest: Interest,
    pub(crate) tenures: Tenures,
    pub(crate) lanes: ByChannel<Lane>,
    pub(crate) paces: Paces,
    /// How many publications are kept and wait to be copied.
    pub(crate) unconfirmed: usize,
    pub(crate) tail: Tail,
    /// When to go on with heals that have failed.
    pub(crate) heals: Timers,
    /// Parts of the log that have been asked which life they are in.
    pub(crate) watching: HashSet<u16>,
    pub(crate) has_missed_watch: bool,
    /// Channels that were published to from here, until that is announced.
    pub(crate) quiet: ByChannel<Newest>,
    pub(crate) announcements: Timers,
    pub(crate) alarms: Timers,
    pub(crate) running: FuturesUnordered<BoxFuture<'static, Done>>,
    pub(crate) checks: Checks,
    pub(crate) reclassing: Reclassing,
    pub(crate) desk: Desk,
    pub(crate) gap_warnings: Throttle,
    /// Reused between publications.
    pub(crate) steps: Vec<Step>,
}

/// A read returns at most this many publications: what a slow or returning subscriber is handed at a
/// time.
pub(crate) const PAGE: usize = 256;
const TICK: Duration = Duration::from_secs(1);
/// How many queued actions are applied before timers and finished futures have their turn.
const BURST: usize = 256;

impl Shard {
    pub(crate) fn new(around: Arc<Surroundings>, rules: &LiveRules) -> Self {
        let tail = Tail::new(around.tail_limits);
        Self {
            around,
            rules: rules.reader(),
            channels: ByChannel::default(),
            interest: Interest::default(),
            tenures: Tenures::default(),
            lanes: ByChannel::default(),
            paces: Paces::new(Instant::now()),
            unconfirmed: 0,
            tail,
            heals: Timers::default(),
            watching: HashSet::new(),
            has_missed_watch: false,
            quiet: ByChannel::default(),
            announcements: Timers::default(),
            alarms: Timers::default(),
            running: FuturesUnordered::new(),
            checks: Checks::default(),
            reclassing: Reclassing::default(),
            desk: Desk::default(),
            gap_warnings: Throttle::default(),
            steps: Vec::new(),
        }
    }

    /// Runs until `stop`, then until every publication that was accepted has been answered.
    pub(crate) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Action>,
        suspicion: Arc<Suspicion>,
        stop: CancellationToken,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut burst = Vec::with_capacity(BURST);
        loop {
            let alarm = self.next_alarm();
            // In one order, so that a seed repeats a run. The inbox comes last and is not starved:
            // what is running follows from it and is bounded by lanes and feeds.
            tokio::select! {
                biased;
                () = stop.cancelled(), if self.has_answered_all() && inbox.is_empty() => break,
                Some(done) = self.running.next() => self.finish_all(done, Instant::now()),
                () = tokio::time::sleep_until(alarm) => self.ring_alarms(Instant::now()),
                () = suspicion.0.notified() => self.check_all(Instant::now()),
                _ = tick.tick() => self.tick(Instant::now()),
                received = inbox.recv_many(&mut burst, BURST) => {
                    if received == 0 {
                        break;
                    }
                    let now = Instant::now();
                    self.look();
                    burst.drain(..).for_each(|action| self.apply(action, now));
                }
            }
        }
        self.part(inbox).await;
    }

    /// Whether no publisher waits. Where the log cannot be reached to bring back what it has lost,
    /// nobody does.
    fn has_answered_all(&self) -> bool {
        self.unconfirmed == 0 && self.lanes.len() == self.heals.len() && self.desk.has_said_all()
    }

    fn next_alarm(&self) -> Instant {
        let timers = [&self.alarms, &self.announcements, &self.heals].map(Timers::next);
        let others = [self.desk.next(), self.checks.next(), self.reclassing.next()];
        let next = timers.into_iter().chain(others).flatten().min();
        next.unwrap_or_else(|| Instant::now() + TICK)
    }

    fn apply(&mut self, action: Action, now: Instant) {
        match action {
            Action::Ask { ask, at } => self.answer(ask, at, now),
            Action::Publish { channel, pending } => self.accept(channel, pending, now),
            Action::Receive(publication) if publication.is_fleeting() => {
                self.receive_fleeting(publication, now);
            }
            Action::Receive(publication) => {
                self.receive(&Arc::new(Envelope::new(publication)), now);
            }
            Action::Owe { channel, wait } => self.owe(&channel, wait, now),
            Action::Observe { channel, position } => {
                let Some(state) = self.channels.get_mut(&channel) else { return };
                if state.feed.is_news(position) {
                    self.around.log.hear_of(&channel, position.epoch.incarnation());
                }
                state.feed.observe(position, now);
                self.settle(&channel, now);
            }
        }
    }

    fn answer(&mut self, ask: Ask, asked_at: Instant, now: Instant) {
        match ask {
            Ask::Join(join) => self.join(join, now),
            Ask::Withdraw { channel, connection, join } => {
                self.withdraw(&channel, (connection, join), now);
            }
            Ask::Release { channel, tenure, outbox } => {
                self.release(&channel, (&outbox, tenure), now);
                self.doubt_count(&channel);
            }
            Ask::GiveUp { channel, outbox } => self.give_up(channel, &outbox, now),
            ask @ (Ask::Enter(_) | Ask::Away(_) | Ask::Depart(_)) => {
                self.answer_presence(ask, now);
            }
            Ask::Publish { channel, draft, connection, request, outbox } => {
                let reply = Reply::Worker { connection, request, outbox, asked_at };
                self.accept(channel, Pending { draft, reply }, now);
            }
        }
    }

    /// Answers everybody who still waits. What was put into the queue while the loop ended is taken
    /// here.
    async fn part(&mut self, mut actions: mpsc::Receiver<Action>) {
        actions.close();
        while let Some(action) = actions.recv().await {
            match action {
                Action::Ask { ask, .. } => self.take_last(ask),
                Action::Publish { pending, .. } => {
                    pending.reply.send(Err(stopped()), Instant::now());
                }
                Action::Receive(_) | Action::Observe { .. } | Action::Owe { .. } => {}
            }
        }
        self.refuse_joiners();
        self.say_last().await;
        if !self.lanes.is_empty() {
            let channels = self.lanes.len();
            tracing::error!(channels, "the log may lack acknowledged publications");
        }
    }

    /// Finishes what is ready, or a shard with a full inbox would finish one append per burst.
    fn finish_all(&mut self, first: Done, now: Instant) {
        self.look();
        self.finish(first, now);
        for _ in 1..BURST {
            let Some(Some(done)) = self.running.next().now_or_never() else { return };
            self.finish(done, now);
        }
    }

    pub(crate) fn finish(&mut self, done: Done, now: Instant) {
        match done {
            Done::Subscribed(partition, outcome) => self.subscribed(&partition, &outcome, now),
            Done::Read(channel, outcome) => self.finish_read(&channel, outcome, now),
            Done::ReadForJoin(channel, joiner, outcome) => {
                self.finish_read_for_join(&channel, joiner, outcome, now);
            }
            Done::Appended(channel, batch, outcome) => {
                self.finish_append(&channel, (batch, outcome), now);
            }
            Done::Confirmed(channel, kept, outcome) => {
                self.finish_confirm(&channel, (kept, outcome), now);
            }
            Done::Compared(channel, outcome) => self.finish_compare(&channel, outcome, now),
            Done::Healed(channel, drafts, outcome) => {
                self.finish_heal(&channel, (drafts, outcome), now);
            }
            Done::Watched(part, outcome) => self.finish_watch(part, outcome, now),
            Done::Heads(channels, outcome) => self.finish_check(&channels, outcome, now),
            Done::Presence(done) => self.finish_presence(done, now),
            Done::Nothing => {}
        }
    }

    fn ring_alarms(&mut self, now: Instant) {
        while let Some(channel) = self.alarms.due(now) {
            self.settle(&channel, now);
        }
        while let Some(channel) = self.announcements.due(now) {
            self.announce_if_quiet(&channel, now);
        }
        while let Some(channel) = self.heals.due(now) {
            self.compare(&channel);
        }
        self.ring_presence(now);
        if self.checks.is_behind(now) {
            self.check_due(now);
        }
        if self.reclassing.next().is_some_and(|at| at <= now) {
            self.reclass_some(now);
        }
    }
}
