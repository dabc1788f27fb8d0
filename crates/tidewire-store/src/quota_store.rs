use std::time::Duration;

use async_trait::async_trait;
use tidewire_model::{NodeId, Quotas, Rates, Tenant};

use crate::StoreError;

/// Leases parts of what tenants may have over the whole cluster to its nodes.
///
/// What is granted to all nodes together is never more than the quota, save for connections that are
/// there already and for a tenth of a rate, so that nobody has to wait for a first part. Every method
/// may be called from any task. Cancelling leaves open whether it happened; repeating does no harm.
#[async_trait]
pub trait QuotaStore: Send + Sync {
    /// Says what a node holds and wants of a tenant's quotas, and hears what it may. That is kept from
    /// the others for `ttl`, by the clock of the store.
    async fn settle(
        &self,
        node: &NodeId,
        claim: &QuotaClaim,
        ttl: Duration,
    ) -> Result<Grant, StoreError>;

    /// Gives back all that a node was granted of a tenant's quotas.
    async fn withdraw(&self, node: &NodeId, tenant: &Tenant) -> Result<(), StoreError>;
}

/// What a node says of a tenant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QuotaClaim {
    pub tenant: Tenant,
    /// As this node knows them: nodes may differ for a moment after a change.
    pub quotas: Quotas,
    /// Connections it has; not taken back, even beyond the quota.
    pub held: u32,
    /// Connections it would like to have room for, those it has included.
    pub wanted: u32,
    /// What its clients ask a second, whether or not they get it.
    pub demand: Rates<u32>,
}

/// What a node may use until it settles again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Grant {
    /// Nodes with a part, itself included.
    pub nodes: u32,
    /// Connections at once.
    pub connections: Option<u32>,
    /// How much a second, at least 1.
    pub rates: Rates<Option<u32>>,
}

/// What another node has of the same tenant's quotas.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Part {
    pub(crate) connections: u32,
    pub(crate) demand: Rates<u32>,
    pub(crate) rates: Rates<u32>,
}

impl QuotaClaim {
    /// What is granted beside what the others have. What `quota_settle` of the Redis functions does
    /// as well.
    pub(crate) fn granted(&self, others: &[Part]) -> Grant {
        let nodes = u64::try_from(others.len() + 1).unwrap_or(u64::MAX);
        let connections = self.quotas.connections.map(|limit| {
            let taken: u64 = others.iter().map(|part| u64::from(part.connections)).sum();
            let free = clamp(u64::from(limit).saturating_sub(taken));
            self.wanted.min(free).max(self.held)
        });
        let taken = others.iter().fold(Rates::<(u64, u64)>::default(), |sum, part| {
            sum.with(part.demand.with(part.rates)).map(|((demand, rate), (more, used))| {
                (demand + u64::from(more), rate + u64::from(used))
            })
        });
        let rates = self.quotas.rates.with(self.demand).with(taken).map(|((limit, own), taken)| {
            limit.map(|limit| share(limit.into(), own.into(), taken, nodes))
        });
        Grant { nodes: clamp(nodes), connections, rates }
    }
}

/// A node's share of a rate: what it needs and an equal part of the rest where there is enough, else
/// nine tenths by need and one tenth alike. Not more than the others have left, but a part of a tenth
/// more in any case.
fn share(limit: u64, own: u64, (demand, taken): (u64, u64), nodes: u64) -> u32 {
    let all = own + demand;
    let tenth = limit / (10 * nodes);
    let least = (limit + limit / 10).saturating_sub(taken).min(tenth).max(1);
    let fair = if all <= limit {
        own + (limit - all) / nodes
    } else {
        let by_need = u128::from(limit) * 9 * u128::from(own) / (10 * u128::from(all));
        u64::try_from(by_need).unwrap_or(limit) + tenth
    };
    clamp(fair.min(limit.saturating_sub(taken)).max(least))
}

fn clamp(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
