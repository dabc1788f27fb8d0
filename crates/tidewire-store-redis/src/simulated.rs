//! The seam for a Redis that is simulated: what a connection needs of its servers, in bytes.
//!
//! Everything above it is what ships: the functions' text, the fence, repeating a call.

use std::sync::Arc;

use async_trait::async_trait;
use redis::{Arg, Cmd, RedisError, RedisResult, Value};
use tidewire_model::Random;

use crate::RedisConnection;

/// The servers as one process sees them.
#[async_trait]
pub trait Servers: Send + Sync {
    /// Connects to whichever server is resolved as the primary now, or says why it cannot.
    async fn connect(&self) -> Result<Arc<dyn Server>, String>;

    /// The address that a majority of sentinels takes for the primary's.
    async fn primary(&self) -> Option<String>;
}

/// A connection to one server.
#[async_trait]
pub trait Server: Send + Sync {
    fn address(&self) -> String;

    /// Sends a command. Its reply as the server writes it (RESP, errors too), or `None` when the
    /// connection ended first: whether it happened is unknown then.
    async fn call(&self, command: Vec<Vec<u8>>) -> Option<Vec<u8>>;

    /// Whether the server is known to have closed it.
    fn is_closed(&self) -> bool;
}

/// A way to simulated servers, with the deadlines of any other.
pub fn connection(servers: Arc<dyn Servers>, random: Random) -> RedisConnection {
    RedisConnection::simulated(servers, random)
}

pub(crate) async fn send(server: &dyn Server, command: &Cmd) -> RedisResult<Value> {
    let arguments = command.args_iter().map(|argument| match argument {
        Arg::Simple(bytes) => bytes.to_vec(),
        _ => unreachable!("no command of ours has a cursor"),
    });
    match server.call(arguments.collect()).await {
        Some(reply) => redis::parse_redis_value(&reply)?.extract_error(),
        None => Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset))),
    }
}
