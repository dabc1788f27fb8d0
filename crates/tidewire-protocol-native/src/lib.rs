//! Tidewire's own protocol, version 1, as JSON text and as protobuf.
//!
//! [`JSON`] and [`PROTOBUF`] are the server's side, to be put into its table of protocols;
//! [`client`] is the other side. Both encodings say the same things, written down in
//! `docs/protocol.md`, and check what they are told by the same rules.
//!
//! A publication is encoded once per encoding and node: a frame that holds nothing else is shared by
//! all its subscribers, and a batch copies from it.

mod assembly;
mod json;
mod parse;
mod presence;
mod protobuf;
mod publications;

pub mod client;
pub mod fossil;

use tidewire_protocol::Descriptor;

/// Text frames: one JSON object or an array of them.
pub const JSON: Descriptor = Descriptor {
    name: JSON_SUBPROTOCOL,
    subprotocol: JSON_SUBPROTOCOL,
    start: || Box::new(json::JsonProtocol),
};

/// Binary frames: one protobuf message each.
pub const PROTOBUF: Descriptor = Descriptor {
    name: PROTOBUF_SUBPROTOCOL,
    subprotocol: PROTOBUF_SUBPROTOCOL,
    start: || Box::new(protobuf::ProtobufProtocol),
};

/// The most commands a frame may hold; more of them end the connection.
pub const MAX_COMMANDS: usize = 64;

/// How many publications a `history` command without a limit asks for.
pub const DEFAULT_HISTORY_LIMIT: u32 = 100;

const JSON_SUBPROTOCOL: &str = "tidewire.v1.json";
const PROTOBUF_SUBPROTOCOL: &str = "tidewire.v1.protobuf";

/// Whole milliseconds, as both encodings carry them.
fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
