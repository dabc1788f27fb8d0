//! What the crate promises, seen from outside.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

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
