//! Leaving without losing anyone.
//!
//! Not ready, so that balancers send nobody new; then, client by client, a hint to open a connection
//! elsewhere and resume there, with a window in which this one is still served; then a close for
//! whoever is left. Everybody's session is in the store all along, so a client that takes the hint
//! loses nothing, and neither does one that does not.

mod ask;
mod endpoints;
mod order;
mod pacer;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tidewire_broker::Secured;
use tidewire_model::{ConnectionId, Disconnect};
use tidewire_store::NodeState;
use tokio::time::{Instant, Interval, MissedTickBehavior, timeout_at};
use tokio_util::sync::CancellationToken;

pub use self::ask::{CONTROL_HEADER, drain_router};
pub(crate) use self::endpoints::some_of;
pub(crate) use self::order::Weight;
use self::pacer::{Outlook, Pacer, SLICE, Slices, per_second};
pub(crate) use self::pacer::{is_hot, spare};
use crate::registry::{Cause, Control, Hint};
use crate::{DrainConfig, Edge, metrics};

/// How far a node is on its way out.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Phase {
    #[default]
    Serving,
    /// It says that it is not ready, and still takes whoever comes.
    Announced,
    /// It takes nobody new, whose handshake is under way included, and serves those it has.
    Refusing,
    /// It asks them to move.
    Migrating,
    /// It disconnects whoever is left.
    Settling,
    /// It has nobody any more, and waits until what it has written would survive a failover.
    Flushing,
    Gone,
}

impl Phase {
    /// In the order of a drain.
    pub(crate) const ALL: [Self; 7] = [
        Self::Serving,
        Self::Announced,
        Self::Refusing,
        Self::Migrating,
        Self::Settling,
        Self::Flushing,
        Self::Gone,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Announced => "announced",
            Self::Refusing => "refusing",
            Self::Migrating => "migrating",
            Self::Settling => "settling",
            Self::Flushing => "flushing",
            Self::Gone => "gone",
        }
    }
}

/// How the drain goes, for whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Clients asked to move per second.
    pub(crate) per_second: AtomicU32,
    /// Nobody is asked and no window ends, because nobody could resume.
    pub(crate) is_held: AtomicBool,
}

impl Progress {
    pub(crate) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::Relaxed)
    }
}

/// How often survivors and the store are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Whoever is asked last has this long before the rest are disconnected. To move takes a tenth of it.
const LAST_WINDOW: Duration = Duration::from_secs(2);
/// How long what was written may take to be where a failover finds it.
const FLUSH: Duration = Duration::from_secs(5);

impl Edge {
    /// Leaves: returns when every connection has ended, goodbyes included, and what was published
    /// here is safe. That is before the deadline in any case; what is left by then ends with the
    /// process. `hurry` skips to disconnecting whoever is left.
    ///
    /// Not to be cancelled: clients that were asked to move would find nobody to let them go.
    pub async fn drain(&self, hurry: &CancellationToken) {
        let started = Instant::now();
        let config = self.0.config.drain;
        let reserve = DrainConfig::reserve(config.deadline);
        let settle_at = started + config.deadline - reserve;
        tracing::info!(connections = self.connections(), "drain begins");
        let migration = async {
            self.enter(Phase::Announced);
            self.0.node.renew_lease();
            tokio::time::sleep(config.announce).await;
            self.enter(Phase::Refusing);
            self.0.registry.tell_all(Control::Refuse).await;
            self.enter(Phase::Migrating);
            self.ask_to_move(settle_at).await;
            tokio::select! {
                () = self.0.emptied() => {}
                () = self.watch_sessions() => {}
            }
        };
        tokio::select! {
            () = migration => {}
            () = tokio::time::sleep_until(settle_at) => {}
            () = hurry.cancelled() => {}
        }
        self.pace(0, false);
        let settling = Instant::now();
        // In tenths of what was held back; the last two are for whatever runs beside the edge.
        self.settle(settling + reserve * 6 / 10).await;
        self.flush(settling + reserve * 8 / 10).await;
        self.enter(Phase::Gone);
        metrics::drain_ended(started.elapsed());
        tracing::info!(took = ?started.elapsed(), "drain is done");
    }

    fn enter(&self, phase: Phase) {
        self.0.phase.send_replace(phase);
        metrics::drain_state(phase);
        metrics::drain_remaining(self.connections());
        tracing::info!(connections = self.connections(), "drain: {}", phase.name());
    }

    fn pace(&self, per_second: u32, is_held: bool) {
        self.0.progress.per_second.store(per_second, Ordering::Relaxed);
        self.0.progress.is_held.store(is_held, Ordering::Relaxed);
        metrics::drain_pace(per_second, is_held);
    }

    /// Asks for a drain: whoever runs this node waits for that.
    pub(crate) fn ask_to_leave(&self) {
        self.0.leave.cancel();
    }

    /// Waits until an operator has asked this node to leave, here or at another node. Cancel-safe.
    pub async fn asked_to_leave(&self) {
        self.0.leave.cancelled().await;
    }

    /// Whether the node has begun to leave.
    pub fn is_draining(&self) -> bool {
        *self.0.phase.borrow() > Phase::Serving
    }

    async fn ask_to_move(&self, settle_at: Instant) {
        let config = self.0.config.drain;
        let lot = || getrandom::u64().unwrap_or_default();
        let clients = order::in_turn(self.0.registry.clients().await, lot);
        let mut unasked = &clients[..];
        if unasked.is_empty() {
            return;
        }
        self.wait_for_sessions().await;
        let mut pacer = Pacer::new(config, &self.outlook(unasked, settle_at));
        let per_second = pacer.per_second();
        tracing::info!(connections = clients.len(), per_second, "asking clients to move");
        self.pace(per_second, false);
        let (mut slices, mut looked_at) = (slices(), Instant::now());
        while !unasked.is_empty() {
            slices.tick().await;
            if looked_at.elapsed() >= LOOK_EVERY {
                self.wait_for_sessions().await;
                pacer.hear(&self.outlook(unasked, settle_at));
                self.pace(pacer.per_second(), false);
                looked_at = Instant::now();
            }
            let (slice, rest) = unasked.split_at(pacer.next_slice().min(unasked.len()));
            self.ask_slice(slice, config.window).await;
            unasked = rest;
        }
    }

    /// Waits while clients that moved could not resume anywhere: they are better off here.
    async fn wait_for_sessions(&self) {
        if self.0.node.sessions_in_reach().await {
            return;
        }
        tracing::warn!("drain is held: sessions cannot be reached, so nobody could resume");
        self.pace(0, true);
        while !self.0.node.sessions_in_reach().await {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        tracing::info!("drain goes on");
    }

    /// Notes whether those who were asked could resume, until dropped.
    async fn watch_sessions(&self) {
        loop {
            self.pace(0, false);
            tokio::time::sleep(LOOK_EVERY).await;
            self.wait_for_sessions().await;
        }
    }

    fn outlook(&self, unasked: &[ConnectionId], settle_at: Instant) -> Outlook {
        let own = self.0.node.id();
        let (leaving, staying): (Vec<_>, Vec<_>) = self
            .0
            .node
            .members()
            .into_iter()
            .filter(|lease| lease.node != *own)
            .partition(|lease| lease.state == NodeState::Draining);
        Outlook {
            survivors: staying.iter().map(|lease| lease.load).collect(),
            leaving: u32::try_from(leaving.len()).unwrap_or(u32::MAX).saturating_add(1),
            unasked: unasked.len(),
            left: (settle_at - Instant::now()).saturating_sub(LAST_WINDOW),
        }
    }

    /// Spreads a slice's clients over its length.
    async fn ask_slice(&self, slice: &[ConnectionId], window: Duration) {
        let count = u32::try_from(slice.len()).unwrap_or(u32::MAX).max(1);
        for (index, connection) in (0..).zip(slice) {
            let after = SLICE * index / count;
            let hint = Hint { cause: Cause::Drain, after, window };
            self.0.registry.tell(*connection, Control::Move(hint)).await;
        }
        metrics::drain_asked(slice.len());
        metrics::drain_remaining(self.connections());
    }

    /// Disconnects whoever is left, in slices, and waits for their goodbyes until `by`.
    async fn settle(&self, by: Instant) {
        self.enter(Phase::Settling);
        let goodbyes = async {
            self.0.registry.tell_all(Control::Refuse).await;
            let clients = self.0.registry.clients().await;
            if !clients.is_empty() {
                self.disconnect(&clients, (by - Instant::now()) / 2).await;
            }
            self.0.emptied().await;
        };
        // Whoever does not make it resumes all the same.
        if timeout_at(by, goodbyes).await.is_err() {
            tracing::warn!(connections = self.connections(), "some goodbyes were not said in time");
        }
    }

    /// Disconnects these, at the configured rate or within `most` if that is quicker.
    async fn disconnect(&self, clients: &[(ConnectionId, Weight)], most: Duration) {
        tracing::warn!(connections = clients.len(), "disconnecting whoever is left");
        metrics::drain_killed(clients.len());
        let rate = self.0.config.drain.rate.max(per_second(clients.len(), most));
        let (mut slices, mut sizes) = (slices(), Slices::new(rate));
        let mut left = clients;
        while !left.is_empty() {
            slices.tick().await;
            let (slice, rest) = left.split_at(sizes.next_slice().min(left.len()));
            for (connection, _) in slice {
                self.0.registry.tell(*connection, Control::Close(Disconnect::Draining)).await;
            }
            metrics::drain_remaining(self.connections());
            left = rest;
        }
    }

    /// Waits, until `by` at most, for what was published here to be on the replicas: from then on
    /// nobody needs this node to tell what a failover has lost.
    async fn flush(&self, by: Instant) {
        self.enter(Phase::Flushing);
        match self.0.node.secure(FLUSH.min(by - Instant::now())).await {
            Ok(Secured::Alone) => {}
            Ok(Secured::Copied { replicas }) => {
                tracing::info!(replicas, "what was published here is on the replicas");
            }
            Ok(Secured::Behind { wanted, reached }) => {
                tracing::warn!(
                    wanted,
                    reached,
                    "publications of the last moments are not on every replica"
                );
            }
            Err(error) => {
                tracing::warn!(%error, "cannot tell whether the last publications are on replicas");
            }
        }
    }
}

/// Slices that were missed are not made up for: the pace follows from what is left.
fn slices() -> Interval {
    let mut slices = tokio::time::interval(SLICE);
    slices.set_missed_tick_behavior(MissedTickBehavior::Skip);
    slices
}
