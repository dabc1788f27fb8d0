//! The native protocol, from tables of frames.

mod arbitrary;
mod batches;
mod client;
mod commands;
mod documentation;
mod events;
mod refusals;
mod samples;
mod wire;
