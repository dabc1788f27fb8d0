//! What the crate promises, seen from outside.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod autobahn;
mod cancellation;
mod client;
mod codec;
mod deflate;
mod differential;
mod http;
mod https;
mod link;
mod oracle;
mod properties;
mod server;
mod socket;
mod tls;
mod upgrade;
mod wire;
mod writing;
