//! Bytes to frames, without I/O (RFC 6455 section 5).
//!
//! A [`Decoder`] takes input in pieces of any size. It keeps at most a header and the message it is
//! putting together, so that it holds nothing between messages, and a message is copied once, from
//! the input into the memory it is handed out in.

use std::mem;

use bytes::Bytes;
use tidewire_protocol::Frame;

use super::close::Close;
use super::deflate::Inflater;
use super::header::{Header, HeaderReader, OpCode, Rules};
use super::mask::apply_mask;
use super::violation::Violation;

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
    limits: Limits,
    rules: Rules,
    failed: Option<Violation>,
    /// Lives only while something is incomplete, so that an idle decoder is small.
    partial: Option<Box<Partial>>,
}

impl Decoder {
    /// A decoder for the end that plays `role`: a server's takes what clients send.
    pub fn new(role: Role, limits: Limits) -> Self {
        let rules = Rules { from: role.peer(), may_deflate: false };
        Self { limits, rules, failed: None, partial: None }
    }

    /// The same, which takes compressed messages too, as the two ends agreed.
    #[must_use]
    pub fn deflated(mut self) -> Self {
        self.rules.may_deflate = true;
        self
    }

    /// Takes from the front of `input` until something is complete; `None` when all of `input` has
    /// been taken and nothing is.
    ///
    /// Limits are judged by a header, before any of its payload is kept. Text is judged as it
    /// comes. A compressed message is inflated by `inflater`.
    ///
    /// # Errors
    ///
    /// After a violation nothing can be made of the peer's bytes any more: every later call fails
    /// in the same way.
    pub fn decode(
        &mut self,
        input: &mut &[u8],
        inflater: &mut Inflater,
    ) -> Result<Option<Incoming>, Violation> {
        if let Some(violation) = self.failed {
            return Err(violation);
        }
        if self.partial.is_none()
            && let Some(message) = whole_message(input, (self.rules, self.limits)).transpose()
        {
            return message.inspect_err(|violation| self.failed = Some(*violation)).map(Some);
        }
        let mut fresh = Partial::default();
        let mut kept = self.partial.take();
        let partial = kept.as_deref_mut().unwrap_or(&mut fresh);
        let decoded = partial.advance(input, (self.rules, self.limits), inflater);
        match decoded {
            Err(violation) => self.failed = Some(violation),
            Ok(_) if partial.is_idle() => {}
            Ok(_) => self.partial = kept.or_else(|| Some(Box::new(fresh))),
        }
        decoded
    }

    /// Bytes of a frame or a message that is not complete, as memory held for them.
    pub fn held(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.held())
    }

    /// Whether a frame or a message has begun and is not complete.
    pub fn has_begun(&self) -> bool {
        self.partial.is_some()
    }

    /// Forgets what is not complete. What comes next is its rest, of which nothing can be made.
    pub(crate) fn forget(&mut self) {
        self.partial = None;
    }
}

/// Takes a message that is one frame and wholly there, as nearly all are, without the bookkeeping
/// that others need; `None`, and nothing taken, if the next thing is anything else.
fn whole_message(
    input: &mut &[u8],
    (rules, limits): (Rules, Limits),
) -> Result<Option<Incoming>, Violation> {
    let mut rest = *input;
    let Some(header) = Header::split_from(&mut rest, rules)? else { return Ok(None) };
    let is_text = match header.opcode {
        OpCode::Text => true,
        OpCode::Binary => false,
        _ => return Ok(None),
    };
    let length = usize::try_from(header.length).unwrap_or(usize::MAX);
    if !header.is_final || header.is_deflated || length > limits.message_bytes {
        return Ok(None);
    }
    let Some((payload, rest)) = rest.split_at_checked(length) else { return Ok(None) };
    let mut bytes = payload.to_vec();
    apply_mask(&mut bytes, header.mask, 0);
    if is_text && str::from_utf8(&bytes).is_err() {
        return Err(Violation::InvalidUtf8);
    }
    *input = rest;
    let frame = if is_text { Frame::Text(bytes.into()) } else { Frame::Binary(bytes.into()) };
    Ok(Some(Incoming::Frame(frame)))
}

/// What has come of a frame and of the message it belongs to.
#[derive(Debug, Default)]
struct Partial {
    header: HeaderReader,
    payload: Option<Payload>,
    message: Option<Message>,
    control: Vec<u8>,
}

impl Partial {
    fn is_idle(&self) -> bool {
        self.header.is_empty() && self.payload.is_none() && self.message.is_none()
    }

    fn held(&self) -> usize {
        self.control.capacity() + self.message.as_ref().map_or(0, |held| held.bytes.capacity())
    }

    fn advance(
        &mut self,
        input: &mut &[u8],
        (rules, limits): (Rules, Limits),
        inflater: &mut Inflater,
    ) -> Result<Option<Incoming>, Violation> {
        loop {
            let mut payload = match self.payload.take() {
                Some(payload) => payload,
                None => match self.header.read(input, rules)? {
                    Some(header) => self.begin(header, limits)?,
                    None => return Ok(None),
                },
            };
            match &mut self.message {
                Some(message) if !payload.header.opcode.is_control() => {
                    payload.fill(&mut message.bytes, input);
                    message.check()?;
                }
                _ => payload.fill(&mut self.control, input),
            }
            if payload.remaining > 0 {
                self.payload = Some(payload);
                return Ok(None);
            }
            if let Some(incoming) = self.finish(payload.header, limits, inflater)? {
                return Ok(Some(incoming));
            }
        }
    }

    /// Checks a header against what came before it and against the limits.
    fn begin(&mut self, header: Header, limits: Limits) -> Result<Payload, Violation> {
        match header.opcode {
            OpCode::Text | OpCode::Binary if self.message.is_some() => {
                return Err(Violation::InterruptedMessage);
            }
            OpCode::Text | OpCode::Binary => self.message = Some(Message::new(header)),
            OpCode::Continuation if self.message.is_none() => {
                return Err(Violation::UnexpectedContinuation);
            }
            OpCode::Continuation => {}
            OpCode::Close | OpCode::Ping | OpCode::Pong => {
                return Payload::new(header, MAX_CONTROL_BYTES);
            }
        }
        let message = self.message.as_mut().expect("a data frame belongs to a message");
        message.fragments += 1;
        if message.fragments > limits.fragments {
            return Err(Violation::TooManyFragments);
        }
        Payload::new(header, message.room(limits))
    }

    /// Hands out what the frame that has just been read completes.
    fn finish(
        &mut self,
        header: Header,
        limits: Limits,
        inflater: &mut Inflater,
    ) -> Result<Option<Incoming>, Violation> {
        if header.opcode.is_control() {
            let payload = mem::take(&mut self.control);
            return Ok(Some(match header.opcode {
                OpCode::Ping => Incoming::Ping(payload.into()),
                OpCode::Close => Incoming::Close(Close::parse(&payload)?),
                _ => Incoming::Pong(payload.into()),
            }));
        }
        let message = if header.is_final { self.message.take() } else { None };
        let frame = message.map(|message| message.into_frame(limits, inflater)).transpose()?;
        Ok(frame.map(Incoming::Frame))
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
    is_deflated: bool,
    fragments: usize,
    bytes: Vec<u8>,
    /// How many of `bytes` are known to be whole characters.
    checked: usize,
}

impl Message {
    fn new(header: Header) -> Self {
        let is_text = header.opcode == OpCode::Text;
        let is_deflated = header.is_deflated;
        Self { is_text, is_deflated, fragments: 0, bytes: Vec::new(), checked: 0 }
    }

    /// How many more bytes may come. Deflate makes some messages longer, by little.
    fn room(&self, limits: Limits) -> usize {
        let most = limits.message_bytes;
        let most = if self.is_deflated {
            most.saturating_add(most / DEFLATE_GROWTH + DEFLATE_SLACK)
        } else {
            most
        };
        most - self.bytes.len()
    }

    /// Judges what has come of a text, so that the peer hears at once what it did wrong.
    fn check(&mut self) -> Result<(), Violation> {
        if !self.is_text || self.is_deflated {
            return Ok(());
        }
        match str::from_utf8(&self.bytes[self.checked..]) {
            Ok(text) => self.checked += text.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(Violation::InvalidUtf8),
        }
        Ok(())
    }

    fn into_frame(self, limits: Limits, inflater: &mut Inflater) -> Result<Frame, Violation> {
        if self.is_deflated {
            return self.inflate(limits, inflater);
        }
        match self.is_text {
            false => Ok(Frame::Binary(self.bytes.into())),
            true if self.checked == self.bytes.len() => Ok(Frame::Text(self.bytes.into())),
            true => Err(Violation::InvalidUtf8),
        }
    }

    fn inflate(&self, limits: Limits, inflater: &mut Inflater) -> Result<Frame, Violation> {
        let bytes = inflater.inflate(&self.bytes, limits.message_bytes)?;
        if self.is_text && str::from_utf8(bytes).is_err() {
            return Err(Violation::InvalidUtf8);
        }
        let bytes = Bytes::copy_from_slice(bytes);
        Ok(if self.is_text { Frame::Text(bytes) } else { Frame::Binary(bytes) })
    }
}

/// As much as anybody may send before it is known who that is.
const ORDINARY_BYTES: usize = 8 * 1024;

/// RFC 6455 section 5.5.
const MAX_CONTROL_BYTES: usize = 125;

/// Data that cannot be compressed grows by 5 bytes in 16 KiB or more; a peer may flush more often.
const DEFLATE_GROWTH: usize = 256;
const DEFLATE_SLACK: usize = 64;
