//! The client's side of the protocol: requests in, frames out; frames in, events out.
//!
//! Start from [`Codec`]. Like the server's side it performs no I/O and reads no clock. It is for
//! Rust programs that talk to a Tidewire node: our client, the command line and the load generator.

mod event;
mod json;
mod presence;
mod protobuf;

use serde::Deserialize;
use tidewire_model::Request;
use tidewire_protocol::{Frame, ProtocolError};

pub use event::{Closing, Content, ReachedLimit, Received, ReceivedPage, Refusal, ServerEvent};

use crate::assembly::{Assembly, Framing};
use crate::{JSON_SUBPROTOCOL, MAX_COMMANDS, PROTOBUF_SUBPROTOCOL, parse};

/// Where the other nodes are, as one that leaves answers to an upgrade; none if that is not what `body`
/// is.
pub fn endpoints(body: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Leaving {
        endpoints: Vec<String>,
    }
    serde_json::from_str(body).map_or(Vec::new(), |Leaving { endpoints }| endpoints)
}

/// One of the two encodings, as a client speaks it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Codec {
    Json,
    Protobuf,
}

impl Codec {
    /// The WebSocket subprotocol to offer.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => JSON_SUBPROTOCOL,
            Self::Protobuf => PROTOBUF_SUBPROTOCOL,
        }
    }

    /// The frame that holds `request` alone.
    pub fn encode(self, request: &Request) -> Frame {
        let mut frames = Vec::with_capacity(1);
        self.encode_all(std::slice::from_ref(request), 0, &mut frames);
        frames.pop().expect("one request makes one frame")
    }

    /// Appends to `frames` as few frames as hold `requests`, in order: at most [`MAX_COMMANDS`] in
    /// each, and none longer than it takes to hold `soft_limit` bytes and one request more.
    pub fn encode_all(self, requests: &[Request], soft_limit: usize, frames: &mut Vec<Frame>) {
        let (framing, push): (_, fn(&mut Vec<u8>, &Request)) = match self {
            Self::Json => (Framing::Json, json::push_request),
            Self::Protobuf => (Framing::Protobuf, protobuf::push_request),
        };
        let mut assembly = Assembly::new(framing, soft_limit, frames).at_most(MAX_COMMANDS);
        for request in requests {
            push(assembly.part(), request);
        }
        assembly.finish();
    }

    /// The events of a frame, in order. Events this version does not know are left out.
    ///
    /// # Errors
    ///
    /// The frame is of the wrong kind, or cannot be understood as a whole: the client should give
    /// the connection up.
    pub fn decode(self, frame: &Frame) -> Result<Vec<ServerEvent>, ProtocolError> {
        match self {
            Self::Json => json::decode(frame),
            Self::Protobuf => protobuf::decode(frame),
        }
    }
}

/// A value that breaks its rules makes the frame it came in malformed.
fn checked<T, E: std::fmt::Display>(value: Result<T, E>) -> Result<T, ProtocolError> {
    value.map_err(|error| parse::malformed(error.to_string()))
}
