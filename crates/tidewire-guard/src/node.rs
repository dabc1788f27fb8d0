//! A node for the paths that lead through one.

use std::sync::Arc;

use tidewire_broker::{Log, MemoryBroker, MemoryLog, MemoryNetwork, Retention};
use tidewire_model::NodeId;
use tidewire_node::{LeaseReport, Node, NodeConfig, Ports, Tasks};
use tidewire_store::{
    MemoryMembership, MemoryPresence, MemorySessionStore, NodeLease, NodeLoad, NodeState,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A node of one shard, on this thread.
pub(crate) fn start(tracker: &TaskTracker, stop: &CancellationToken) -> Node {
    let id = NodeId::parse("node-0").expect("a node");
    let log = MemoryLog::new(Retention::default());
    let ports = Ports {
        log: Arc::new(log) as Arc<dyn Log>,
        broker: Arc::new(MemoryBroker::new(MemoryNetwork::default(), id.clone())),
        sessions: Arc::new(MemorySessionStore::default()),
        membership: Arc::new(MemoryMembership::default()),
        presence: Arc::new(MemoryPresence::default()),
    };
    let runtimes = [Handle::current()];
    let config = NodeConfig { shards: 1, ..NodeConfig::new(id.clone()) };
    Node::start(config, ports, report(id), Tasks { runtimes: &runtimes, tracker, stop }).0
}

fn report(node: NodeId) -> LeaseReport {
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
