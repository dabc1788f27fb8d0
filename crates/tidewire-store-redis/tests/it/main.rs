//! The adapters against a real `redis-server`.

mod cluster;
mod conformance;
mod deposed;
mod durable;
mod failure;
mod lost_reply;
mod membership;
mod metric;
mod nodes;
mod presence;
mod redis;
mod secure;
mod sentinel;
mod tenants;
