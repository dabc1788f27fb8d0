//! The network face of a node: listen, route, shake hands, run connections, drain.
//!
//! Start from [`Edge`], which is built from an [`EdgeConfig`] and run with [`Edge::serve`]; then
//! `worker.rs`, whose loop all connections of a thread share, and `connection.rs`, what one of them
//! does; then `drain/mod.rs`.
//!
//! The edge knows no protocol by name: it is handed [`Descriptor`](tidewire_protocol::Descriptor)s
//! and picks one by subprotocol. A connection exists only once its credential has been verified and
//! its session is claimed: there is no half-authenticated one.

mod admin;
mod api;
mod api_item;
mod api_presence;
mod api_revocations;
mod api_tickets;
mod config;
mod connection;
mod cookies;
mod door;
mod drain;
mod edge;
mod handshake;
mod jwks;
mod listener;
mod load;
mod metrics;
mod news;
mod ops;
mod origin;
mod outcome;
mod places;
mod pressure;
mod rebalance;
mod registry;
mod revocations;
mod router;
mod tenancy;
mod tenants;
mod tickets;
mod tls;
mod upgrade;
mod wheel;
mod worker;

pub use admin::admin_router;
pub use config::{DrainConfig, EdgeConfig, PlacementConfig, RebalanceConfig, WhenCutOff};
pub use door::DoorConfig;
pub use drain::{CONTROL_HEADER, drain_router};
pub use edge::{Edge, Parts};
pub use jwks::{Fetch, JwksPace, Standing, over_https};
pub use load::EdgeLoad;
pub use ops::{Placed, Render, TenantPlacement, ops_router};
pub use pressure::Pressure;
pub use tenants::{RegistryParts, TenantRegistry};
