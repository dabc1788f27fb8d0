//! The native protocol, from tables of frames.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod arbitrary;
mod batches;
mod client;
mod commands;
mod deltas;
mod documentation;
mod events;
mod refusals;
mod samples;
mod wire;
