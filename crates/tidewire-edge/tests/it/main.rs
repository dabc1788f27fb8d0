//! Nodes on memory behind real sockets, and what clients, servers and operators get from them.

mod bad_input;
mod credentials;
mod crowd;
mod deltas;
mod drain;
mod fan_out;
mod fleet;
mod greedy;
mod keys;
mod kinds;
mod limits;
mod operators;
mod origins;
mod peer;
mod policies;
mod presence;
mod publishing;
mod quotas;
mod registry;
mod revocations;
mod sessions;
mod slow_reader;
mod switched_store;
mod tenants;
mod tls;
mod upgrade;
