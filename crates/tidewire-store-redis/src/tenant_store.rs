use async_trait::async_trait;
use tidewire_model::Tenant;
use tidewire_store::{
    Changes, Expects, Seen, StoreError, TenantEntry, TenantStore, TenantWrite, Written,
};

use crate::connection::RedisConnection;
use crate::error::CallError;
use crate::library::Function;
use crate::random;
use crate::reply::{Reply, unexpected};

/// The documents of tenants in Redis: one hash of them, and which of them have changed since.
///
/// All keys are in one slot, and every call may be repeated without harm.
pub struct RedisTenantStore {
    connection: RedisConnection,
}

impl RedisTenantStore {
    pub fn new(connection: RedisConnection) -> Self {
        Self { connection }
    }

    async fn try_changes(&self, since: &Seen) -> Result<Changes, CallError> {
        let mut call = Function::TenantChanges.call(&self.connection.keys().tenants());
        let nonce = random::nonce(self.connection.random());
        call.arg(&since.life).arg(since.version).arg(&nonce[..]);
        let mut reply = self.connection.call(Function::TenantChanges, &call).await?;
        reply.text()?;
        let seen = Seen { life: reply.text()?, version: reply.number()? };
        let (is_reset, more) = (reply.number()? == 1, reply.number()? == 1);
        let mut entries = Vec::new();
        let mut rest = reply.nested()?;
        while !rest.is_empty() {
            entries.push(parse_entry(&mut rest)?);
        }
        Ok(Changes { seen, is_reset, entries, more })
    }

    async fn try_write(&self, write: TenantWrite<'_>) -> Result<Written, CallError> {
        let mut call = Function::TenantWrite.call(&self.connection.keys().tenants());
        let expected = match write.expects {
            Expects::Revision(revision) => revision.to_string(),
            Expects::Older => String::new(),
        };
        let nonce = format!("{:032x}", u128::from_be_bytes(write.nonce));
        call.arg(write.tenant.as_str()).arg(expected).arg(write.revision).arg(nonce);
        call.arg(write.most).arg(write.marks.concat()).arg(write.sealed.unwrap_or_default());
        let mut reply = self.connection.call(Function::TenantWrite, &call).await?;
        match reply.text()?.as_str() {
            "DONE" => Ok(Written::Done),
            "CONFLICT" => {
                Ok(Written::Conflict { revision: reply.number()?, is_there: reply.number()? == 1 })
            }
            "TAKEN" => Ok(Written::Taken { by: parse_tenant(&mut reply)? }),
            "FULL" => Ok(Written::Full),
            _ => Err(unexpected("what came of a write")),
        }
    }
}

#[async_trait]
impl TenantStore for RedisTenantStore {
    async fn changes(&self, since: &Seen) -> Result<Changes, StoreError> {
        let changes = self.try_changes(since).await;
        changes.map_err(|error| error.into_store_error(self.connection.address()))
    }

    async fn write(&self, write: TenantWrite<'_>) -> Result<Written, StoreError> {
        let written = self.try_write(write).await;
        written.map_err(|error| error.into_store_error(self.connection.address()))
    }
}

fn parse_entry(reply: &mut Reply) -> Result<TenantEntry, CallError> {
    let tenant = parse_tenant(reply)?;
    let (revision, sealed) = (reply.number()?, reply.bytes()?);
    Ok(TenantEntry { tenant, revision, sealed: (!sealed.is_empty()).then_some(sealed) })
}

fn parse_tenant(reply: &mut Reply) -> Result<Tenant, CallError> {
    let corrupt = |_| CallError::Corrupt("the name of a tenant".into());
    Tenant::parse(&reply.text()?).map_err(corrupt)
}
