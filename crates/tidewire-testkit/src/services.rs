//! Redis and NATS as children of a test.
//!
//! Start from [`RedisServer::start`], [`RedisCluster::start`], [`SentinelServer::start`] and [`NatsServer::start`]. Each server has a port of its own on
//! 127.0.0.1 and a temporary directory, and is killed when its handle is dropped. The programs are
//! found on `PATH`, in `/usr/sbin` and in `/usr/local/sbin`, or named by `TIDEWIRE_REDIS_SERVER` and
//! `TIDEWIRE_NATS_SERVER`.
//!
//! A test process that is itself killed leaves its servers behind.

mod https;
mod nats;
mod process;
mod redis;
mod redis_cluster;
mod resp;
mod sentinel;

pub use https::HttpsStub;
pub use nats::NatsServer;
pub use process::free_port;
pub use redis::RedisServer;
pub use redis_cluster::{MovingSlot, RedisCluster};
pub use sentinel::{SentinelServer, Watch};
