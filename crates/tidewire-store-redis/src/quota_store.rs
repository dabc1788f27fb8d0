use std::time::Duration;

use async_trait::async_trait;
use tidewire_model::{NodeId, Rates, Tenant};
use tidewire_store::{Grant, QuotaClaim, QuotaStore, StoreError};

use crate::connection::RedisConnection;
use crate::error::CallError;
use crate::library::Function;
use crate::reply::{Reply, unexpected};
use crate::session_store::milliseconds;

/// What nodes have of tenants' quotas, in Redis: a hash for each tenant that says what each node has
/// and until when, by the clock of Redis.
pub struct RedisQuotaStore {
    connection: RedisConnection,
}

impl RedisQuotaStore {
    pub fn new(connection: RedisConnection) -> Self {
        Self { connection }
    }

    async fn try_settle(
        &self,
        node: &NodeId,
        claim: &QuotaClaim,
        ttl: Duration,
    ) -> Result<Grant, CallError> {
        let mut call = Function::QuotaSettle.call(&[self.connection.keys().quotas(&claim.tenant)]);
        call.arg(node.as_str()).arg(milliseconds(ttl)).arg(claim.held).arg(claim.wanted);
        for demand in claim.demand.into_array() {
            call.arg(demand);
        }
        call.arg(written(claim.quotas.connections));
        for quota in claim.quotas.rates.into_array() {
            call.arg(written(quota));
        }
        let mut reply = self.connection.call(Function::QuotaSettle, &call).await?;
        reply.text()?;
        let nodes = u32::try_from(reply.number()?).map_err(|_| unexpected("a count"))?;
        let connections = granted(&mut reply)?;
        let rates = [granted(&mut reply)?, granted(&mut reply)?, granted(&mut reply)?];
        Ok(Grant { nodes, connections, rates: Rates::from(rates) })
    }
}

#[async_trait]
impl QuotaStore for RedisQuotaStore {
    async fn settle(
        &self,
        node: &NodeId,
        claim: &QuotaClaim,
        ttl: Duration,
    ) -> Result<Grant, StoreError> {
        let grant = self.try_settle(node, claim, ttl).await;
        grant.map_err(|error| error.into_store_error(self.connection.address()))
    }

    async fn withdraw(&self, node: &NodeId, tenant: &Tenant) -> Result<(), StoreError> {
        let mut call = Function::QuotaWithdraw.call(&[self.connection.keys().quotas(tenant)]);
        call.arg(node.as_str());
        let withdrawn = self.connection.call(Function::QuotaWithdraw, &call).await;
        withdrawn.map(drop).map_err(|error| error.into_store_error(self.connection.address()))
    }
}

/// Nothing where there is no quota.
fn written(quota: Option<u32>) -> String {
    quota.map(|quota| quota.to_string()).unwrap_or_default()
}

fn granted(reply: &mut Reply) -> Result<Option<u32>, CallError> {
    match reply.text()?.as_str() {
        "" => Ok(None),
        number => number.parse().map(Some).map_err(|_| unexpected("what is granted")),
    }
}
