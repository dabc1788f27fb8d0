use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tidewire_model::{NodeId, Slot};

use crate::StoreError;

/// Keeps the leases of live nodes.
///
/// Every method may be called from any task.
#[async_trait]
pub trait Membership: Send + Sync {
    /// Writes this node's lease; it is gone after `ttl` unless renewed.
    async fn renew(&self, lease: &NodeLease, ttl: Duration) -> Result<(), StoreError>;

    /// Every lease that has not run out, in the order of node names.
    async fn members(&self) -> Result<Vec<NodeLease>, StoreError>;

    /// Ends a lease at once.
    async fn withdraw(&self, node: &NodeId) -> Result<(), StoreError>;
}

/// What a node tells the others about itself.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct NodeLease {
    pub node: NodeId,
    /// What tenants are placed on. A node of a release that had none is placed by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    pub state: NodeState,
    /// Relative capacity for placement; 100 is an ordinary node.
    pub weight: u32,
    /// Connections it holds now.
    pub connections: u64,
    /// Milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// Whether it beats each second, so that its silence means something. A node of a release that
    /// did not yet says nothing about it.
    #[serde(default)]
    pub beats: bool,
    /// What it could take of another node's clients. Nodes of older releases do not say.
    #[serde(default)]
    pub load: NodeLoad,
    /// Where clients that are asked to move may be sent, as `wss://host:port`; `None` if only a
    /// balancer knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl NodeLease {
    /// The slot of the node, as tenants are placed on it.
    pub fn slot(&self) -> &str {
        self.slot.as_ref().map_or(self.node.as_str(), Slot::as_str)
    }
}

/// How much a node has to do, and what one more client that resumes here costs it. All zero when it
/// is not known.
///
/// Whole numbers, because leases are compared.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub struct NodeLoad {
    /// Thousandths of a core that its process may use.
    pub cores_milli: u32,
    /// Thousandths of these in use, over the last second.
    pub cpu_permille: u16,
    /// Microseconds of one core that a resumption takes.
    pub resume_us: u32,
    /// Milliseconds from a client's request to its worker, for all but the slowest hundredth.
    pub accept_p99_ms: u32,
    /// Milliseconds from `connect` to being served, of those who resume, likewise.
    pub resume_p99_ms: u32,
}

/// Whether a node takes new connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    Ready,
    Draining,
}
