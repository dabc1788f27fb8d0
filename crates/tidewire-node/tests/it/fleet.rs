//! N nodes on one log and one network, and subscribers that keep what they are handed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tidewire_broker::{Draft, Log, MemoryBroker, MemoryNetwork, Notice};
use tidewire_hub::{Inbox, Outbox, QueueLimits, outbox};
use tidewire_model::{
    Channel, ChannelRule, ChannelRules, ConnectionId, Delivery, Failure, JoinId, Joined, LiveRules,
    NodeId, Payload, Position, PublicationId, Since, Tenant, TenantChannel, Tenure, UserId,
};
use tidewire_node::{Ask, Join, LeaseReport, Node, NodeConfig, Ports, Tasks};
use tidewire_store::{MemoryMembership, MemorySessionStore, NodeLease, NodeLoad, NodeState};
use tidewire_testkit::{SwitchedLog, SwitchedPresence};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Nodes named `node-0`, `node-1` and so on.
pub(crate) struct Fleet<const N: usize> {
    pub(crate) nodes: [Node; N],
    pub(crate) notices: [mpsc::Receiver<Notice>; N],
    pub(crate) network: MemoryNetwork,
    pub(crate) log: Arc<SwitchedLog>,
    pub(crate) presence: Arc<SwitchedPresence>,
    pub(crate) membership: Arc<MemoryMembership>,
    pub(crate) tracker: TaskTracker,
    stop: DropGuard,
}

impl<const N: usize> Fleet<N> {
    pub(crate) fn start() -> Self {
        Self::start_on(Arc::new(SwitchedLog::new(400)))
    }

    /// As [`Fleet::start`], on a log that others may use too.
    pub(crate) fn start_on(log: Arc<SwitchedLog>) -> Self {
        Self::with(log, |_| LiveRules::default())
    }

    /// Nodes that treat the channels of the tests' tenant by `rules`.
    pub(crate) fn with_rules(rules: &[ChannelRule]) -> Self {
        Self::with_rules_of_each(|_| rules.to_vec())
    }

    /// Nodes that may treat channels differently, by their index.
    pub(crate) fn with_rules_of_each(rules: impl Fn(usize) -> Vec<ChannelRule>) -> Self {
        Self::with_live_rules(|index| live_rules(rules(index)))
    }

    /// Nodes whose rules are replaced while they run, by their index.
    pub(crate) fn with_live_rules(rules: impl Fn(usize) -> LiveRules) -> Self {
        Self::with(Arc::new(SwitchedLog::new(400)), rules)
    }

    fn with(log: Arc<SwitchedLog>, rules: impl Fn(usize) -> LiveRules) -> Self {
        let network = MemoryNetwork::default();
        let sessions = Arc::new(MemorySessionStore::default());
        let membership = Arc::new(MemoryMembership::default());
        let presence = Arc::new(SwitchedPresence::default());
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let runtimes = [Handle::current()];
        let tasks = Tasks { runtimes: &runtimes, tracker: &tracker, stop: &stop };
        let started = std::array::from_fn::<_, N, _>(|index| {
            let id = NodeId::parse(&format!("node-{index}")).expect("node");
            let ports = Ports {
                log: Arc::clone(&log) as Arc<dyn Log>,
                broker: Arc::new(MemoryBroker::new(network.clone(), id.clone())),
                sessions: Arc::clone(&sessions) as _,
                membership: Arc::clone(&membership) as _,
                presence: Arc::clone(&presence) as _,
            };
            let config = NodeConfig { rules: rules(index), ..NodeConfig::new(id.clone()) };
            Node::start(config, ports, report(id), tasks)
        });
        let mut notices = Vec::new();
        let nodes = started.map(|(node, received)| {
            notices.push(received);
            node
        });
        let notices = notices.try_into().expect("one each");
        Self {
            nodes,
            notices,
            network,
            log,
            presence,
            membership,
            tracker,
            stop: stop.drop_guard(),
        }
    }

    /// Ends the nodes' tasks, and waits for that.
    pub(crate) async fn stop(self) -> [Node; N] {
        drop(self.stop);
        self.tracker.close();
        self.tracker.wait().await;
        self.nodes
    }
}

/// Rules for the tests' tenant.
pub(crate) fn rules(rules: Vec<ChannelRule>) -> ChannelRules {
    ChannelRules::new(HashMap::from([(channel("any").tenant, rules)]))
}

fn live_rules(of_tenant: Vec<ChannelRule>) -> LiveRules {
    rules(of_tenant).into()
}

pub(crate) fn report(node: NodeId) -> LeaseReport {
    Box::new(move || NodeLease {
        node: node.clone(),
        slot: None,
        state: NodeState::Ready,
        weight: 100,
        connections: 0,
        started_at_ms: 0,
        beats: false,
        load: NodeLoad::default(),
        url: None,
    })
}

static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// A worker with one connection that has one join.
pub(crate) struct Subscriber {
    outbox: Outbox,
    inbox: Inbox,
    node: Node,
    channel: TenantChannel,
    tenure: Tenure,
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
        Self::join_at(node, channel(name), since, limits).await
    }

    async fn join_at(
        node: &Node,
        channel: TenantChannel,
        since: Since,
        limits: QueueLimits,
    ) -> (Self, Result<Joined, Failure>) {
        let (outbox, mut inbox) = outbox(limits);
        let connection = ConnectionId(CONNECTIONS.fetch_add(1, Ordering::Relaxed));
        let join = Join {
            channel: channel.clone(),
            since,
            is_new: true,
            connection,
            id: JoinId(1),
            outbox: outbox.clone(),
        };
        node.ask(Ask::Join(join)).expect("room");
        let mut heard = Vec::new();
        take(&mut inbox, &mut heard, 1).await;
        let Some(Delivery::Joined { tenure, outcome, .. }) = heard.pop() else {
            unreachable!("the answer comes first");
        };
        (Self { outbox, inbox, node: node.clone(), channel, tenure, heard }, outcome)
    }

    pub(crate) async fn live(node: &Node, name: &str) -> Self {
        let (subscriber, outcome) = Self::join(node, name, Since::Now).await;
        assert!(outcome.expect("joined").live);
        subscriber
    }

    /// As [`live`](Self::live), in a channel that no client can name.
    pub(crate) async fn live_at(node: &Node, channel: TenantChannel) -> Self {
        let limits = QueueLimits::default();
        let (subscriber, outcome) = Self::join_at(node, channel, Since::Now, limits).await;
        assert!(outcome.expect("joined").live);
        subscriber
    }

    /// Waits until `count` more deliveries have come.
    pub(crate) async fn hear(&mut self, count: usize) -> &[Delivery] {
        let wanted = self.heard.len() + count;
        while self.heard.len() < wanted {
            let most = wanted - self.heard.len();
            take(&mut self.inbox, &mut self.heard, most).await;
        }
        &self.heard[wanted - count..]
    }

    /// What has come and was not waited for.
    pub(crate) fn hear_ready(&mut self) -> usize {
        self.inbox.take_ready(&mut self.heard, usize::MAX)
    }

    pub(crate) fn offsets(&self) -> Vec<u64> {
        let offset = |delivery: &Delivery| match delivery {
            Delivery::Publication(envelope) => Some(envelope.position.offset),
            _ => None,
        };
        self.heard.iter().filter_map(offset).collect()
    }

    pub(crate) fn payloads(&self) -> Vec<Bytes> {
        let payload = |delivery: &Delivery| match delivery {
            Delivery::Publication(envelope) => Some(envelope.payload.bytes().clone()),
            _ => None,
        };
        self.heard.iter().filter_map(payload).collect()
    }

    pub(crate) fn leave(&self) {
        let (channel, tenure, outbox) = (self.channel.clone(), self.tenure, self.outbox.clone());
        self.node.ask(Ask::Release { channel, tenure, outbox }).expect("room");
    }
}

/// Waits until there is something, and takes up to `most` of it.
pub(crate) async fn take(inbox: &mut Inbox, batch: &mut Vec<Delivery>, most: usize) {
    inbox.filled().await;
    inbox.take_ready(batch, most);
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
