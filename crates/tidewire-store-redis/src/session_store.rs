use std::time::Duration;

use async_trait::async_trait;
use tidewire_model::{Generation, NodeId};
use tidewire_session::Snapshot;
use tidewire_store::{Claim, ClaimRequest, Saved, SessionStore, SessionWrite, StoreError};

use crate::connection::RedisConnection;
use crate::error::CallError;
use crate::library::Function;
use crate::reply::{Reply, unexpected};

/// Sessions in Redis: a hash for each, changed by functions that compare the generation.
///
/// Every call may be repeated without harm, and is, for as long as a call may take, when a reply is
/// lost.
pub struct RedisSessionStore {
    connection: RedisConnection,
}

impl RedisSessionStore {
    pub fn new(connection: RedisConnection) -> Self {
        Self { connection }
    }

    async fn try_save(&self, write: SessionWrite<'_>, ttl: Duration) -> Result<Saved, CallError> {
        let SessionWrite { key, generation, owner, snapshot } = write;
        let mut call = Function::SessionSave.call(&[self.connection.keys().session(key)]);
        call.arg(generation.0).arg(owner.as_str()).arg(record(snapshot)).arg(milliseconds(ttl));
        let mut reply = self.connection.call(Function::SessionSave, &call).await?;
        match reply.text()?.as_str() {
            "OK" => Ok(Saved::Done),
            "FENCED" => Ok(Saved::Fenced),
            _ => Err(unexpected("whether it was saved")),
        }
    }

    async fn try_claim(&self, request: &ClaimRequest, ttl: Duration) -> Result<Claim, CallError> {
        let ClaimRequest { key, generation, owner, nonce } = request;
        let mut call = Function::SessionClaim.call(&[self.connection.keys().session(key)]);
        call.arg(generation.0).arg(owner.as_str()).arg(nonce.to_string()).arg(milliseconds(ttl));
        let mut reply = self.connection.call(Function::SessionClaim, &call).await?;
        match reply.text()?.as_str() {
            "GRANTED" => parse_granted(&mut reply),
            "MISSING" => Ok(Claim::Missing),
            "FENCED" => Ok(Claim::Fenced),
            _ => Err(unexpected("a claim")),
        }
    }
}

#[async_trait]
impl SessionStore for RedisSessionStore {
    async fn save(&self, write: SessionWrite<'_>, ttl: Duration) -> Result<Saved, StoreError> {
        let saved = self.try_save(write, ttl).await;
        saved.map_err(|error| error.into_store_error(self.connection.address()))
    }

    async fn claim(&self, request: &ClaimRequest, ttl: Duration) -> Result<Claim, StoreError> {
        let claim = self.try_claim(request, ttl).await;
        claim.map_err(|error| error.into_store_error(self.connection.address()))
    }

    async fn health(&self) -> Result<(), StoreError> {
        let healthy = self.connection.health().await;
        healthy.map_err(|error| error.into_store_error(self.connection.address()))
    }
}

fn parse_granted(reply: &mut Reply) -> Result<Claim, CallError> {
    let generation = Generation(reply.number()?);
    let previous = NodeId::parse(&reply.text()?).map_err(|_| corrupt())?;
    let snapshot = serde_json::from_slice(&reply.bytes()?).map_err(|_| corrupt())?;
    Ok(Claim::Granted { generation, snapshot, previous })
}

fn corrupt() -> CallError {
    CallError::Corrupt("the record of a session".into())
}

fn record(snapshot: &Snapshot) -> Vec<u8> {
    serde_json::to_vec(snapshot).expect("a snapshot has no maps with other keys than strings")
}

/// Redis takes no expiry beyond what a signed number holds, and forgets at once what has none left.
pub(crate) fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).min(LONGEST_MS)
}

const LONGEST_MS: u64 = 10 * 366 * 24 * 60 * 60 * 1_000;
