use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::SelectAll;
use parking_lot::Mutex;
use tidewire_broker::{Broker, BrokerError, BrokerEvent, EventQueue, News, Notice, Partition};
use tidewire_model::{NodeId, Position, Publication, TenantChannel};
use tokio::sync::{Notify, OnceCell, mpsc};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::config::{Endpoint, InvalidNatsConfig, NatsConfig};
use crate::connection::Connections;
use crate::envelope::{encode_announcement, encode_beat, encode_notice, encode_publication};
use crate::link::{Link, LinkState, LinkTask};
use crate::metrics::{Metrics, Trouble};
use crate::outbox::Outbox;
use crate::reader::{Reader, Source, feed};
use crate::subject::Subjects;

/// The broker over core NATS.
///
/// While NATS cannot be reached, publications are queued up to 32 MiB and then dropped, and
/// subscriptions are remembered. A `Suspect` follows as soon as the subscriptions are in force again.
///
/// Its tasks end with [`Broker::close`], or soon after it is dropped.
pub struct NatsBroker {
    node: NodeId,
    connections: Arc<Connections>,
    subjects: Subjects,
    publications: Outbox,
    notices: Outbox,
    link: Arc<Link>,
    events: Mutex<Option<mpsc::Receiver<BrokerEvent>>>,
    metrics: Arc<Metrics>,
    tracker: TaskTracker,
    closing: CancellationToken,
    closed: OnceCell<()>,
    stop: DropGuard,
}

impl NatsBroker {
    /// Begins to connect `node`, and returns without waiting for it to succeed: NATS may start after
    /// the node, and [`Broker::health`] tells how things stand.
    ///
    /// Needs a tokio runtime. The metrics recorder has to be installed before.
    pub async fn connect(config: NatsConfig, node: NodeId) -> Result<Self, InvalidNatsConfig> {
        let endpoint = Endpoint::parse(config)?;
        let metrics = Arc::new(Metrics::new());
        let stop = CancellationToken::new();
        let connections = Connections::open(&endpoint, &node, &metrics, &stop).await;
        let connections = Arc::new(connections.expect("the first attempt is made later"));
        let tracker = TaskTracker::new();
        let outbox = |client: &async_nats::Client| {
            Outbox::start(client.clone(), metrics.clone(), &tracker, stop.clone())
        };
        let publications = outbox(&connections.data);
        let notices = outbox(&connections.control);
        let link = Arc::new(Link::new(connections.clone()));
        let (queue, events) = EventQueue::new(endpoint.max_events, EventQueue::MAX_BYTES);
        let subjects = endpoint.subjects;
        let broker = Self {
            node: node.clone(),
            connections,
            subjects,
            publications,
            notices,
            link,
            events: Mutex::new(Some(events)),
            metrics,
            tracker,
            closing: CancellationToken::new(),
            closed: OnceCell::new(),
            stop: stop.clone().drop_guard(),
        };
        broker.start_receiving(node, queue, &stop).await;
        Ok(broker)
    }

    async fn start_receiving(&self, node: NodeId, queue: EventQueue, stop: &CancellationToken) {
        let suspect = Arc::new(Notify::new());
        let (new_feeds, accepted_feeds) = mpsc::channel(NEW_FEEDS);
        // First, so that a probe on the node's own subject confirms this one as well.
        let subscriber = self.connections.control.subscribe(self.subjects.all()).await;
        let (news, _) = feed(Source::All, subscriber.expect("the client is open"));
        let own_subject = self.subjects.node(&node);
        let subscriber = self.connections.control.subscribe(own_subject).await;
        let (notices, _) = feed(Source::Node, subscriber.expect("the client is open"));
        // On the connection that publications come by: what becomes of them becomes of beats.
        let subscriber = self.connections.data.subscribe(self.subjects.beats()).await;
        let (beats, _) = feed(Source::Beats, subscriber.expect("the client is open"));
        let reader = Reader {
            feeds: SelectAll::from_iter([news, notices, beats]),
            new_feeds: accepted_feeds,
            queue,
            suspect: suspect.clone(),
            link: self.link.clone(),
            metrics: self.metrics.clone(),
        };
        let link = LinkTask {
            link: self.link.clone(),
            node,
            subjects: self.subjects.clone(),
            new_feeds,
            suspect,
            metrics: self.metrics.clone(),
            state: LinkState::default(),
        };
        self.tracker.spawn(reader.run(stop.clone()));
        self.tracker.spawn(link.run(stop.clone()));
    }

    /// Sends everything queued and waits until NATS has it.
    async fn flush(&self) {
        tokio::join!(self.publications.finish(), self.notices.finish());
        // Bytes that have left the process are read by NATS although the connection closes.
        if self.connections.control.flush().await.is_err() {
            self.metrics.note(Trouble::Client);
        }
        self.link.confirmed(self.link.draw()).await;
    }

    async fn leave(&self) {
        self.closing.cancel();
        if timeout(CLOSE_PATIENCE, self.flush()).await.is_err() {
            tracing::warn!("broker closed before everything was sent");
        }
        self.stop.token().cancel();
        self.tracker.close();
        self.tracker.wait().await;
        self.connections.close().await;
    }
}

#[async_trait]
impl Broker for NatsBroker {
    fn publish(&self, publication: &Publication) {
        let subject = self.subjects.partition(&Partition::of(&publication.channel));
        self.publications.send(subject, encode_publication(publication));
    }

    fn announce(&self, channel: &TenantChannel, position: Position) {
        let subject = self.subjects.partition(&Partition::of(channel));
        self.publications.send(subject, encode_announcement(channel, position));
    }

    fn notify(&self, node: &NodeId, notice: &Notice) {
        self.notices.send(self.subjects.node(node), encode_notice(notice));
    }

    fn notify_all(&self, news: News) {
        self.notices.send(self.subjects.all(), encode_notice(&Notice::News(news)));
    }

    fn beat(&self) {
        self.publications.send(self.subjects.beats(), encode_beat(&self.node));
    }

    /// Waits up to 2 s for the server to confirm. When it cannot be reached or does not answer, the
    /// interest is remembered all the same, and a `Suspect` will tell when it has come into force.
    /// Fails only when the broker is closed.
    async fn subscribe(&self, partition: &Partition) -> Result<(), BrokerError> {
        if self.closing.is_cancelled() {
            return Err(self.connections.unavailable(CLOSED.into()));
        }
        let ticket = self.link.want(partition);
        if self.connections.health().is_err() {
            self.link.expect_late(ticket);
            return Ok(());
        }
        if timeout(SUBSCRIBE_PATIENCE, self.link.confirmed(ticket)).await.is_err() {
            self.metrics.note(Trouble::Unconfirmed);
            self.link.expect_late(ticket);
        }
        Ok(())
    }

    fn unsubscribe(&self, partition: &Partition) {
        self.link.unwant(partition);
    }

    fn events(&self) -> mpsc::Receiver<BrokerEvent> {
        self.events.lock().take().expect("the events of a broker are taken once")
    }

    fn health(&self) -> Result<(), BrokerError> {
        if self.closing.is_cancelled() {
            return Err(self.connections.unavailable(CLOSED.into()));
        }
        self.connections.health()
    }

    /// Waits at most 4 s for NATS to take what is buffered, and 1 s for the connections to
    /// close. A second call waits for the first.
    async fn close(&self) {
        self.closed.get_or_init(|| self.leave()).await;
    }
}

const CLOSED: &str = "broker is closed";
const SUBSCRIBE_PATIENCE: Duration = Duration::from_secs(2);
const CLOSE_PATIENCE: Duration = Duration::from_secs(4);

/// Subscriptions on their way to the reader; when there are more, the link waits for it.
const NEW_FEEDS: usize = 64;
