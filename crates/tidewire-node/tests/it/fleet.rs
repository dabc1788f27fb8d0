//! N nodes on one log and one network, and subscribers that keep what they are handed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tidewire_broker::{Draft, Log, MemoryBroker, MemoryNetwork, Notice};
use tidewire_hub::{Inbox, QueueLimits, outbox};
use tidewire_model::{
    Channel, ConnectionId, Delivery, Failure, JoinId, Joined, NodeId, Payload, Position,
    PublicationId, Since, Tenant, TenantChannel, UserId,
};
use tidewire_node::{Join, LeaseReport, Node, NodeConfig, Ports};
use tidewire_store::{MemoryMembership, MemorySessionStore, NodeLease, NodeState};
use tidewire_testkit::SwitchedLog;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Nodes named `node-0`, `node-1` and so on.
pub(crate) struct Fleet<const N: usize> {
    pub(crate) nodes: [Node; N],
    pub(crate) notices: [mpsc::Receiver<Notice>; N],
    pub(crate) network: MemoryNetwork,
    pub(crate) log: Arc<SwitchedLog>,
    _stop: tokio_util::sync::DropGuard,
}

impl<const N: usize> Fleet<N> {
    pub(crate) fn start() -> Self {
        let network = MemoryNetwork::default();
        let log = Arc::new(SwitchedLog::new(400));
        let sessions = Arc::new(MemorySessionStore::default());
        let membership = Arc::new(MemoryMembership::default());
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let started = std::array::from_fn::<_, N, _>(|index| {
            let id = NodeId::parse(&format!("node-{index}")).expect("node");
            let ports = Ports {
                log: Arc::clone(&log) as Arc<dyn Log>,
                broker: Arc::new(MemoryBroker::new(network.clone(), id.clone())),
                sessions: Arc::clone(&sessions) as _,
                membership: Arc::clone(&membership) as _,
            };
            Node::start(NodeConfig::new(id.clone()), ports, report(id), &tracker, &stop)
        });
        let mut notices = Vec::new();
        let nodes = started.map(|(node, received)| {
            notices.push(received);
            node
        });
        let notices = notices.try_into().expect("one each");
        Self { nodes, notices, network, log, _stop: stop.drop_guard() }
    }
}

pub(crate) fn report(node: NodeId) -> LeaseReport {
    Box::new(move || NodeLease {
        node: node.clone(),
        state: NodeState::Ready,
        weight: 100,
        connections: 0,
        started_at_ms: 0,
    })
}

static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// A connection with one join.
pub(crate) struct Subscriber {
    inbox: Inbox,
    node: Node,
    channel: TenantChannel,
    connection: ConnectionId,
    pub(crate) heard: Vec<Delivery>,
}

impl Subscriber {
    /// Joins and waits for the answer.
    pub(crate) async fn join(
        node: &Node,
        name: &str,
        since: Since,
    ) -> (Self, Result<Joined, Failure>) {
        Self::join_with(node, name, since, QueueLimits::default()).await
    }

    pub(crate) async fn join_with(
        node: &Node,
        name: &str,
        since: Since,
        limits: QueueLimits,
    ) -> (Self, Result<Joined, Failure>) {
        let (outbox, mut inbox) = outbox(limits);
        let channel = channel(name);
        let connection = ConnectionId(CONNECTIONS.fetch_add(1, Ordering::Relaxed));
        let join = Join { channel: channel.clone(), since, connection, id: JoinId(1), outbox };
        node.join(join).await;
        let mut heard = Vec::new();
        inbox.take(&mut heard, 1).await;
        let Some(Delivery::Joined { outcome, .. }) = heard.pop() else {
            unreachable!("the answer comes first");
        };
        (Self { inbox, node: node.clone(), channel, connection, heard }, outcome)
    }

    pub(crate) async fn live(node: &Node, name: &str) -> Self {
        let (subscriber, outcome) = Self::join(node, name, Since::Now).await;
        assert!(outcome.expect("joined").live);
        subscriber
    }

    /// Waits until `count` more deliveries have come.
    pub(crate) async fn hear(&mut self, count: usize) -> &[Delivery] {
        let wanted = self.heard.len() + count;
        while self.heard.len() < wanted {
            let most = wanted - self.heard.len();
            self.inbox.take(&mut self.heard, most).await;
        }
        &self.heard[wanted - count..]
    }

    /// What has come and was not waited for.
    pub(crate) fn hear_ready(&mut self) -> usize {
        self.inbox.take_ready(&mut self.heard, usize::MAX)
    }

    pub(crate) fn offsets(&self) -> Vec<u64> {
        let offset = |delivery: &Delivery| match delivery {
            Delivery::Publication { envelope, .. } => Some(envelope.position.offset),
            _ => None,
        };
        self.heard.iter().filter_map(offset).collect()
    }

    pub(crate) fn payloads(&self) -> Vec<Bytes> {
        let payload = |delivery: &Delivery| match delivery {
            Delivery::Publication { envelope, .. } => Some(envelope.payload.bytes().clone()),
            _ => None,
        };
        self.heard.iter().filter_map(payload).collect()
    }

    pub(crate) async fn leave(&self) {
        self.node.leave(self.channel.clone(), self.connection, JoinId(1)).await;
    }
}

pub(crate) fn channel(name: &str) -> TenantChannel {
    TenantChannel::new(
        Tenant::parse("acme").expect("tenant"),
        Channel::parse(name).expect("channel"),
    )
}

pub(crate) fn draft(text: &str) -> Draft {
    Draft {
        id: None,
        publisher: Some(UserId::parse("ann").expect("user")),
        payload: Payload::binary(Bytes::from(text.to_owned())),
    }
}

pub(crate) fn draft_with_id(text: &str, id: &str) -> Draft {
    Draft { id: Some(PublicationId::parse(id).expect("id")), ..draft(text) }
}

/// Publishes and waits for the position.
pub(crate) async fn publish(node: &Node, name: &str, draft: Draft) -> Position {
    let publishing = node.publish(channel(name), draft).await;
    publishing.finish().await.expect("published").position
}
