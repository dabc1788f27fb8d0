//! Redis, simulated: the functions that ship run in an embedded Lua, over a keyspace in memory.

mod deployment;
mod keyspace;
mod process;
mod reply;
mod stream;
mod way;

pub(crate) use deployment::{Deployment, Pause, ServerId};
pub use keyspace::{Command, Keyspace};
pub(crate) use process::History;
pub use reply::Reply;
pub(crate) use way::Way;

#[cfg(test)]
mod tests;
