use std::io::{self, Write};

use bytes::{Buf, Bytes};
use mio::{Interest, Registry, Token};
use tidewire_protocol::Frame;

use crate::scratch::Scratch;
use crate::stream::{Rest, Stream, Taken};
use crate::transport::TransportError;
use crate::websocket::endpoint::{Controls, Ending, Endpoint, Intake};
use crate::websocket::{Close, CloseCode, Deflate, Limits, Role};

/// The server's end of one WebSocket, driven by the worker that owns it.
///
/// Never waits, keeps no time and spawns nothing: the worker calls [`receive`](Self::receive) when
/// its poll says that the stream is readable, and [`flush`](Self::flush) when it is writable or
/// something was queued. Holds no memory beside itself while it is idle.
#[derive(Debug)]
pub struct Link {
    stream: Stream,
    /// Whether the peer will send nothing after what the kernel holds already.
    is_read_closed: bool,
    endpoint: Endpoint,
}

impl Link {
    /// A link over `stream`, whose first bytes after the handshake are `unread`: call
    /// [`receive`](Self::receive) without waiting for an event if there are any.
    pub fn new(stream: Stream, unread: Bytes, settings: LinkSettings) -> Self {
        let endpoint = Endpoint::new(Role::Server, settings.limits, unread);
        Self { stream, is_read_closed: false, endpoint: endpoint.deflated(settings.deflate) }
    }

    /// Asks for events under `token`, edge-triggered: once, for reading and for writing.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(self.stream.socket(), token, interest)
    }

    /// To be called for an event that says so (`Event::is_read_closed`), before
    /// [`receive`](Self::receive): no other event will, so a read that does not fill the buffer is
    /// then not the last.
    pub fn note_read_closed(&mut self) {
        self.is_read_closed = true;
    }

    /// Decodes what was left over, or else reads the stream once, and adds at most `most` messages to
    /// `frames`; pings and pongs count as messages. Pings are answered, a close too:
    /// [`flush`](Self::flush) when done.
    ///
    /// # Errors
    ///
    /// A [`Violation`](crate::Violation) comes alone, after every frame before it, and again on every
    /// later call: [`close`](Self::close) with its code and [`drain`](Self::drain).
    /// [`TransportError::Io`] ends the connection; the link has [parted](Self::is_parted) then.
    pub fn receive(
        &mut self,
        scratch: &mut Scratch,
        most: usize,
        frames: &mut Vec<Frame>,
    ) -> Result<Received, TransportError> {
        self.receive_some(scratch, (most, usize::MAX), frames)
    }

    /// The same, and reads at most `bytes` of the stream, at least one.
    ///
    /// # Errors
    ///
    /// As `receive`.
    pub fn receive_some(
        &mut self,
        scratch: &mut Scratch,
        (most, bytes): (usize, usize),
        frames: &mut Vec<Frame>,
    ) -> Result<Received, TransportError> {
        let (buffer, inflater) = scratch.reading();
        let size = bytes.clamp(1, buffer.len());
        let buffer = &mut buffer[..size];
        let before = frames.len();
        let mut intake = Intake::new(frames, most, inflater);
        if self.endpoint.ending().is_some() {
            return self.received(Received::of(0, Then::Ended), true);
        }
        if self.endpoint.digest_unread(&mut intake)? {
            let controls = intake.controls;
            // Whatever event there was has not been answered by a read.
            let received = Received { controls, ..Received::of(0, Then::More) };
            return self.received(received, frames.len() == before);
        }
        match self.read(buffer)? {
            Some((_, Then::Ended)) => Ok(Received::of(0, Then::Ended)),
            Some((bytes, then)) => {
                self.endpoint.digest_read(&buffer[..bytes], &mut intake)?;
                let controls = intake.controls;
                let received = Received { controls, ..Received::of(bytes, then) };
                self.received(received, frames.len() == before)
            }
            None => Ok(Received::of(0, Then::Drained)),
        }
    }

    /// Reads once and drops what comes, for the end of a connection that is beyond understanding:
    /// closing with bytes unread would reset it, and the reset could overtake our close frame.
    ///
    /// # Errors
    ///
    /// [`TransportError::Io`], after which the link has parted.
    pub fn drain(&mut self, scratch: &mut Scratch) -> Result<Received, TransportError> {
        Ok(match self.read(scratch.reading().0)? {
            Some((_, Then::Ended)) => Received::of(0, Then::Ended),
            Some((bytes, then)) => Received::of(bytes, then),
            None => Received::of(0, Then::Drained),
        })
    }

    /// Puts `frames` of this connection only in the queue, compressed where that was agreed.
    ///
    /// The queue has no bound of its own: the owner watches [`unsent`](Self::unsent) and
    /// [`unsent_pieces`](Self::unsent_pieces).
    ///
    /// # Errors
    ///
    /// [`TransportError::Closed`] once either side has closed or the peer has vanished.
    pub fn queue(&mut self, frames: &[Frame], scratch: &mut Scratch) -> Result<(), TransportError> {
        self.endpoint.queue(frames, &mut scratch.deflater)
    }

    /// Puts `frames` before all that has not begun to be written: what a client waits for is not to
    /// wait for what it is behind with. They are not compressed. Of 16 KiB at once; what is more joins
    /// the queue.
    ///
    /// # Errors
    ///
    /// As `queue`.
    pub fn queue_urgent(
        &mut self,
        frames: &[Frame],
        scratch: &mut Scratch,
    ) -> Result<(), TransportError> {
        self.endpoint.queue_urgent(frames, &mut scratch.deflater)
    }

    /// Forgets what is queued and has not begun to be written, but for what is urgent: before a goodbye
    /// to a client that does not read.
    pub fn forget_unsent(&mut self) {
        self.endpoint.outgoing.forget_unbegun();
    }

    /// Puts whole frames in the queue as they are (see [`Prepared`](crate::Prepared)), shared.
    ///
    /// # Errors
    ///
    /// [`TransportError::Closed`] once either side has closed or the peer has vanished.
    pub fn queue_shared(&mut self, wire: &Bytes) -> Result<(), TransportError> {
        self.endpoint.check_open()?;
        self.endpoint.outgoing.wire(wire.clone());
        Ok(())
    }

    /// The same, and writes them at once if nothing waits before them; what the stream does not take
    /// stays queued.
    ///
    /// # Errors
    ///
    /// As `queue_shared`, and [`TransportError::Io`], after which the link has parted.
    pub fn send_shared(&mut self, wire: &Bytes) -> Result<(), TransportError> {
        self.endpoint.check_open()?;
        let mut rest = &wire[..];
        while self.endpoint.outgoing.is_empty() && !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(0) => return Err(self.fail(io::ErrorKind::WriteZero.into())),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.fail(error)),
            }
        }
        let mut unsent = wire.clone();
        unsent.advance(wire.len() - rest.len());
        if rest.len() < wire.len() {
            self.endpoint.outgoing.rest(unsent);
        } else {
            self.endpoint.outgoing.wire(unsent);
        }
        Ok(())
    }

    /// Writes what is queued, in as few writes as may be. After [`Flushed::Blocked`] the poll says
    /// when to go on.
    ///
    /// # Errors
    ///
    /// [`TransportError::Io`], after which the link has parted.
    pub fn flush(&mut self, scratch: &mut Scratch) -> Result<Flushed, TransportError> {
        let written = self.endpoint.outgoing.flush(&mut self.stream, &mut scratch.gather);
        match written.and_then(|is_all| self.stream.flush().map(|()| is_all)) {
            Ok(true) => Ok(Flushed::All),
            Ok(false) => Ok(Flushed::Blocked),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Flushed::Blocked),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Bytes queued and not yet written, headers included.
    pub fn unsent(&self) -> usize {
        self.endpoint.outgoing.unsent() + self.stream.unsent()
    }

    /// In how many pieces that is queued: each takes some memory beside its bytes, however few.
    pub fn unsent_pieces(&self) -> usize {
        self.endpoint.outgoing.unsent_pieces()
    }

    /// Whether a flush would write: something queued, or a pong.
    pub fn wants_to_write(&self) -> bool {
        !self.endpoint.outgoing.is_empty() || self.stream.wants_to_write()
    }

    /// Bytes that were read and have not been handed out, as memory held for them: of a message that is
    /// not complete, and behind the last one that there was room for.
    pub fn held(&self) -> usize {
        self.endpoint.held()
    }

    /// Whether bytes were read that are yet to be decoded, of which the socket knows nothing.
    pub fn has_unread(&self) -> bool {
        self.endpoint.has_unread() || self.stream.has_unread()
    }

    /// Bytes held for a frame or a message that has begun and of which the end has not come; `None` if
    /// there is none.
    pub fn unfinished(&self) -> Option<usize> {
        self.endpoint.unfinished()
    }

    /// Forgets it. From then on nothing can be [received](Self::receive), only [drained](Self::drain).
    pub fn forget_unfinished(&mut self) {
        self.endpoint.forget_unfinished();
    }

    /// Asks the peer for a sign of life; a second before the next flush is the same ping.
    pub fn ping(&mut self) {
        self.endpoint.outgoing.ping();
    }

    /// Queues our close frame, answer or not, if none has been: nothing follows it. A `reason` is cut
    /// at 123 bytes.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.endpoint.close(code, reason).expect("a server draws no masking key");
    }

    /// Whether nothing is left to be said: both have closed and ours is written, or the peer has
    /// vanished.
    pub fn is_parted(&self) -> bool {
        match self.endpoint.ending() {
            Some(Ending::Closed(_)) => !self.wants_to_write(),
            Some(Ending::Lost) => true,
            Some(Ending::Broken(_)) | None => false,
        }
    }

    /// Tells the peer that nothing follows what has been written. To be called again, after a
    /// [`flush`](Self::flush), if that would block, as it can over TLS.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        self.stream.shutdown_write()
    }

    /// What the two ends agreed on, for [`Prepared::wire`](crate::Prepared::wire).
    pub fn deflate(&self) -> Option<Deflate> {
        self.endpoint.deflate()
    }

    /// What the peer's close frame said; `None` if it has not closed, or without giving a code.
    pub fn peer_close(&self) -> Option<&Close> {
        self.endpoint.peer_close()
    }

    /// Whether the peer said goodbye, rather than vanish.
    pub fn is_closed_by_peer(&self) -> bool {
        self.endpoint.is_closed_by_peer()
    }

    /// The stream below, to look at its options; bytes read or written there corrupt the link.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Reads once: how much, and what follows; `None` if there was nothing for now.
    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<(usize, Then)>, TransportError> {
        match self.stream.take(buffer) {
            Ok(Taken::End) => {
                self.endpoint.lose();
                Ok(Some((0, Then::Ended)))
            }
            Ok(Taken::Bytes(bytes, Rest::Nothing)) if !self.is_read_closed => {
                Ok(Some((bytes, Then::Drained)))
            }
            Ok(Taken::Bytes(bytes, _)) => Ok(Some((bytes, Then::More))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// What has been decoded comes to this, unless it ended in a violation that is to be told now.
    fn received(&self, received: Received, is_alone: bool) -> Result<Received, TransportError> {
        let then = match self.endpoint.ending() {
            Some(Ending::Broken(violation)) if is_alone => return Err((*violation).into()),
            Some(Ending::Broken(_)) => Then::More,
            Some(Ending::Closed(_) | Ending::Lost) => Then::Ended,
            None if self.endpoint.has_unread() => Then::More,
            None => received.then,
        };
        Ok(Received { then, ..received })
    }

    fn fail(&mut self, error: io::Error) -> TransportError {
        self.endpoint.lose();
        TransportError::Io(error)
    }
}

/// What a link keeps to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LinkSettings {
    pub limits: Limits,
    /// What [`upgrade()`](crate::upgrade()) agreed on.
    pub deflate: Option<Deflate>,
}

/// What a call of [`Link::receive`] came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Received {
    /// Bytes read from the stream; none if what came earlier was decoded.
    pub bytes: usize,
    pub controls: Controls,
    pub then: Then,
}

impl Received {
    fn of(bytes: usize, then: Then) -> Self {
        Self { bytes, controls: Controls::default(), then }
    }
}

/// What follows what has been received.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Then {
    /// Nothing until the next event.
    Drained,
    /// There may be more: call again, perhaps after others have had their turn.
    More,
    /// The peer has closed, which has been answered, or it has vanished.
    Ended,
}

/// What a call of [`Link::flush`] came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flushed {
    All,
    /// The stream takes no more for now.
    Blocked,
}
