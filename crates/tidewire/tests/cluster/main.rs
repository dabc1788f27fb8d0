//! Several node processes on a real NATS and a real Redis, and many clients that count.

mod bridge;
mod certificates;
mod cluster;
mod command;
mod crowd;
mod draining;
mod durable;
mod failover;
mod isolation;
mod issuers;
mod leaving;
mod ledger;
mod placement;
mod presence;
mod revocations;
mod scenarios;
mod secrets;
mod socket;
mod tenants;
mod tickets;
