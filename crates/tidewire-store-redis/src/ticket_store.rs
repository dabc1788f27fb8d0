use std::time::Duration;

use async_trait::async_trait;
use redis::Value;
use tidewire_store::{StoreError, TicketName, TicketStore};

use crate::connection::RedisConnection;
use crate::error::CallError;
use crate::reply::unexpected;
use crate::session_store::milliseconds;

/// One-time tickets in Redis: a string for each, which `GETDEL` gives to one.
///
/// No call is repeated here: one whose reply is lost may have happened, and then a ticket is lost, of
/// which there are more.
pub struct RedisTicketStore {
    connection: RedisConnection,
}

impl RedisTicketStore {
    pub fn new(connection: RedisConnection) -> Self {
        Self { connection }
    }

    async fn try_put(
        &self,
        name: &TicketName,
        record: &[u8],
        ttl: Duration,
    ) -> Result<(), CallError> {
        let mut set = redis::cmd("SET");
        let key = self.connection.keys().ticket(name);
        set.arg(key).arg(record).arg("NX").arg("PX").arg(milliseconds(ttl).max(1));
        match self.connection.send(&set).await? {
            Value::Okay => Ok(()),
            Value::Nil => Err(CallError::Refused("there is a ticket of that name".into())),
            _ => Err(unexpected("whether it is kept")),
        }
    }

    async fn try_take(&self, name: &TicketName) -> Result<Option<Vec<u8>>, CallError> {
        let mut take = redis::cmd("GETDEL");
        take.arg(self.connection.keys().ticket(name));
        match self.connection.send(&take).await? {
            Value::BulkString(record) => Ok(Some(record)),
            Value::Nil => Ok(None),
            _ => Err(unexpected("a ticket's record")),
        }
    }
}

#[async_trait]
impl TicketStore for RedisTicketStore {
    async fn put(&self, name: &TicketName, record: &[u8], ttl: Duration) -> Result<(), StoreError> {
        let put = self.try_put(name, record, ttl).await;
        put.map_err(|error| error.into_store_error(self.connection.address()))
    }

    async fn take(&self, name: &TicketName) -> Result<Option<Vec<u8>>, StoreError> {
        let taken = self.try_take(name).await;
        taken.map_err(|error| error.into_store_error(self.connection.address()))
    }
}
