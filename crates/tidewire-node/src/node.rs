use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidewire_broker::{Broker, Draft, Log, LogError, News, Notice, Partition, Secured};
use tidewire_model::{
    DeliveryClass, Failure, HistoryPage, HistoryQuery, Live, NodeId, Position, Tenant,
    TenantChannel,
};
use tidewire_store::{Life, Membership, NodeLease, Presence, SessionStore};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Duration, Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ask::{Ask, Reply};
use crate::following::Followed;
use crate::hearing::{Hearing, Listener};
use crate::lane::Pending;
use crate::metrics::Metrics;
use crate::placement::{AtHome, Slots};
use crate::presence::{DUES, PresenceWay, Sweeper};
use crate::publish::{Publishing, failure};
use crate::ring::RingBounds;
use crate::router::Router;
use crate::shard::{Action, Shard, Surroundings, Suspicion};
use crate::{LeaseReport, NodeConfig, TailLimits, members};

/// A node of the cluster: a cheap handle on its shards and ports.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: NodeConfig,
    pub(crate) ports: Ports,
    /// For what this node has to tell itself.
    pub(crate) notices: mpsc::Sender<Notice>,
    shards: Vec<mpsc::Sender<Action>>,
    members: watch::Receiver<Vec<NodeLease>>,
    slots: Live<Slots>,
    rings: Arc<RingBounds>,
    /// For whoever renews the lease.
    news: Arc<Notify>,
    is_deaf: Arc<AtomicBool>,
}

/// What a node is built on.
#[derive(Clone)]
pub struct Ports {
    pub log: Arc<dyn Log>,
    pub broker: Arc<dyn Broker>,
    pub sessions: Arc<dyn SessionStore>,
    pub membership: Arc<dyn Membership>,
    pub presence: Arc<dyn Presence>,
}

/// Where a node's tasks run, who waits for them, and what ends them.
#[derive(Clone, Copy, Debug)]
pub struct Tasks<'a> {
    /// Of the shards, in turn; the node's other tasks run where it is started. At least one.
    pub runtimes: &'a [Handle],
    pub tracker: &'a TaskTracker,
    pub stop: &'a CancellationToken,
}

/// What a shard may have waiting. When it is full, commands wait, and what comes from the broker is
/// dropped and repaired from the log.
const SHARD_INBOX: usize = 8_192;
/// Reads of the log a node has under way at most to repair channels, and to bring subscribers in
/// step.
const REPAIRS: usize = 32;
const JOINS: usize = 64;
/// Notices waiting for the edge.
const NOTICES: usize = 1_024;
/// Beats of other nodes waiting to be taken.
const BEATS: usize = 1_024;
/// Channels that a node which hears nobody asks the log about, each second. At 2.8 µs of Redis for
/// each, a node takes 28 ms of a second.
const POLLED_PER_SECOND: usize = 10_000;
/// How long the store of sessions may take to say that it is there.
const HEALTH_PATIENCE: Duration = Duration::from_secs(1);

impl Node {
    /// Starts the node's tasks; they end after `tasks.stop`. Shard `i` runs on runtime `i`, counted
    /// round. Also yields the notices that other nodes send to this one.
    pub fn start(
        config: NodeConfig,
        ports: Ports,
        report: LeaseReport,
        tasks: Tasks<'_>,
    ) -> (Self, mpsc::Receiver<Notice>) {
        let Tasks { tracker, stop, .. } = tasks;
        let is_deaf = Arc::new(AtomicBool::new(false));
        let (way, due) = presence_way(&ports, &report());
        let rings = Arc::new(RingBounds::new(config.ring_limits));
        let (shards, suspicions) = start_shards(&config, &ports, (&is_deaf, &way, &rings), tasks);
        let (notices, received_notices) = mpsc::channel(NOTICES);
        let (beats, heard) = mpsc::channel(BEATS);
        let router = Router::new(shards.clone(), suspicions.clone(), notices.clone(), beats);
        tracker.spawn(router.run(ports.broker.events(), stop.clone()));
        let (members_sender, members) = watch::channel(Vec::new());
        let listener = Listener {
            hearing: Hearing::new(config.id.clone()),
            broker: Arc::clone(&ports.broker),
            heard,
            members: members.clone(),
            is_deaf: Arc::clone(&is_deaf),
            suspicions: suspicions.clone(),
        };
        tracker.spawn(listener.run(stop.clone()));
        let sweeper = Sweeper::new(way, shards.clone(), members.clone(), config.rules.clone(), due);
        tracker.spawn(sweeper.run(stop.clone()));
        let (news, slots) = (Arc::new(Notify::new()), Live::new(Slots::unknown()));
        tracker.spawn(members::run(
            members::Keeper {
                node: config.id.clone(),
                membership: Arc::clone(&ports.membership),
                report,
                members: members_sender,
                slots: slots.clone(),
                suspicions,
                news: Arc::clone(&news),
            },
            stop.clone(),
        ));
        let inner = Inner { config, ports, notices, shards, members, slots, rings, news, is_deaf };
        (Self(Arc::new(inner)), received_notices)
    }

    /// Has channels remember less, within a second, or as much as ever: for a node whose memory is short.
    pub fn remember_less(&self, is_short: bool) {
        self.0.rings.tighten(is_short);
    }

    pub fn id(&self) -> &NodeId {
        &self.0.config.id
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    /// Hands something to its channel's shard without waiting, or gives it back when the shard has as
    /// much waiting as it may: ask again when there is [`Node::room`], and nothing else about this
    /// channel before. What one worker asks about one channel is done in that order.
    ///
    /// Everything that has an answer is answered once, through its outbox: by a node that is
    /// stopping, with a refusal.
    pub fn ask(&self, ask: Ask) -> Result<(), Ask> {
        match self.inbox_of(ask.channel()).try_reserve() {
            Ok(room) => room.send(Action::Ask { ask, at: Instant::now() }),
            Err(TrySendError::Full(())) => return Err(ask),
            Err(TrySendError::Closed(())) => ask.refuse(),
        }
        Ok(())
    }

    /// Waits until the shard of a channel has room, or has stopped. Somebody else may take it first.
    ///
    /// Cancel-safe: it holds no room.
    pub async fn room(&self, channel: &TenantChannel) {
        // A stopped shard has room: whatever it is asked is refused at once.
        drop(self.inbox_of(channel).reserve().await);
    }

    /// Hands a draft to the channel's log. Drafts that one task hands over for one channel, one
    /// call after the other, get offsets in that order, whether or not it waits for the verdicts.
    ///
    /// Waits only while the shard has more to do than it may have waiting. Cancelling it before it
    /// returns leaves nothing behind.
    pub async fn publish(&self, channel: TenantChannel, draft: Draft) -> Publishing {
        let (reply, verdict) = oneshot::channel();
        let shard = self.inbox_of(&channel);
        let pending = Pending { draft, reply: Reply::Caller(reply) };
        // A stopped shard drops it, which is a refusal.
        drop(shard.send(Action::Publish { channel, pending }).await);
        Publishing(verdict)
    }

    /// Reads a page of what a channel keeps: nothing, if it is ephemeral.
    pub async fn history(
        &self,
        channel: &TenantChannel,
        query: HistoryQuery,
    ) -> Result<HistoryPage, Failure> {
        if self.0.config.rules.read(|rules| rules.class(channel)) == DeliveryClass::Ephemeral {
            let (publications, top) = (Vec::new(), Position::NONE);
            return Ok(HistoryPage { publications, top, next: None });
        }
        self.0.ports.log.page(channel, query).await.map_err(|error: LogError| {
            tracing::debug!(%channel, %error, "cannot read history");
            failure(&error)
        })
    }

    /// The live nodes, in the order of their names, as of at most a few seconds ago.
    pub fn members(&self) -> Vec<NodeLease> {
        self.0.members.borrow().clone()
    }

    /// Whether this node is one of a tenant's `homes`, as of at most a few seconds ago. `known` is the
    /// tenant's, and spares whoever asks again the hashing.
    pub fn is_home(&self, tenant: &Tenant, homes: usize, known: &AtHome) -> bool {
        self.0.slots.read(|slots| slots.is_home(tenant, homes, known))
    }

    /// Writes this node's lease now, because what it says has changed, and reads the others'. Returns
    /// at once.
    pub fn renew_lease(&self) {
        self.0.news.notify_one();
    }

    /// Tells another node to leave, as unreliably as anything that nodes tell each other.
    pub fn ask_to_leave(&self, node: &NodeId) {
        self.0.ports.broker.notify(node, &Notice::Drain);
    }

    /// Tells every other node that there is something to read, as unreliably as anything that nodes
    /// tell each other.
    pub fn announce_news(&self, news: News) {
        self.0.ports.broker.notify_all(news);
    }

    /// Whether sessions can be taken up anywhere, as far as this node can tell. Takes a second at
    /// most. Cancel-safe.
    pub async fn sessions_in_reach(&self) -> bool {
        let health = timeout(HEALTH_PATIENCE, self.0.ports.sessions.health()).await;
        matches!(health, Ok(Ok(())))
    }

    /// Waits, `within` at most, until what was published here is where a failover would find it; for a
    /// node that nobody publishes at any more.
    ///
    /// # Errors
    ///
    /// When it cannot be learned.
    pub async fn secure(&self, within: Duration) -> Result<Secured, LogError> {
        self.0.ports.log.secure(within).await
    }

    /// What keeps this node from doing its work, if anything: each is a sentence for the operator.
    pub async fn ailments(&self) -> Vec<String> {
        let log = self.0.ports.log.health().await.err().map(|error| error.to_string());
        let sessions = self.0.ports.sessions.health().await.err().map(|error| error.to_string());
        let broker = self.0.ports.broker.health().err().map(|error| error.to_string());
        [log, sessions, broker].into_iter().flatten().collect()
    }

    /// Whether some of the other nodes that live cannot be heard; never so if there are none.
    pub fn is_deaf(&self) -> bool {
        self.0.is_deaf.load(Ordering::Relaxed)
    }

    /// The number of the shard that owns a channel. It follows from the channel's partition, so that a
    /// partition belongs to one shard.
    pub fn shard_of(&self, channel: &TenantChannel) -> usize {
        usize::from(Partition::of(channel).index) % self.0.shards.len()
    }

    fn inbox_of(&self, channel: &TenantChannel) -> &mpsc::Sender<Action> {
        &self.0.shards[self.shard_of(channel)]
    }
}

/// What the shards share of presence, and what they tell the sweeper.
fn presence_way(
    ports: &Ports,
    lease: &NodeLease,
) -> (Arc<PresenceWay>, mpsc::Receiver<(u16, Instant)>) {
    let (due, dues) = mpsc::channel(DUES);
    let life = Life { node: lease.node.clone(), started_at_ms: lease.started_at_ms };
    (Arc::new(PresenceWay::new(Arc::clone(&ports.presence), life, due)), dues)
}

/// Starts the shards. Yields their inboxes, and what makes each suspicious.
fn start_shards(
    config: &NodeConfig,
    ports: &Ports,
    (is_deaf, way, rings): (&Arc<AtomicBool>, &Arc<PresenceWay>, &Arc<RingBounds>),
    Tasks { runtimes, tracker, stop }: Tasks<'_>,
) -> (Vec<mpsc::Sender<Action>>, Vec<Arc<Suspicion>>) {
    let repairs = Arc::new(Semaphore::new(REPAIRS));
    let joins = Arc::new(Semaphore::new(JOINS));
    let followed = Arc::new(Followed::default());
    let count = config.shards.max(1);
    let tail_limits = TailLimits { bytes: config.tail_limits.bytes / count, ..config.tail_limits };
    let start = |index: usize| {
        let around = Arc::new(Surroundings {
            log: Arc::clone(&ports.log),
            broker: Arc::clone(&ports.broker),
            repairs: Arc::clone(&repairs),
            joins: Arc::clone(&joins),
            is_deaf: Arc::clone(is_deaf),
            polled_per_second: POLLED_PER_SECOND.div_ceil(count),
            rings: Arc::clone(rings),
            tail_limits,
            presence: Arc::clone(way),
            followed: Arc::clone(&followed),
            random: config.random.clone(),
            metrics: Metrics::new(index),
        });
        let (inbox, actions) = mpsc::channel(SHARD_INBOX);
        let suspicion = Arc::new(Suspicion::default());
        let shard =
            Shard::new(around, &config.rules).run(actions, Arc::clone(&suspicion), stop.clone());
        tracker.spawn_on(shard, &runtimes[index % runtimes.len()]);
        (inbox, suspicion)
    };
    (0..count).map(start).unzip()
}
