use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tidewire_model::NodeId;

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
}

/// Whether a node takes new connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    Ready,
    Draining,
}
