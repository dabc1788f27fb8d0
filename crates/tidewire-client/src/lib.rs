//! A client of the native protocol.
//!
//! Two layers: a [`Connection`] is commands out and events in, on one WebSocket; a [`Client`] keeps a
//! session over many of them. It comes back after a loss, moves when a node asks it to, resumes
//! every channel where it left off and publishes again, under the same id, what was not
//! acknowledged, so that an application sees each publication once and in order.
//!
//! Nothing here spawns a task: whoever calls [`Client::next`] drives it.

mod attendance;
mod backoff;
mod base;
mod behind;
mod client;
mod connection;
mod followed;
mod following;
mod happening;
mod leaving;
mod member_list;
mod opening;
mod options;
mod renewal;
mod repeats;
mod retry;
mod seen;
mod tickets;
mod unacknowledged;
mod wait;

pub use client::{Client, ClientError};
pub use connection::{Connection, Lost, OpenError};
pub use happening::{Came, Happening};
pub use member_list::{MemberList, Needed};
pub use options::Options;
pub use renewal::{NoToken, Renew};
pub use tickets::Tickets;
pub use tidewire_model::{
    Channel, Command, HistoryQuery, MemberId, MemberPage, MemberWord, PageMark, Payload, Position,
    PresenceChange, Since, Token,
};
pub use tidewire_protocol_native::client::{
    Closing, Codec, Content, Received, ReceivedPage, Refusal, ServerEvent,
};
pub use unacknowledged::Full;
