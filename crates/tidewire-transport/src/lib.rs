//! WebSocket as a stream of frames, for servers and for clients.
//!
//! A server makes a [`Link`] of what [`upgrade()`] gives it and drives it from its own poll; a client
//! gets a [`WebSocket`], a [`Transport`] to wait for, from [`client::connect`]. The two differ in how
//! they read and write, and share everything else.
//!
//! 1. [`WebSocket::receive`](Transport::receive) is cancel-safe: all state lives in the socket.
//! 2. Nothing is held while idle: no read buffer, no write buffer, no compressor.
//! 3. No byte sequence from a peer can panic a [`Decoder`](websocket::Decoder), and the memory it
//!    holds is bounded by its [`Limits`].
//! 4. A peer that breaks RFC 6455 gets an error that knows its close code.

mod address;
pub mod client;
pub mod guard;
pub mod http;
pub mod https;
mod link;
mod names;
mod prepared;
mod scratch;
mod stream;
pub mod tls;
mod transport;
pub mod websocket;

pub use client::{ClientSocket, ConnectError};
pub use link::{Flushed, Link, LinkSettings, Received, Then};
pub use prepared::Prepared;
pub use scratch::Scratch;
pub use stream::Stream;
pub use transport::{Transport, TransportError};
pub use websocket::endpoint::Controls;
pub use websocket::upgrade::{Upgrade, UpgradeError, Upgrading, upgrade};
pub use websocket::{Close, CloseCode, Compression, Deflate, Limits, Role, Violation, WebSocket};
