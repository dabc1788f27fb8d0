//! WebSocket as a stream of frames, for servers and for clients.
//!
//! Start from [`Transport`], what an edge knows of a connection, and [`WebSocket`], the one
//! implementation. A server gets one from [`upgrade()`], a client from [`client::connect`].
//!
//! 1. [`WebSocket::receive`](Transport::receive) is cancel-safe: all state lives in the socket.
//! 2. Nothing is held while idle: no read buffer and no write buffer.
//! 3. No byte sequence from a peer can panic a [`Decoder`](websocket::Decoder), and the memory it
//!    holds is bounded by its [`Limits`].
//! 4. A peer that breaks RFC 6455 gets an error that knows its close code.

mod address;
pub mod client;
pub mod http;
mod transport;
pub mod websocket;

pub use client::{ClientSocket, ConnectError};
pub use transport::{Transport, TransportError};
pub use websocket::upgrade::{Upgrade, UpgradeError, Upgrading, upgrade};
pub use websocket::{Close, CloseCode, Limits, Role, Violation, WebSocket};
