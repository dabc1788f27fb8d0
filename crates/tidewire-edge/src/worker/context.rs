use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tidewire_hub::{Hub, Outbox};
use tidewire_model::{ConnectionId, Delivery, JoinId, SessionId, TenantChannel, Tenure};
use tidewire_node::{Ask, OwnedSession};
use tidewire_protocol::Frame;
use tidewire_session::{Effect, Outputs};
use tidewire_transport::{Deflate, Limits, LinkSettings, Scratch};
use tokio::time::Instant;

use super::admission::Admission;
use super::backlog::Backlog;
use super::first_frames::FirstFrames;
use super::lap::Lap;
use super::unfinished::Unfinished;
use crate::edge::Shared;
use crate::metrics::{self, Counts};
use crate::outcome::Outcome;
use crate::registry::Control;
use crate::wheel::{Tick, Wheel};

/// What the connections of a worker share, and leave for it to do.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    /// Where shards answer, and deliver.
    pub(crate) outbox: Outbox,
    pub(crate) hub: Hub,
    pub(crate) wheel: Wheel,
    /// When this turn began.
    pub(crate) started: Instant,
    pub(crate) now: Tick,
    /// From when the worker began to when this turn did, to the nanosecond.
    pub(crate) elapsed: Duration,
    began: Instant,
    /// From when the edge began to when this turn did: what workers share is counted by it.
    pub(crate) age: Duration,
    /// Which tenants hold in this turn.
    pub(crate) tenants_version: u64,
    pub(crate) running: FuturesUnordered<BoxFuture<'static, (ConnectionId, Outcome)>>,
    /// Nothing is read meanwhile from connections of tenants that have something in it.
    pub(crate) backlog: Backlog,
    /// What this turn may still cost before others are to have theirs: a command is 1.
    left: u32,
    pub(crate) unfinished: Unfinished,
    pub(crate) registry: mio::Registry,
    pub(crate) scratch: Scratch,
    pub(crate) counts: Counts,
    /// Connections to be read again, to be flushed, and to be forgotten, in this turn or the next.
    pub(crate) again: Lap,
    pub(crate) touched: Vec<ConnectionId>,
    pub(crate) over: Vec<ConnectionId>,
    /// Connections that are not read until a moment, the earliest first: one entry each at the most.
    paused: BinaryHeap<Reverse<(Instant, ConnectionId)>>,
    /// Connections to be flushed in the next turn, and not before.
    pub(crate) held: Vec<ConnectionId>,
    /// What connections have to say to each other.
    pub(crate) tellings: Vec<(ConnectionId, Control)>,
    /// Who has a session here.
    holders: HashMap<SessionId, ConnectionId>,
    pub(crate) admission: Admission,
    pub(crate) first_frames: FirstFrames,
    // Reused, so that a message costs no memory of its own. Empty between two connections.
    pub(crate) outputs: Outputs,
    pub(crate) effects: Vec<Effect>,
    pub(crate) frames: Vec<Frame>,
    pub(crate) frames_out: Vec<Frame>,
}

/// What a turn may cost, in commands: a millisecond or two. Whoever else has something to be read has
/// it read in the next.
pub(crate) const A_TURN: u32 = 512;
/// What answers leave of it for whoever's turn it is: a tenant that is answered all the time would
/// otherwise go on with what waits as often.
pub(crate) const FOR_THE_LAP: u32 = A_TURN / 4;
/// What reading a socket costs, and what a new client does, and one whose session is claimed: its token
/// is verified then.
pub(crate) const A_READ: u32 = 1;
pub(crate) const AN_ARRIVAL: u32 = 8;
pub(crate) const A_CLAIM: u32 = 16;

impl Context {
    pub(crate) fn new(shared: Arc<Shared>, outbox: Outbox, registry: mio::Registry) -> Self {
        let started = Instant::now();
        let wheel = Wheel::new(started);
        Self {
            shared,
            outbox,
            hub: Hub::default(),
            started,
            elapsed: Duration::ZERO,
            tenants_version: 0,
            began: started,
            age: Duration::ZERO,
            now: wheel.tick(started),
            wheel,
            running: FuturesUnordered::new(),
            backlog: Backlog::default(),
            left: A_TURN,
            unfinished: Unfinished::default(),
            registry,
            scratch: Scratch::default(),
            counts: Counts::default(),
            again: Lap::default(),
            touched: Vec::new(),
            over: Vec::new(),
            paused: BinaryHeap::new(),
            held: Vec::new(),
            tellings: Vec::new(),
            holders: HashMap::new(),
            admission: Admission::default(),
            first_frames: FirstFrames::default(),
            outputs: Outputs::default(),
            effects: Vec::new(),
            frames: Vec::new(),
            frames_out: Vec::new(),
        }
    }

    pub(crate) fn begin_turn(&mut self, now: Instant) {
        self.started = now;
        self.left = A_TURN;
        self.tenants_version = self.shared.tenants.version();
        self.elapsed = now.saturating_duration_since(self.began);
        self.age = self.shared.age(now);
        self.now = self.wheel.tick(now);
        self.touched.append(&mut self.held);
    }

    /// Has a connection told when it may be read again: it is not read meanwhile.
    pub(crate) fn pause(&mut self, connection: ConnectionId, time: Duration) {
        metrics::paused(1.0);
        self.paused.push(Reverse((self.started + time, connection)));
    }

    /// Who may be read again now.
    pub(crate) fn next_unpaused(&mut self) -> Option<ConnectionId> {
        let Reverse((at, connection)) = *self.paused.peek()?;
        if at > self.started {
            return None;
        }
        self.paused.pop();
        metrics::paused(-1.0);
        Some(connection)
    }

    /// When somebody may be read again.
    pub(crate) fn unpause_at(&self) -> Option<Instant> {
        self.paused.peek().map(|Reverse((at, _))| *at)
    }

    /// Runs `future` on behalf of a connection, which is told what it came to if it is still there.
    pub(crate) fn start(
        &mut self,
        connection: ConnectionId,
        future: impl Future<Output = Outcome> + Send + 'static,
    ) {
        self.running.push(future.map(move |outcome| (connection, outcome)).boxed());
    }

    /// Takes from what this turn may cost.
    pub(crate) fn spend(&mut self, cost: u32) {
        self.left = self.left.saturating_sub(cost);
    }

    /// Whether more may be taken from clients in this turn.
    pub(crate) fn has_left(&self) -> bool {
        self.left > 0
    }

    /// Whether this is still so if `part` of the turn's is kept for what comes later in it.
    pub(crate) fn has_left_but(&self, part: u32) -> bool {
        self.left > part
    }

    /// Asks a shard, after everything that was asked about the channel before.
    pub(crate) fn ask(&mut self, ask: Ask) {
        self.backlog.ask(ask, &self.shared.node);
    }

    /// Ends a join: gives its place back if it has one, or withdraws what was asked. An answer that
    /// is under way is given back when it comes.
    pub(crate) fn leave(
        &mut self,
        channel: &TenantChannel,
        connection: ConnectionId,
        join: JoinId,
    ) {
        match self.hub.remove(channel, connection, join) {
            Some(tenure) => self.release(channel.clone(), tenure),
            None => self.ask(Ask::Withdraw { channel: channel.clone(), connection, join }),
        }
    }

    pub(crate) fn release(&mut self, channel: TenantChannel, tenure: Tenure) {
        let outbox = self.outbox.clone();
        self.ask(Ask::Release { channel, tenure, outbox });
    }

    /// Gives back the place that an answer holds for somebody who has left.
    pub(crate) fn give_back(&mut self, answer: &Delivery) {
        if let Delivery::Joined { channel, tenure, outcome: Ok(joined), .. } = answer
            && joined.live
        {
            self.release(channel.clone(), *tenure);
        }
    }

    /// Notes that a connection has a session. Whoever of this worker had it before is let go.
    pub(crate) fn enlist(&mut self, connection: ConnectionId, owned: &OwnedSession) {
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        if let Some(earlier) = self.holders.insert(owned.key.session, connection) {
            self.tellings.push((earlier, Control::LetGo(owned.generation)));
        }
    }

    pub(crate) fn delist(&mut self, connection: ConnectionId, owned: &OwnedSession) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        if self.holders.get(&owned.key.session) == Some(&connection) {
            self.holders.remove(&owned.key.session);
        }
    }

    /// Which connection has a session of this id.
    pub(crate) fn holder(&self, session: SessionId) -> Option<ConnectionId> {
        self.holders.get(&session).copied()
    }

    pub(crate) fn link_settings(&self, deflate: Option<Deflate>) -> LinkSettings {
        let limits =
            Limits { message_bytes: self.shared.config.max_message_bytes, ..Limits::default() };
        LinkSettings { limits, deflate }
    }

    pub(crate) fn token(id: ConnectionId) -> mio::Token {
        mio::Token(usize::try_from(id.0).expect("a 64-bit machine"))
    }

    pub(crate) fn id(token: mio::Token) -> ConnectionId {
        ConnectionId(token.0 as u64)
    }
}
