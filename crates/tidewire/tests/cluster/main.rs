//! Several node processes on a real NATS and a real Redis, and many clients that count.

mod bridge;
mod certificates;
mod cluster;
mod crowd;
mod draining;
mod durable;
mod failover;
mod isolation;
mod leaving;
mod ledger;
mod presence;
mod revocations;
mod scenarios;
mod tenants;
