//! A whole cluster of real processes, and everything that can go wrong between them.
//!
//! Start from [`Stage`]: three nodes, three NATS servers, a Redis primary and its replica with three
//! Sentinels, every link through a [`Proxy`] that can be made slow, deaf or broken, and a [`Crowd`]
//! that publishes and listens meanwhile. [`rows`] are the rows of the failure matrix, one function
//! each: provoke, mend, judge. [`schedule`] draws faults from a seed and lets several happen at once.
//!
//! The judge is `tidewire-witness`' account: it knows every publication that was acknowledged, heard
//! or kept, and no fault excuses silence.
//!
//! Nothing here is for production: services that cannot be started panic.

mod clock;
mod cluster;
mod crowd;
mod http;
mod node;
mod proxy;
pub mod rows;
pub mod schedule;
mod stage;
mod wait;

pub use clock::{Clock, Clocks};
pub use cluster::{Cluster, RedisLayout, Setup};
pub use crowd::{Crowd, Outcome, Size};
pub use node::NodeProcess;
pub use proxy::{Proxy, Rules, Scope};
pub use stage::Stage;
