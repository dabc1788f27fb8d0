//! Bytes to frames, without I/O (RFC 6455 section 5).
//!
//! A [`Decoder`] takes input in pieces of any size. It keeps at most a header and the message it is
//! putting together, so that it holds nothing between messages, and a message is copied once, from
//! the input into the memory it is handed out in.

use std::mem;

use bytes::Bytes;
use tidewire_model::Disconnect;
use tidewire_protocol::Frame;

use super::close::Close;
use super::header::{Header, HeaderReader, OpCode};
use super::mask::apply_mask;

/// Which end of a connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Role {
    /// Masks what it sends.
    Client,
    /// Masks nothing.
    Server,
}

impl Role {
    pub(super) fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// How much of one message a peer may send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes in a message, all its fragments together.
    pub message_bytes: usize,
    /// Fragments in a message, which a peer can make arbitrarily many of without sending a byte.
    pub fragments: usize,
}

impl Default for Limits {
    /// 64 KiB in 64 fragments.
    fn default() -> Self {
        Self { message_bytes: 64 * 1024, fragments: 64 }
    }
}

/// What a peer sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Incoming {
    /// A whole message; text has been checked to be UTF-8.
    Frame(Frame),
    /// At most 125 bytes, to be sent back in a pong.
    Ping(Bytes),
    Pong(Bytes),
    /// The last thing a peer sends; an empty close frame says neither code nor reason.
    Close(Option<Close>),
}

/// Puts messages together from what a peer sends.
#[derive(Debug)]
pub struct Decoder {
    from: Role,
    limits: Limits,
    header: HeaderReader,
    payload: Option<Payload>,
    message: Option<Message>,
    control: Vec<u8>,
    failed: Option<Violation>,
}

impl Decoder {
    /// A decoder for the end that plays `role`: a server's takes what clients send.
    pub fn new(role: Role, limits: Limits) -> Self {
        Self {
            from: role.peer(),
            limits,
            header: HeaderReader::default(),
            payload: None,
            message: None,
            control: Vec::new(),
            failed: None,
        }
    }

    /// Takes from the front of `input` until something is complete; `None` when all of `input` has
    /// been taken and nothing is.
    ///
    /// Limits are judged by a header, before any of its payload is kept.
    ///
    /// # Errors
    ///
    /// After a violation nothing can be made of the peer's bytes any more: every later call fails
    /// in the same way.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Incoming>, Violation> {
        if let Some(violation) = self.failed {
            return Err(violation);
        }
        let decoded = self.advance(input);
        if let Err(violation) = decoded {
            (self.message, self.control) = (None, Vec::new());
            self.failed = Some(violation);
        }
        decoded
    }

    /// Bytes of memory held for what is not complete.
    pub fn held(&self) -> usize {
        self.control.capacity() + self.message.as_ref().map_or(0, |held| held.bytes.capacity())
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Incoming>, Violation> {
        loop {
            let mut payload = match self.payload.take() {
                Some(payload) => payload,
                None => match self.header.read(input, self.from)? {
                    Some(header) => self.begin(header)?,
                    None => return Ok(None),
                },
            };
            payload.fill(self.buffer(payload.header.opcode), input);
            if payload.remaining > 0 {
                self.payload = Some(payload);
                return Ok(None);
            }
            if let Some(incoming) = self.finish(payload.header)? {
                return Ok(Some(incoming));
            }
        }
    }

    /// Checks a header against what came before it and against the limits.
    fn begin(&mut self, header: Header) -> Result<Payload, Violation> {
        match header.opcode {
            OpCode::Text | OpCode::Binary if self.message.is_some() => {
                return Err(Violation::InterruptedMessage);
            }
            OpCode::Text | OpCode::Binary => {
                self.message = Some(Message::new(header.opcode));
            }
            OpCode::Continuation if self.message.is_none() => {
                return Err(Violation::UnexpectedContinuation);
            }
            OpCode::Continuation => {}
            OpCode::Close | OpCode::Ping | OpCode::Pong => return Payload::new(header, 125),
        }
        let message = self.message.as_mut().expect("a data frame belongs to a message");
        message.fragments += 1;
        if message.fragments > self.limits.fragments {
            return Err(Violation::TooManyFragments);
        }
        Payload::new(header, self.limits.message_bytes - message.bytes.len())
    }

    fn buffer(&mut self, opcode: OpCode) -> &mut Vec<u8> {
        match &mut self.message {
            Some(message) if !opcode.is_control() => &mut message.bytes,
            _ => &mut self.control,
        }
    }

    /// Hands out what the frame that has just been read completes.
    fn finish(&mut self, header: Header) -> Result<Option<Incoming>, Violation> {
        if header.opcode.is_control() {
            let payload = mem::take(&mut self.control);
            return Ok(Some(match header.opcode {
                OpCode::Ping => Incoming::Ping(payload.into()),
                OpCode::Close => Incoming::Close(Close::parse(&payload)?),
                _ => Incoming::Pong(payload.into()),
            }));
        }
        let message = if header.is_final { self.message.take() } else { None };
        message.map(Message::into_frame).transpose().map(|frame| frame.map(Incoming::Frame))
    }
}

/// The payload being read.
#[derive(Debug)]
struct Payload {
    header: Header,
    read: usize,
    remaining: usize,
}

impl Payload {
    fn new(header: Header, limit: usize) -> Result<Self, Violation> {
        match usize::try_from(header.length) {
            Ok(remaining) if remaining <= limit => Ok(Self { header, read: 0, remaining }),
            _ => Err(Violation::MessageTooLarge),
        }
    }

    /// Moves what `input` has of this payload to the end of `buffer`.
    fn fill(&mut self, buffer: &mut Vec<u8>, input: &mut &[u8]) {
        let taken = self.remaining.min(input.len());
        let (payload, rest) = input.split_at(taken);
        let start = buffer.len();

        self.reserve(buffer, taken);
        buffer.extend_from_slice(payload);
        apply_mask(&mut buffer[start..], self.header.mask, self.read);

        self.read += taken;
        self.remaining -= taken;
        *input = rest;
    }

    /// A payload of ordinary size gets its memory at once and is never moved. A larger one gets
    /// more only as its bytes arrive, so that announcing it costs the peer what it costs us.
    fn reserve(&self, buffer: &mut Vec<u8>, arrived: usize) {
        let wanted = self.remaining.min(ORDINARY_BYTES.max(arrived));
        if buffer.is_empty() && self.header.is_final {
            buffer.reserve_exact(wanted);
        } else {
            buffer.reserve(wanted);
        }
    }
}

/// The message being put together.
#[derive(Debug)]
struct Message {
    is_text: bool,
    fragments: usize,
    bytes: Vec<u8>,
}

impl Message {
    fn new(opcode: OpCode) -> Self {
        Self { is_text: opcode == OpCode::Text, fragments: 0, bytes: Vec::new() }
    }

    fn into_frame(self) -> Result<Frame, Violation> {
        if !self.is_text {
            return Ok(Frame::Binary(self.bytes.into()));
        }
        match str::from_utf8(&self.bytes) {
            Ok(_) => Ok(Frame::Text(self.bytes.into())),
            Err(_) => Err(Violation::InvalidUtf8),
        }
    }
}

/// How a peer broke the protocol.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    #[error("reserved bits are set and no extension was agreed")]
    ReservedBits,
    #[error("opcode is reserved")]
    ReservedOpCode,
    #[error("client sent a frame without a mask")]
    Unmasked,
    #[error("server sent a masked frame")]
    Masked,
    #[error("control frame is fragmented")]
    FragmentedControl,
    #[error("control frame is longer than 125 bytes")]
    ControlTooLong,
    #[error("payload length is not written in its shortest form")]
    LengthEncoding,
    #[error("continuation of no message")]
    UnexpectedContinuation,
    #[error("new message inside a fragmented one")]
    InterruptedMessage,
    #[error("message has too many fragments")]
    TooManyFragments,
    #[error("message is too large")]
    MessageTooLarge,
    #[error("text is not valid utf-8")]
    InvalidUtf8,
    #[error("close frame has half a code")]
    CloseLength,
    #[error("close code may not be sent")]
    CloseCode,
}

impl Violation {
    /// How a connection ends that this happened to.
    pub fn disconnect(self) -> Disconnect {
        match self {
            Self::TooManyFragments | Self::MessageTooLarge => Disconnect::MessageTooLarge,
            Self::InvalidUtf8 => Disconnect::InvalidUtf8,
            _ => Disconnect::ProtocolError,
        }
    }
}

/// As much as a server reads at once, and the size messages are limited to by default.
const ORDINARY_BYTES: usize = 64 * 1024;
