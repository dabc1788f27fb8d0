//! The log and the stores over Redis 7.
//!
//! Start from [`RedisConnection`]: one for a process, shared by [`RedisLog`], [`RedisSessionStore`],
//! [`RedisMembership`], [`RedisTicketStore`], [`RedisTenantStore`], [`RedisRevocationStore`], [`RedisPresence`] and
//! [`RedisQuotaStore`]. Making them touches no network; the first call connects, and each call after a failure does so again once its back-off has
//! passed.
//!
//! What happens in one step happens in a function inside Redis (`functions.lua`, `presence.lua`, `quota.lua`). Nothing here
//! remembers what Redis holds, save the newest incarnation it has answered with and, to find a lost
//! append again, the last known positions of some channels.

mod config;
mod connection;
mod copies;
mod error;
mod fence;
mod key;
mod library;
mod link;
mod log;
mod membership;
mod metric;
mod partition;
mod presence;
mod quota_store;
mod random;
mod reply;
mod retry;
mod revocation_store;
mod secure;
mod session_store;
mod settings;
#[doc(hidden)]
pub mod simulated;
mod tenant_store;
mod ticket_store;

pub use config::{Deployment, InvalidConfig, RedisConfig};
pub use connection::RedisConnection;
pub use log::RedisLog;
pub use membership::RedisMembership;
pub use presence::RedisPresence;
pub use quota_store::RedisQuotaStore;
pub use revocation_store::RedisRevocationStore;
pub use session_store::RedisSessionStore;
pub use settings::{Finding, Severity};
pub use tenant_store::RedisTenantStore;
pub use ticket_store::RedisTicketStore;
