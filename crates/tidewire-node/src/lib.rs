//! The engine of a node: join, publish, recover.
//!
//! Start from [`Node`], the handle everybody holds. Behind it, each channel belongs to one shard: a
//! task that owns the channel's feed (how far it has got), the workers that follow it and the drafts
//! on their way to the log. The log orders and remembers; the broker carries, and may lose, repeat or
//! reorder what it likes. A subscriber is brought in step once, from memory or by one read of the
//! log; from then on its worker is handed every publication in offset order, once for all of its
//! subscribers.
//!
//! Invariants: at most one append and one repairing read are under way per channel; a publication
//! is passed on only after the log has it; what was acknowledged in the last half minute goes into
//! the log again, before anything new, if a failover has lost it; nothing waits for a client.

mod append;
mod ask;
mod audience;
mod by_channel;
mod channel;
mod check;
mod checks;
mod classes;
mod config;
mod confirm;
mod feed;
mod fleeting;
mod following;
mod heal;
mod hearing;
mod held;
mod interest;
mod lane;
mod members;
mod metrics;
mod node;
mod paces;
mod placement;
mod presence;
mod publish;
mod ring;
mod router;
mod sessions;
mod settle;
mod shard;
mod tail;
mod throttle;
mod timers;

pub use ask::{Ask, Join};
pub use config::NodeConfig;
pub use members::LeaseReport;
pub use node::{Node, Ports, Tasks};
pub use placement::{AtHome, Candidate, Homes, Placement, Rank, Ranked, placement};
pub use presence::{Answer, Away, Depart, Enter};
pub use publish::Publishing;
pub use ring::RingLimits;
pub use sessions::{OwnedSession, SESSION_RENEWAL, SessionError};
pub use tail::TailLimits;
