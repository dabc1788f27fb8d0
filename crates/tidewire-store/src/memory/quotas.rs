use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tidewire_model::{NodeId, Tenant};

use super::expiring::Expiring;
use crate::quota_store::Part;
use crate::{Grant, QuotaClaim, QuotaStore, StoreError};

/// Leases parts of quotas to nodes of one process. Time is tokio's, which a test can pause.
#[derive(Default)]
pub struct MemoryQuotaStore {
    parts: Mutex<HashMap<Tenant, Expiring<NodeId, Part>>>,
}

#[async_trait]
impl QuotaStore for MemoryQuotaStore {
    async fn settle(
        &self,
        node: &NodeId,
        claim: &QuotaClaim,
        ttl: Duration,
    ) -> Result<Grant, StoreError> {
        let mut parts = self.parts.lock();
        let parts = parts.entry(claim.tenant.clone()).or_default();
        let others = parts.live().filter(|(other, ..)| *other != node);
        let others: Vec<Part> = others.map(|(_, part, _)| *part).collect();
        let grant = claim.granted(&others);
        let part = Part {
            connections: grant.connections.unwrap_or_default(),
            demand: claim.demand,
            rates: grant.rates.map(Option::unwrap_or_default),
        };
        parts.insert(node.clone(), part, ttl);
        Ok(grant)
    }

    async fn withdraw(&self, node: &NodeId, tenant: &Tenant) -> Result<(), StoreError> {
        let mut parts = self.parts.lock();
        if let Some(of_tenant) = parts.get_mut(tenant) {
            of_tenant.remove(node);
            if of_tenant.live().next().is_none() {
                parts.remove(tenant);
            }
        }
        Ok(())
    }
}
