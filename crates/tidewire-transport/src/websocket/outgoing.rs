use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tidewire_protocol::Frame;
use tokio::io::AsyncWrite;

use super::Role;
use super::close::{CloseCode, encode_close};
use super::deflate::{Deflate, Deflater};
use super::header::{EncodedHeader, MAX_HEADER_BYTES, OpCode, encode_header};
use super::mask::apply_mask;
use super::pending::{Pending, Piece};

/// What is on its way to the peer.
///
/// Holds whole messages, the first perhaps half written. What is urgent goes before all messages that
/// have not begun, so that a peer that reads slowly is still pinged, and answered. A pong and a ping
/// wait for the urgent ones before them to be written, one of each at most: a peer that pings faster
/// than it reads gets few pongs, the latest among them, as RFC 6455 section 5.5.3 allows.
#[derive(Debug)]
pub(crate) struct Outgoing {
    role: Role,
    is_closing: bool,
    /// Lives only while something waits.
    pending: Option<Box<Pending>>,
}

impl Outgoing {
    pub(crate) fn new(role: Role) -> Self {
        Self { role, is_closing: false, pending: None }
    }

    pub(crate) fn unsent(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.unsent)
    }

    /// How many pieces of memory that is.
    pub(crate) fn unsent_pieces(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.queue.len() + pending.urgent.len())
    }

    /// Whether that much more may be [urgent](Self::urgent).
    pub(crate) fn has_room_for_urgent(&self, bytes: usize) -> bool {
        let pieces = self.pending.iter().flat_map(|pending| &pending.urgent);
        pieces.map(Bytes::len).sum::<usize>() + bytes <= URGENT_BYTES
    }

    /// Forgets the messages that have not begun; what is urgent stays.
    pub(crate) fn forget_unbegun(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.forget_unbegun();
        }
    }

    /// Whether a close frame is queued or sent, after which nothing follows.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Whether nothing waits to be written, not even a pong.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_none()
    }

    pub(crate) fn ping(&mut self) {
        if !self.is_closing {
            self.pending().ping = true;
        }
    }

    /// Answers a ping. For a peer that is behind with reading, the latest of its pings waits until
    /// what is urgent has been written.
    pub(crate) fn pong(&mut self, payload: Bytes) -> io::Result<()> {
        if self.is_closing {
            return Ok(());
        }
        if self.unsent() < PONGS_BYTES {
            if let Some(pending) = &mut self.pending {
                // It would come after a later one.
                pending.pong = None;
            }
            return self.control(OpCode::Pong, &payload);
        }
        self.pending().pong = Some(payload);
        Ok(())
    }

    /// Queues whole frames as they are.
    pub(crate) fn wire(&mut self, wire: Bytes) {
        self.push(Piece::Whole(wire));
    }

    /// The same of frames of which the beginning has been written; nothing is queued.
    pub(crate) fn rest(&mut self, rest: Bytes) {
        if !rest.is_empty() {
            self.pending().has_begun = true;
            self.push(Piece::Whole(rest));
        }
    }

    /// Queues whole frames before all that has not begun, but behind what was urgent before.
    pub(crate) fn urgent(&mut self, frames: &[Frame]) -> io::Result<()> {
        let bytes = |frame: &Frame| MAX_HEADER_BYTES + frame.bytes().len();
        let mut copy = BytesMut::with_capacity(frames.iter().map(bytes).sum());
        for frame in frames {
            self.copy(opcode(frame), frame.bytes(), &mut copy)?;
        }
        self.push_urgent(copy.freeze());
        Ok(())
    }

    fn push(&mut self, piece: Piece) {
        let bytes = piece.bytes().len();
        if bytes > 0 {
            let pending = self.pending();
            pending.unsent += bytes;
            pending.queue.push_back(piece);
        }
    }

    fn push_urgent(&mut self, wire: Bytes) {
        let pending = self.pending();
        pending.unsent += wire.len();
        pending.urgent.push_back(wire);
    }

    /// Queues `frames`, compressed where that was agreed and is worth it.
    pub(crate) fn frames(
        &mut self,
        frames: &[Frame],
        deflate: Option<Deflate>,
        deflater: &mut Deflater,
    ) -> io::Result<()> {
        let copied = frames.iter().map(|frame| self.copied_bytes(frame.bytes())).sum();
        let mut copy = BytesMut::with_capacity(copied);
        for frame in frames {
            let packed = deflate.and_then(|deflate| deflater.deflate(deflate, frame.bytes()));
            match packed {
                Some(packed) if self.role == Role::Server => {
                    encode_deflated(frame, packed, &mut copy);
                }
                Some(packed) => {
                    let header = encode_header(opcode(frame), packed.len()).deflated();
                    copy_masked(header, packed, &mut copy)?;
                }
                None => self.message(opcode(frame), frame.bytes(), &mut copy)?,
            }
        }
        self.wire(copy.freeze());
        Ok(())
    }

    /// Queues the last frame; without a code if that is how the peer closed. Does nothing twice.
    pub(crate) fn close(&mut self, close: Option<(CloseCode, &str)>) -> io::Result<()> {
        if self.is_closing {
            return Ok(());
        }
        self.is_closing = true;
        if let Some(pending) = &mut self.pending {
            pending.ping = false;
            if let Some(pong) = pending.pong.take() {
                self.control(OpCode::Pong, &pong)?;
            }
        }
        let payload = close.map(|(code, reason)| encode_close(code, reason)).unwrap_or_default();
        let mut copy = BytesMut::with_capacity(MAX_HEADER_BYTES + payload.len());
        self.copy(OpCode::Close, &payload, &mut copy)?;
        self.wire(copy.freeze());
        Ok(())
    }

    /// Writes until nothing is left, and then holds no memory.
    pub(crate) fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.stage()? {
            let written = ready!(self.poll_write(stream, cx))?;
            self.advance(written)?;
        }
        Pin::new(stream).poll_flush(cx)
    }

    /// Writes until nothing is left; whether that is so, or `stream` takes no more for now.
    ///
    /// Small pieces are gathered in `gather`: up to there, copying costs less than a slice of a
    /// vectored write.
    pub(crate) fn flush(
        &mut self,
        stream: &mut impl Write,
        gather: &mut Vec<u8>,
    ) -> io::Result<bool> {
        while self.stage()? {
            match self.write(stream, gather) {
                Ok(written) => self.advance(written)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn pending(&mut self) -> &mut Pending {
        self.pending.get_or_insert_default()
    }

    /// Whether there is something to write. A waiting pong and ping join what is urgent when there is
    /// nothing else of that; without anything, the memory is given back.
    fn stage(&mut self) -> io::Result<bool> {
        let Some(pending) = &mut self.pending else { return Ok(false) };
        if pending.urgent.is_empty() {
            let (pong, is_asking) = (pending.pong.take(), std::mem::take(&mut pending.ping));
            if let Some(payload) = &pong {
                self.control(OpCode::Pong, payload)?;
            }
            if is_asking {
                self.control(OpCode::Ping, &Bytes::new())?;
            }
        }
        if self.pending.as_ref().is_some_and(|pending| pending.is_empty()) {
            self.pending = None;
        }
        Ok(self.pending.is_some())
    }

    fn control(&mut self, opcode: OpCode, payload: &Bytes) -> io::Result<()> {
        let mut copy = BytesMut::with_capacity(MAX_HEADER_BYTES + payload.len());
        self.copy(opcode, payload, &mut copy)?;
        self.push_urgent(copy.freeze());
        Ok(())
    }

    /// Adds a message to `copy`.
    fn copy(&self, opcode: OpCode, payload: &Bytes, copy: &mut BytesMut) -> io::Result<()> {
        let header = encode_header(opcode, payload.len());
        if self.role == Role::Client {
            return copy_masked(header, payload, copy);
        }
        copy.extend_from_slice(header.as_ref());
        copy.extend_from_slice(payload);
        Ok(())
    }

    /// Adds a message to `copy`, or what has gathered there and then the message to the queue.
    fn message(&mut self, opcode: OpCode, payload: &Bytes, copy: &mut BytesMut) -> io::Result<()> {
        if self.role == Role::Client || payload.len() <= COPIED_BYTES {
            return self.copy(opcode, payload, copy);
        }
        copy.extend_from_slice(encode_header(opcode, payload.len()).as_ref());
        self.push(Piece::Head(copy.split().freeze()));
        self.wire(payload.clone());
        Ok(())
    }

    fn copied_bytes(&self, payload: &Bytes) -> usize {
        let is_copied = self.role == Role::Client || payload.len() <= COPIED_BYTES;
        MAX_HEADER_BYTES + if is_copied { payload.len() } else { 0 }
    }

    fn poll_write<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        match self.slices(&mut slices) {
            [first] => Pin::new(stream).poll_write(cx, first),
            [first, ..] if !stream.is_write_vectored() => Pin::new(stream).poll_write(cx, first),
            several => Pin::new(stream).poll_write_vectored(cx, several),
        }
    }

    fn write(&self, stream: &mut impl Write, gather: &mut Vec<u8>) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        match self.slices(&mut slices) {
            [first] => stream.write(first),
            _ if self.unsent() <= GATHERED_BYTES => {
                gather.clear();
                self.queue().for_each(|bytes| gather.extend_from_slice(bytes));
                stream.write(gather)
            }
            several => stream.write_vectored(several),
        }
    }

    /// As much of what waits as one vectored write takes.
    fn slices<'a, 'b>(&'a self, slices: &'b mut [IoSlice<'a>; SLICES]) -> &'b [IoSlice<'a>] {
        let mut used = 0;
        for (slice, bytes) in slices.iter_mut().zip(self.queue()) {
            *slice = IoSlice::new(bytes);
            used += 1;
        }
        &slices[..used]
    }

    fn queue(&self) -> impl Iterator<Item = &Bytes> {
        self.pending.iter().flat_map(|pending| pending.in_order())
    }

    fn advance(&mut self, written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let Some(pending) = &mut self.pending else { return Ok(()) };
        pending.consume(written);
        Ok(())
    }
}

/// Adds `frame` to `wire` as a server sends it.
pub(crate) fn encode(frame: &Frame, wire: &mut BytesMut) {
    wire.extend_from_slice(encode_header(opcode(frame), frame.bytes().len()).as_ref());
    wire.extend_from_slice(frame.bytes());
}

/// The same for a frame whose payload has been compressed to `packed`.
pub(crate) fn encode_deflated(frame: &Frame, packed: &[u8], wire: &mut BytesMut) {
    wire.extend_from_slice(encode_header(opcode(frame), packed.len()).deflated().as_ref());
    wire.extend_from_slice(packed);
}

/// Adds a frame to `wire` as a client sends it.
fn copy_masked(header: EncodedHeader, payload: &[u8], wire: &mut BytesMut) -> io::Result<()> {
    let key = getrandom::u32()?.to_ne_bytes();
    wire.extend_from_slice(header.masked(key).as_ref());
    let start = wire.len();
    wire.extend_from_slice(payload);
    apply_mask(&mut wire[start..], key, 0);
    Ok(())
}

fn opcode(frame: &Frame) -> OpCode {
    match frame {
        Frame::Text(_) => OpCode::Text,
        Frame::Binary(_) => OpCode::Binary,
    }
}

/// Up to here, copying a payload costs less than a slice of its own in a vectored write.
const COPIED_BYTES: usize = 1024;

/// Up to here, all that is queued is copied together for one write.
const GATHERED_BYTES: usize = 16 * 1024;

/// What may be urgent at once, in bytes.
const URGENT_BYTES: usize = 16 * 1024;

/// With this much unsent, a peer that pings again gets the latest pong only.
const PONGS_BYTES: usize = 4 * 1024;

/// Slices in one vectored write; the rest takes another.
const SLICES: usize = 32;

#[cfg(test)]
mod tests;
