use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tidewire_protocol::Frame;
use tokio::io::AsyncWrite;

use super::Role;
use super::close::{CloseCode, encode_close};
use super::header::{MAX_HEADER_BYTES, OpCode, encode_header};
use super::mask::apply_mask;

/// What is on its way to the peer.
///
/// Holds whole messages, the first perhaps half written. A pong and a ping wait outside the queue,
/// one of each at most, until they can be written: a peer that pings faster than it reads gets the
/// latest pong only, as RFC 6455 section 5.5.3 allows.
#[derive(Debug)]
pub(super) struct Outgoing {
    role: Role,
    queue: VecDeque<Bytes>,
    unsent: usize,
    pong: Option<Bytes>,
    ping: bool,
    is_closing: bool,
}

impl Outgoing {
    pub(super) fn new(role: Role) -> Self {
        let queue = VecDeque::new();
        Self { role, queue, unsent: 0, pong: None, ping: false, is_closing: false }
    }

    pub(super) fn unsent(&self) -> usize {
        self.unsent
    }

    /// Whether a close frame is queued or sent, after which nothing follows.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing
    }

    pub(super) fn ping(&mut self) {
        self.ping = true;
    }

    pub(super) fn pong(&mut self, payload: Bytes) {
        self.pong = Some(payload);
    }

    pub(super) fn frames(&mut self, frames: &[Frame]) -> io::Result<()> {
        let copied: usize = frames.iter().map(|frame| self.copied_bytes(frame.bytes())).sum();
        let mut copy = BytesMut::with_capacity(copied);
        for frame in frames {
            let opcode = match frame {
                Frame::Text(_) => OpCode::Text,
                Frame::Binary(_) => OpCode::Binary,
            };
            self.message(opcode, frame.bytes(), &mut copy)?;
        }
        self.push(copy);
        Ok(())
    }

    /// Queues the last frame; without a code if that is how the peer closed. Does nothing twice.
    pub(super) fn close(&mut self, close: Option<(CloseCode, &str)>) -> io::Result<()> {
        if self.is_closing {
            return Ok(());
        }
        self.is_closing = true;
        let payload = close.map(|(code, reason)| encode_close(code, reason)).unwrap_or_default();
        self.control(OpCode::Close, &payload)
    }

    /// Writes until nothing is left, and then holds no memory.
    pub(super) fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.queue.is_empty() && !self.stage_signs_of_life()? {
                return Pin::new(stream).poll_flush(cx);
            }
            let written = ready!(self.poll_write(stream, cx))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
    }

    /// Moves the waiting pong and ping into the queue; whether there was one.
    fn stage_signs_of_life(&mut self) -> io::Result<bool> {
        let pong = self.pong.take();
        let is_asking = std::mem::take(&mut self.ping);
        if self.is_closing || (pong.is_none() && !is_asking) {
            return Ok(false);
        }
        if let Some(payload) = pong {
            self.control(OpCode::Pong, &payload)?;
        }
        if is_asking {
            self.control(OpCode::Ping, &Bytes::new())?;
        }
        Ok(true)
    }

    fn control(&mut self, opcode: OpCode, payload: &Bytes) -> io::Result<()> {
        let mut copy = BytesMut::with_capacity(MAX_HEADER_BYTES + payload.len());
        self.message(opcode, payload, &mut copy)?;
        self.push(copy);
        Ok(())
    }

    /// Adds a message to `copy`, or what has gathered there and then the message to the queue.
    fn message(&mut self, opcode: OpCode, payload: &Bytes, copy: &mut BytesMut) -> io::Result<()> {
        let header = encode_header(opcode, payload.len());
        if self.role == Role::Client {
            let key = getrandom::u32()?.to_ne_bytes();
            copy.extend_from_slice(header.masked(key).as_ref());
            let start = copy.len();
            copy.extend_from_slice(payload);
            apply_mask(&mut copy[start..], key, 0);
            return Ok(());
        }
        copy.extend_from_slice(header.as_ref());
        if payload.len() <= COPIED_BYTES {
            copy.extend_from_slice(payload);
        } else {
            let gathered = copy.split();
            self.push(gathered);
            self.unsent += payload.len();
            self.queue.push_back(payload.clone());
        }
        Ok(())
    }

    fn copied_bytes(&self, payload: &Bytes) -> usize {
        let is_copied = self.role == Role::Client || payload.len() <= COPIED_BYTES;
        MAX_HEADER_BYTES + if is_copied { payload.len() } else { 0 }
    }

    fn push(&mut self, bytes: BytesMut) {
        if !bytes.is_empty() {
            self.unsent += bytes.len();
            self.queue.push_back(bytes.freeze());
        }
    }

    fn poll_write<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.queue.len() == 1 || !stream.is_write_vectored() {
            let first = self.queue.front().map_or(&[][..], Bytes::as_ref);
            return Pin::new(stream).poll_write(cx, first);
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        for (slice, bytes) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(bytes);
        }
        let used = self.queue.len().min(SLICES);
        Pin::new(stream).poll_write_vectored(cx, &slices[..used])
    }

    fn advance(&mut self, written: usize) {
        self.unsent -= written;
        let mut written = written;
        while let Some(front) = self.queue.front_mut() {
            if front.len() > written {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.queue.pop_front();
        }
        self.queue = VecDeque::new();
    }
}

/// Up to here, copying a payload costs less than a slice of its own in a vectored write.
const COPIED_BYTES: usize = 1024;

/// Slices in one vectored write; the rest takes another.
const SLICES: usize = 32;
