//! What the crate promises, seen from outside.

mod cancellation;
mod client;
mod codec;
mod http;
mod oracle;
mod properties;
mod server;
mod socket;
mod upgrade;
mod wire;
mod writing;
