//! The seam between bytes and commands.
//!
//! A [`Protocol`] is a state machine: frames in, commands out; events in, frames out. It never
//! touches a socket, spawns a task, or asks what time it is, so every protocol can be tested from a
//! table of frames.

use bytes::Bytes;
use tidewire_model::{Disconnect, Event, Failure, Request, RequestId};

/// What a transport carries: one message, whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// UTF-8; whoever makes one has checked it.
    Text(Bytes),
    Binary(Bytes),
}

impl Frame {
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => bytes,
        }
    }
}

/// One protocol, for one connection.
pub trait Protocol: Send {
    /// Turns a frame into the commands it holds, in order.
    ///
    /// A command that cannot be understood becomes a [`Decoded::Refused`], and the others of its
    /// frame stand. An error means that the frame as a whole could not be understood and ends the
    /// connection.
    fn decode(&mut self, frame: Frame) -> Result<Vec<Decoded>, ProtocolError>;

    /// Appends to `frames` as few frames as hold `events`, in order.
    ///
    /// No frame is longer than it takes to hold `soft_limit` bytes and one event more.
    fn encode(&mut self, events: &[Event], soft_limit: usize, frames: &mut Vec<Frame>);
}

/// A command of a frame, or why it is none.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    Request(Request),
    Refused { id: Option<RequestId>, failure: Failure },
}

/// A frame could not be understood at all.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProtocolError {
    /// A text frame in a binary protocol, or the other way round.
    #[error("this protocol takes {expected} frames only")]
    WrongKind { expected: &'static str },
    #[error("frame is malformed: {detail}")]
    Malformed { detail: String },
}

impl ProtocolError {
    /// How a connection ends that this happened to.
    pub fn disconnect(&self) -> Disconnect {
        Disconnect::BadFrame
    }
}

/// A protocol on offer: its name and how to start one for a connection.
#[derive(Clone, Copy)]
pub struct Descriptor {
    /// For logs and metric labels.
    pub name: &'static str,
    /// The WebSocket subprotocol that chooses it.
    pub subprotocol: &'static str,
    pub start: fn() -> Box<dyn Protocol>,
}

impl std::fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Descriptor").field("name", &self.name).finish_non_exhaustive()
    }
}
