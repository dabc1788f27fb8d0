//! The [`Broker`](tidewire_broker::Broker) over core NATS.
//!
//! Start from [`NatsBroker`]. The node's interest is one subscription per partition of a tenant, on
//! a subject that `subject` alone spells; what travels is described in `envelope`. NATS promises nothing
//! and neither does this crate, except that it never waits, never grows without bound, and says
//! [`Suspect`](tidewire_broker::BrokerEvent::Suspect) whenever something may have been lost.
//!
//! ```text
//! publish ─▶ outbox ─▶ data connection ─▶ NATS ─▶ data connection ─▶ reader ─▶ event queue
//! notify  ─▶ outbox ─▶ control connection ─▶ NATS ─▶ control connection ─▶ ┘
//! subscribe ─▶ interest ─▶ link: subscribes on the data connection, then sends a probe through it
//!                          to its own control connection; its return proves that NATS knows
//! ```
//!
//! There are two connections so that a backlog of publications does not hold up notices, and so that
//! the probe can come back: NATS does not echo to the connection something was sent on.

mod broker;
mod config;
mod connection;
mod envelope;
mod interest;
mod link;
mod metrics;
mod outbox;
mod reader;
mod subject;
mod throttle;

pub use broker::NatsBroker;
pub use config::{InvalidNatsConfig, NatsAuth, NatsConfig};
