//! The connections of one thread: one task, one loop, no lock.
//!
//! A turn takes what has gathered since the last: what the shards delivered, what the sockets have,
//! what futures came to, what the clock says. All of it is applied to connections as values, then
//! publications are fanned out, then every connection that has something to write is flushed once.

mod admission;
mod backlog;
mod context;
mod fan_out;
mod first_frames;
mod intake;
mod lap;
mod rejudging;
mod slots;
mod unfinished;

use std::io;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tidewire_hub::{Inbox, outbox};
use tidewire_model::{ConnectionId, Delivery, TenantChannel};
use tidewire_transport::{Link, Stream};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

pub(crate) use self::admission::Admitted;
use self::context::AN_ARRIVAL;
pub(crate) use self::context::{A_CLAIM, A_READ, Context, FOR_THE_LAP};
use self::fan_out::{FanOut, Served};
pub(crate) use self::fan_out::{Form, Run};
pub(crate) use self::first_frames::FirstFrames;
use self::rejudging::Rejudging;
pub(crate) use self::slots::Slots;
pub(crate) use self::unfinished::{Unfinished, Usage};
use crate::connection::Connection;
use crate::drain::Phase;
use crate::edge::Shared;
use crate::metrics;
use crate::ops::Slowest;
use crate::outcome::Outcome;
use crate::rebalance::{Ease, LOOKED_AT, easiest};
use crate::registry::{Arrival, Control, Order, WorkerHandle};

pub(crate) struct Worker {
    connections: Slots<Connection>,
    cx: Context,
    fan_out: FanOut,
    inbox: Inbox,
    orders: mpsc::Receiver<Order>,
    sockets: AsyncFd<mio::Poll>,
    events: mio::Events,
    /// Events may be waiting in `sockets`.
    is_polling: bool,
    woken_by: Option<Woken>,
    deliveries: Vec<Delivery>,
    due: Vec<ConnectionId>,
    rejudging: Rejudging,
    /// Where to look on for clients that could go elsewhere.
    looked_to: usize,
}

/// What a wait has taken out of a queue by waiting for it.
enum Woken {
    Order(Order),
    Outcome(ConnectionId, Outcome),
}

/// Socket events taken at once.
const EVENTS: usize = 1_024;
/// A turn that takes longer is counted.
const LONG: Duration = Duration::from_millis(2);

impl Worker {
    /// A worker of `shared`'s on the current runtime, and its handle.
    ///
    /// # Errors
    ///
    /// When the system has no descriptor for its poll.
    pub(crate) fn new(shared: Arc<Shared>) -> io::Result<(Self, WorkerHandle)> {
        let poll = mio::Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let sockets = watch(poll)?;
        let (number, handle, orders) = shared.registry.add();
        let (outbox, inbox) = outbox(shared.config.queue);
        let worker = Self {
            connections: Slots::new(number),
            fan_out: FanOut::new(shared.tenants.rules().reader(), shared.config.queue),
            cx: Context::new(shared, outbox, registry),
            inbox,
            orders,
            sockets,
            events: mio::Events::with_capacity(EVENTS),
            is_polling: false,
            woken_by: None,
            deliveries: Vec::new(),
            due: Vec::new(),
            rejudging: Rejudging::default(),
            looked_to: 0,
        };
        Ok((worker, handle))
    }

    /// Serves until `stop` and until everybody has left.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while !(stop.is_cancelled() && self.connections.is_empty()) {
            self.wait(&stop).await;
            self.turn();
            // The shards of this thread have their turn.
            tokio::task::yield_now().await;
        }
    }

    /// Waits until there is something to do.
    async fn wait(&mut self, stop: &CancellationToken) {
        if self.is_busy() {
            // Sockets are looked at in every turn, or whoever keeps us busy would keep everybody out.
            self.is_polling = true;
            return;
        }
        let wake_at = [self.cx.wheel.wake_at(), self.fan_out.wake_at(), self.cx.unpause_at()];
        let wake_at = wake_at.into_iter().flatten().min();
        let blocked = self.cx.backlog.blocked();
        tokio::select! {
            ready = self.sockets.readable() => {
                if let Ok(mut ready) = ready {
                    ready.clear_ready();
                }
                self.is_polling = true;
            }
            () = self.inbox.filled() => {}
            Some((connection, outcome)) = self.cx.running.next() => {
                self.woken_by = Some(Woken::Outcome(connection, outcome));
            }
            Some(order) = self.orders.recv() => self.woken_by = Some(Woken::Order(order)),
            () = sleep_until(wake_at) => {}
            () = room(&self.cx.shared, blocked) => {}
            () = stop.cancelled(), if self.connections.is_empty() => {}
        }
    }

    fn is_busy(&self) -> bool {
        self.is_polling
            || !self.cx.held.is_empty()
            || self.fan_out.has_work()
            || self.rejudging.has_work()
            || self.cx.again.has_work(|tenant| self.cx.backlog.has(tenant))
            || self.cx.first_frames.has_work()
    }

    fn turn(&mut self) {
        self.cx.begin_turn(Instant::now());
        self.fan_out.begin_turn();
        match self.woken_by.take() {
            Some(Woken::Order(order)) => self.obey(order),
            Some(Woken::Outcome(connection, outcome)) => self.finish(connection, outcome),
            None => {}
        }
        self.take_outcomes();
        self.take_orders();
        self.take_tellings();
        self.take_deliveries();
        self.take_again();
        self.take_unpaused();
        self.take_first_frames();
        self.take_events();
        self.take_alarms();
        self.rejudge_some();
        let now = self.cx.started;
        let mut served = Served { connections: &mut self.connections, cx: &mut self.cx };
        self.fan_out.step(now, &mut served);
        self.flush();
        self.cx.counts.publish(&self.cx.shared.metrics);
        let took = self.cx.started.elapsed();
        if took > LONG {
            metrics::long_turn(took);
        }
    }

    fn finish(&mut self, connection: ConnectionId, outcome: Outcome) {
        let is_claim = matches!(outcome, Outcome::Claimed(_));
        if let Some(connection) = self.connections.find(connection) {
            connection.finish(outcome, &mut self.cx);
        }
        if is_claim {
            self.admit_next();
        }
    }

    /// Lets the next claim its session who waits for that and is still there.
    fn admit_next(&mut self) {
        while let Some(id) = self.cx.admission.next() {
            let connection = self.connections.find(id);
            if connection.is_some_and(|connection| connection.claim(&mut self.cx)) {
                return;
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Arrive(arrival) => self.welcome(*arrival),
            Order::Tell(connection, control) => self.tell(connection, control),
            Order::TellAll(control) => {
                for connection in self.connections.ids() {
                    self.tell(connection, control);
                }
            }
            Order::LetGo { tenant, session, generation } => {
                let holder = self.cx.holder(session);
                let holder = holder.and_then(|id| self.connections.find(id));
                if let Some(connection) = holder.filter(|connection| connection.is_of(&tenant)) {
                    connection.heed(Control::LetGo(generation), &mut self.cx);
                }
            }
            Order::Rejudge { ended } => self.begin_to_rejudge(ended),
            Order::Name(names) => {
                let clients = self.connections.values();
                let clients = clients.filter_map(|one| Some((one.id(), one.weight()?))).collect();
                // Whoever asked may have given up.
                let _ = names.send(clients);
            }
            Order::NameEasiest { most, names } => {
                // Whoever asked may have given up.
                let _ = names.send(self.name_easiest(most));
            }
            Order::NameSlow(names) => {
                let mut slowest = Slowest::default();
                let clients = self.connections.values();
                clients.filter_map(|one| one.slowness(&self.cx)).for_each(|one| slowest.add(one));
                // Whoever asked may have given up.
                let _ = names.send(slowest);
            }
        }
    }

    /// Looks at some of all, and next time at others.
    fn name_easiest(&mut self, most: usize) -> Vec<(Ease, ConnectionId)> {
        let now = self.cx.now;
        let looked_at = self.connections.stretch(self.looked_to, LOOKED_AT);
        let all = looked_at.filter_map(|one| Some((one.ease(now)?, one.id()))).collect();
        self.looked_to = self.looked_to.wrapping_add(LOOKED_AT);
        easiest(all, most)
    }

    fn tell(&mut self, connection: ConnectionId, control: Control) {
        if let Some(connection) = self.connections.find(connection) {
            connection.heed(control, &mut self.cx);
        }
    }

    /// Takes a client over from the HTTP server.
    fn welcome(&mut self, arrival: Arrival) {
        let stream = match Stream::try_from(arrival.stream) {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(%error, "connection was gone at once"),
        };
        self.cx.shared.arrivals.accepted(self.cx.started - arrival.asked_at);
        self.cx.spend(AN_ARRIVAL);
        let settings = self.cx.link_settings(arrival.deflate);
        let mut link = Link::new(stream, arrival.unread, settings);
        let cx = &mut self.cx;
        let form = Form { protocol_index: arrival.protocol_index, deflate: arrival.deflate };
        let mut registered = Ok(());
        let id = self.connections.insert(|id| {
            registered = link.register(&cx.registry, Context::token(id));
            Connection::new(id, (arrival.handshake, form), (link, arrival.room), cx)
        });
        if let Err(error) = registered {
            tracing::warn!(%error, "cannot watch a connection");
            return self.connections.remove(id);
        }
        let is_refusing = *self.cx.shared.phase.borrow() >= Phase::Refusing;
        if let Some(connection) = self.connections.find(id) {
            if is_refusing {
                connection.heed(Control::Refuse, &mut self.cx);
            }
            connection.read(&mut self.cx);
        }
    }

    /// Writes what waits for whoever was touched, which may bring about more, and forgets those who
    /// are gone.
    fn flush(&mut self) {
        while !self.cx.touched.is_empty() {
            let mut touched = std::mem::take(&mut self.cx.touched);
            for id in touched.drain(..) {
                if let Some(connection) = self.connections.find(id) {
                    connection.flush(&mut self.cx);
                }
            }
            if self.cx.touched.is_empty() {
                self.cx.touched = touched;
            }
        }
        for id in self.cx.over.drain(..) {
            self.connections.remove(id);
        }
    }
}

/// Lets the runtime wait for what a poll has.
#[expect(deprecated, reason = "sound here: what is watched owns the descriptor it is watched by")]
fn watch(poll: mio::Poll) -> io::Result<AsyncFd<mio::Poll>> {
    AsyncFd::with_interest(poll, Interest::READABLE)
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Waits until one of the shards has room that these are channels of.
async fn room(shared: &Shared, blocked: Vec<TenantChannel>) {
    if blocked.is_empty() {
        return std::future::pending().await;
    }
    let rooms = blocked.iter().map(|channel| shared.node.room(channel));
    rooms.collect::<FuturesUnordered<_>>().next().await;
}
