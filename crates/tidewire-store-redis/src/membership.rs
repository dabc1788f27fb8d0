use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tidewire_model::NodeId;
use tidewire_store::{Membership, NodeLease, StoreError};

use crate::connection::RedisConnection;
use crate::error::CallError;
use crate::library::Function;
use crate::session_store::milliseconds;

/// The leases of live nodes in Redis: a hash of leases and a sorted set of when they run out, by the
/// clock of Redis. When that clock is set back, a dead node is one for as long as its lease again.
pub struct RedisMembership {
    connection: RedisConnection,
    /// The longest of the terms that were given here, in milliseconds.
    longest: AtomicU64,
}

impl RedisMembership {
    pub fn new(connection: RedisConnection) -> Self {
        Self { connection, longest: AtomicU64::new(0) }
    }

    async fn try_members(&self) -> Result<Vec<NodeLease>, CallError> {
        let mut call = Function::LeaseMembers.call(&self.connection.keys().leases());
        call.arg(self.longest.load(Ordering::Relaxed));
        let mut reply = self.connection.call(Function::LeaseMembers, &call).await?;
        reply.text()?;
        let mut members = Vec::new();
        while !reply.is_empty() {
            let lease: NodeLease = serde_json::from_slice(&reply.bytes()?)
                .map_err(|_| CallError::Corrupt("the lease of a node".into()))?;
            members.push(lease);
        }
        members.sort_by(|left, right| left.node.cmp(&right.node));
        Ok(members)
    }
}

#[async_trait]
impl Membership for RedisMembership {
    async fn renew(&self, lease: &NodeLease, ttl: Duration) -> Result<(), StoreError> {
        let ttl = milliseconds(ttl);
        self.longest.fetch_max(ttl, Ordering::Relaxed);
        let text = serde_json::to_vec(lease).expect("a lease is made of plain fields");
        let mut call = Function::LeaseRenew.call(&self.connection.keys().leases());
        call.arg(lease.node.as_str()).arg(text).arg(ttl);
        let renewed = self.connection.call(Function::LeaseRenew, &call).await;
        renewed.map(drop).map_err(|error| error.into_store_error(self.connection.address()))
    }

    async fn members(&self) -> Result<Vec<NodeLease>, StoreError> {
        let members = self.try_members().await;
        members.map_err(|error| error.into_store_error(self.connection.address()))
    }

    async fn withdraw(&self, node: &NodeId) -> Result<(), StoreError> {
        let mut call = Function::LeaseWithdraw.call(&self.connection.keys().leases());
        call.arg(node.as_str());
        let withdrawn = self.connection.call(Function::LeaseWithdraw, &call).await;
        withdrawn.map(drop).map_err(|error| error.into_store_error(self.connection.address()))
    }
}
