use async_trait::async_trait;
use tidewire_model::Tenant;
use tidewire_store::{
    Added, FEW_REVOCATIONS_OF_TENANT, MOST_REVOCATIONS, MOST_REVOCATIONS_OF_TENANT, Revocation,
    RevocationStore, Revoked, SCARCE_REVOCATIONS, Seen, StoreError,
};

use crate::connection::RedisConnection;
use crate::error::CallError;
use crate::library::Function;
use crate::reply::unexpected;

/// What has been revoked, in Redis, numbered as it changes; forgotten by the clock of Redis.
///
/// Every call may be repeated without harm, and is, for as long as a call may take, when a reply is
/// lost. The numbering ends with the process that holds it: a failover, a restart, a flush.
pub struct RedisRevocationStore {
    connection: RedisConnection,
}

/// Revocations of one page.
const PAGE: usize = 1_000;

impl RedisRevocationStore {
    pub fn new(connection: RedisConnection) -> Self {
        Self { connection }
    }

    async fn try_add(&self, revocations: &[Revocation]) -> Result<Added, CallError> {
        let mut call = Function::Revoke.call(&self.connection.keys().revocations());
        call.arg(MOST_REVOCATIONS_OF_TENANT).arg(MOST_REVOCATIONS);
        call.arg(FEW_REVOCATIONS_OF_TENANT).arg(SCARCE_REVOCATIONS);
        for revocation in revocations {
            call.arg(format!("{} {}", revocation.tenant, revocation.about))
                .arg(revocation.before)
                .arg(revocation.until);
        }
        let mut reply = self.connection.call(Function::Revoke, &call).await?;
        match reply.text()?.as_str() {
            "OK" => Ok(Added::Done),
            "FULL" => Ok(Added::Full),
            _ => Err(unexpected("whether it was added")),
        }
    }

    async fn try_changes(&self, since: &Seen) -> Result<Revoked, CallError> {
        let mut call = Function::RevokedSince.call(&self.connection.keys().revocations());
        call.arg(&since.life).arg(since.version).arg(PAGE);
        let mut reply = self.connection.call(Function::RevokedSince, &call).await?;
        reply.text()?;
        let seen = Seen { life: reply.text()?, version: reply.number()? };
        let more = reply.number()? == 1;
        let mut revocations = Vec::new();
        while !reply.is_empty() {
            let revocation = parse(&reply.text()?, &reply.text()?);
            let corrupt = || CallError::Corrupt("a revocation".into());
            revocations.push(revocation.ok_or_else(corrupt)?);
        }
        Ok(Revoked { is_reset: since.life != seen.life, seen, revocations, more })
    }
}

#[async_trait]
impl RevocationStore for RedisRevocationStore {
    async fn add(&self, revocations: &[Revocation]) -> Result<Added, StoreError> {
        let added = self.try_add(revocations).await;
        added.map_err(|error| error.into_store_error(self.connection.address()))
    }

    async fn changes(&self, since: &Seen) -> Result<Revoked, StoreError> {
        let changes = self.try_changes(since).await;
        changes.map_err(|error| error.into_store_error(self.connection.address()))
    }
}

fn parse(name: &str, times: &str) -> Option<Revocation> {
    let (tenant, about) = name.split_once(' ')?;
    let (before, until) = times.split_once(' ')?;
    Some(Revocation {
        tenant: Tenant::parse(tenant).ok()?,
        about: about.to_owned(),
        before: before.parse().ok()?,
        until: until.parse().ok()?,
    })
}
