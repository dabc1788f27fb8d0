use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::AbortHandle;
use parking_lot::Mutex;
use tidewire_broker::Partition;
use tidewire_model::NodeId;
use tokio::sync::mpsc::Sender;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::connection::Connections;
use crate::envelope::encode_probe;
use crate::interest::{Interest, Ticket};
use crate::metrics::{Metrics, Trouble};
use crate::reader::{Feed, Source, feed};
use crate::subject::Subjects;

/// What the node wants of the network, shared with the task that sees to it.
pub(crate) struct Link {
    interest: Mutex<Interest>,
    confirmed: watch::Sender<Ticket>,
    connections: Arc<Connections>,
}

impl Link {
    pub(crate) fn new(connections: Arc<Connections>) -> Self {
        let (confirmed, _) = watch::channel(0);
        Self { interest: Mutex::default(), confirmed, connections }
    }

    /// Wants a partition. The ticket stands for it in [`Link::confirmed`].
    pub(crate) fn want(&self, partition: &Partition) -> Ticket {
        let ticket = self.interest.lock().want(partition);
        self.wake();
        ticket
    }

    pub(crate) fn unwant(&self, partition: &Partition) {
        self.interest.lock().unwant(partition);
        self.wake();
    }

    /// Waits until NATS has taken note of `ticket` and of everything sent on the data connection
    /// before it was drawn. May wait for ever.
    pub(crate) async fn confirmed(&self, ticket: Ticket) {
        let mut confirmed = self.confirmed.subscribe();
        confirmed.wait_for(|confirmed| *confirmed >= ticket).await.expect("self holds the sender");
    }

    /// Asks for a ticket of its own, to learn when NATS has taken note of what was sent so far.
    pub(crate) fn draw(&self) -> Ticket {
        let ticket = self.interest.lock().draw();
        self.wake();
        ticket
    }

    /// Gives up waiting for `ticket`: the node is told once NATS has caught up.
    pub(crate) fn expect_late(&self, ticket: Ticket) {
        self.interest.lock().suspect_after(ticket);
        self.wake();
    }

    /// Takes a probe that came back.
    pub(crate) fn confirm(&self, ticket: Ticket) {
        if self.interest.lock().confirm(ticket) {
            self.confirmed.send_replace(ticket);
            self.wake();
        }
    }

    fn wake(&self) {
        self.connections.signals.changed.notify_one();
    }
}

/// Keeps the subscriptions on the data connection equal to what the node wants, and finds out when
/// NATS has heard of them.
///
/// The client library's `flush` does not tell: it returns when bytes have left the process. So a
/// probe follows each change on the data connection, to the node's own subject, which the control
/// connection listens to. NATS handles what comes by one connection in order; once the probe is
/// back, the subscriptions before it are in force on the server. Whether they have reached the rest
/// of a NATS cluster, NATS offers no way to learn.
pub(crate) struct LinkTask {
    pub(crate) link: Arc<Link>,
    pub(crate) node: NodeId,
    pub(crate) subjects: Subjects,
    pub(crate) new_feeds: Sender<Feed>,
    pub(crate) suspect: Arc<Notify>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) state: LinkState,
}

/// What the link task remembers between two steps.
#[derive(Default)]
pub(crate) struct LinkState {
    /// Aborting a handle ends the subscription.
    subscriptions: HashMap<Partition, AbortHandle>,
    data_connects: u64,
    control_connects: u64,
    /// The last ticket whose change was carried out.
    applied: Ticket,
    last_probe: Option<(Ticket, Instant)>,
    /// When the node was last told of an overflow.
    last_overflow: Option<Instant>,
}

impl LinkTask {
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            loop {
                let due = Instant::now() + self.pause();
                tokio::select! {
                    () = self.connections().signals.changed.notified() => {}
                    () = sleep_until(due) => {}
                }
                self.step().await;
            }
        })
        .await;
        self.metrics.up.set(0.0);
        self.metrics.subscriptions.set(0.0);
    }

    async fn step(&mut self) {
        self.note_connections();
        self.apply_changes().await;
        self.send_probe().await;
        self.tell_suspects();
    }

    fn note_connections(&mut self) {
        self.metrics.up.set(if self.is_up() { 1.0 } else { 0.0 });
        let data = self.connections().data_connects();
        let control = self.connections().control_connects();
        let state = &mut self.state;
        // The first time is no reconnect: what was wanted before it is expected late already.
        let data_reconnects = data.saturating_sub(state.data_connects.max(1));
        let control_reconnects = control.saturating_sub(state.control_connects.max(1));
        self.metrics.reconnects.increment(data_reconnects + control_reconnects);
        if data_reconnects > 0 {
            let mut interest = self.link.interest.lock();
            if !interest.is_empty() {
                // Not at once: the subscriptions of the new connection must be in force before the
                // node looks into the log, or it would miss what is published in between.
                let ticket = interest.draw();
                interest.suspect_after(ticket);
            }
        }
        state.data_connects = data;
        state.control_connects = control;
    }

    async fn apply_changes(&mut self) {
        let (changed, ticket) = self.link.interest.lock().take_changed();
        for partition in changed {
            let wanted = self.link.interest.lock().wants(&partition);
            match (wanted, self.state.subscriptions.contains_key(&partition)) {
                (true, false) => self.subscribe(partition).await,
                (false, true) => self.unsubscribe(&partition),
                (true, true) | (false, false) => {}
            }
        }
        self.state.applied = ticket;
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2⁵³ subscriptions")]
        self.metrics.subscriptions.set(self.state.subscriptions.len() as f64);
    }

    /// Waits while the connection takes no more commands, which ends when it is back.
    async fn subscribe(&mut self, partition: Partition) {
        let subject = self.subjects.partition(&partition);
        let Ok(subscriber) = self.connections().data.subscribe(subject).await else {
            return self.metrics.note(Trouble::Client);
        };
        let (feed, handle) = feed(Source::Partition(Arc::new(partition.clone())), subscriber);
        if self.new_feeds.send(feed).await.is_ok() {
            self.state.subscriptions.insert(partition, handle);
        }
    }

    fn unsubscribe(&mut self, partition: &Partition) {
        if let Some(handle) = self.state.subscriptions.remove(partition) {
            handle.abort();
        }
    }

    async fn send_probe(&mut self) {
        let ticket = self.state.applied;
        let now = Instant::now();
        let is_recent = |(last, at): (Ticket, Instant)| last == ticket && now - at < PROBE_INTERVAL;
        let is_probing = self.state.last_probe.is_some_and(is_recent);
        if self.is_confirmed() || is_probing || !self.is_up() {
            return;
        }
        self.state.last_probe = Some((ticket, now));
        let subject = self.subjects.node(&self.node);
        if self.connections().data.publish(subject, encode_probe(ticket)).await.is_err() {
            self.metrics.note(Trouble::Client);
        }
    }

    fn tell_suspects(&mut self) {
        let is_in_force_again = self.link.interest.lock().take_suspect();
        if is_in_force_again || self.take_overflow() {
            self.suspect.notify_one();
        }
    }

    /// Whether something was lost on the way to the reader; at most once a second, because the
    /// library reports every single message.
    fn take_overflow(&mut self) -> bool {
        let now = Instant::now();
        if self.state.last_overflow.is_some_and(|last| now - last < IDLE_INTERVAL) {
            return false;
        }
        let overflowed = self.connections().signals.suspect.swap(false, Ordering::AcqRel);
        if overflowed {
            self.state.last_overflow = Some(now);
        }
        overflowed
    }

    fn pause(&self) -> Duration {
        let is_probing = self.is_up() && !self.is_confirmed();
        if is_probing { PROBE_INTERVAL } else { IDLE_INTERVAL }
    }

    fn is_confirmed(&self) -> bool {
        self.link.interest.lock().is_confirmed(self.state.applied)
    }

    fn is_up(&self) -> bool {
        self.connections().health().is_ok()
    }

    fn connections(&self) -> &Connections {
        &self.link.connections
    }
}

/// After this long, a probe is taken for lost and sent again.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// How often connections are looked at although nothing was reported.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
