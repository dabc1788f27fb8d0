//! The broker against a real `nats-server`.

mod cluster;
mod conformance;
mod faults;
mod foreign;
mod metrics;
mod recorder;
