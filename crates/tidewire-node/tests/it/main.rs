//! The engine over an in-memory log and network, with time held still.

mod asks;
mod classes;
mod deposed;
mod durable;
mod ephemeral;
mod fleet;
mod heal;
mod limits;
mod presence;
mod publications;
mod sessions;
