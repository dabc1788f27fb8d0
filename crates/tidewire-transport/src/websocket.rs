//! WebSocket (RFC 6455), both ends.

mod close;
pub mod codec;
mod header;
mod mask;
mod outgoing;
pub mod upgrade;

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tidewire_protocol::Frame;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout};

use crate::transport::{Transport, TransportError};

pub use close::{Close, CloseCode};
pub use codec::{Decoder, Incoming, Limits, Role, Violation};
pub use header::{EncodedHeader, OpCode, encode_header};
use outgoing::Outgoing;

/// A WebSocket over a byte stream, after the handshake.
///
/// Reads into memory its thread shares and keeps only what is not complete, so that an idle one
/// holds no buffer. Received frames wait in it, at most [`INBOX_FRAMES`] of them, and nothing more
/// is read until they have been taken.
#[derive(Debug)]
pub struct WebSocket<S> {
    stream: S,
    decoder: Decoder,
    unread: Bytes,
    inbox: VecDeque<Frame>,
    ending: Option<Ending>,
    outgoing: Outgoing,
    last_heard: Instant,
}

impl<S> WebSocket<S> {
    /// A WebSocket over `stream`, whose first bytes after the handshake are `unread`.
    pub fn new(stream: S, unread: Bytes, role: Role, limits: Limits) -> Self {
        Self {
            stream,
            decoder: Decoder::new(role, limits),
            unread: compact(unread),
            inbox: VecDeque::new(),
            ending: None,
            outgoing: Outgoing::new(role),
            last_heard: Instant::now(),
        }
    }

    /// What the peer's close frame said; `None` if it has not closed, or without giving a code.
    pub fn peer_close(&self) -> Option<&Close> {
        match &self.ending {
            Some(Ending::Closed(close)) => close.as_ref(),
            _ => None,
        }
    }

    /// Whether the peer said goodbye, rather than vanish.
    pub fn is_closed_by_peer(&self) -> bool {
        matches!(self.ending, Some(Ending::Closed(_)))
    }

    /// The stream below, to look at its options; bytes read or written there corrupt the socket.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Decodes `input` until it is used up, the inbox is full or the peer has ended.
    fn digest(&mut self, input: &mut &[u8]) -> io::Result<()> {
        while self.inbox.len() < INBOX_FRAMES && self.ending.is_none() {
            match self.decoder.decode(input) {
                Ok(None) => break,
                Ok(Some(Incoming::Frame(frame))) => self.inbox.push_back(frame),
                Ok(Some(Incoming::Ping(payload))) => self.outgoing.pong(payload),
                Ok(Some(Incoming::Pong(_))) => {}
                Ok(Some(Incoming::Close(close))) => self.end(Ending::Closed(close))?,
                Err(violation) => self.end(Ending::Broken(violation))?,
            }
        }
        Ok(())
    }

    /// A close is answered with its own code (RFC 6455 section 5.5.1), a violation by the owner.
    fn end(&mut self, ending: Ending) -> io::Result<()> {
        if let Ending::Closed(close) = &ending {
            self.outgoing.close(close.as_ref().map(|close| (close.code, "")))?;
        }
        self.ending = Some(ending);
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame>, TransportError>> {
        loop {
            if let Some(frame) = self.inbox.pop_front() {
                return Poll::Ready(Ok(Some(frame)));
            }
            self.inbox = VecDeque::new();
            // A full socket must not keep us from reading: the peer may be waiting for that.
            if let Poll::Ready(Err(error)) = self.outgoing.poll_flush(&mut self.stream, cx) {
                return Poll::Ready(Err(error.into()));
            }
            match self.ending {
                Some(Ending::Broken(violation)) => return Poll::Ready(Err(violation.into())),
                Some(Ending::Closed(_) | Ending::Lost) => return Poll::Ready(Ok(None)),
                None => ready!(self.poll_more(cx))?,
            }
        }
    }

    /// Reads once, unless something read before has not been decoded yet.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let mut unread = std::mem::take(&mut self.unread);
            let mut input = &unread[..];
            self.digest(&mut input)?;
            let digested = unread.len() - input.len();
            unread.advance(digested);
            self.unread = compact(unread);
            return Poll::Ready(Ok(()));
        }
        with_read_buffer(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(self.end(Ending::Lost));
            }
            self.last_heard = Instant::now();
            let mut input = buffer.filled();
            self.digest(&mut input)?;
            self.unread = Bytes::copy_from_slice(input);
            Poll::Ready(Ok(()))
        })
    }

    /// Flushes and reads at once, until all is written and the peer has ended.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.ending.is_none() {
            self.inbox.clear();
            if self.poll_more(cx)?.is_pending() {
                break;
            }
        }
        ready!(self.outgoing.poll_flush(&mut self.stream, cx))?;
        if self.ending.is_some() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Reads what we can make nothing of: closing with bytes unread would reset the connection, and
    /// the reset could overtake the close frame.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_read_buffer(|buffer| {
            loop {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
                if buffer.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
        })
    }

    async fn part(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_part(cx)).await?;
        self.stream.shutdown().await?;
        if matches!(self.ending, Some(Ending::Broken(_))) {
            poll_fn(|cx| self.poll_drain(cx)).await?;
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Transport for WebSocket<S> {
    async fn receive(&mut self) -> Result<Option<Frame>, TransportError> {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    fn queue(&mut self, frames: &[Frame]) -> Result<(), TransportError> {
        if self.outgoing.is_closing() || matches!(self.ending, Some(Ending::Lost)) {
            return Err(TransportError::Closed);
        }
        Ok(self.outgoing.frames(frames)?)
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        Ok(poll_fn(|cx| self.outgoing.poll_flush(&mut self.stream, cx)).await?)
    }

    fn unsent(&self) -> usize {
        self.outgoing.unsent()
    }

    fn ping(&mut self) {
        self.outgoing.ping();
    }

    fn last_heard(&self) -> Instant {
        self.last_heard
    }

    async fn close(
        &mut self,
        code: CloseCode,
        reason: &str,
        within: Duration,
    ) -> Result<(), TransportError> {
        self.outgoing.close(Some((code, reason)))?;
        match timeout(within, self.part()).await {
            Ok(parted) => Ok(parted?),
            Err(_) => Err(TransportError::Unanswered),
        }
    }
}

/// Why nothing more will be received.
#[derive(Debug)]
enum Ending {
    Closed(Option<Close>),
    Broken(Violation),
    /// The stream ended without a close frame.
    Lost,
}

/// An empty slice still keeps alive what it was cut from.
fn compact(bytes: Bytes) -> Bytes {
    if bytes.is_empty() { Bytes::new() } else { bytes }
}

/// Lends `read` the buffer that the sockets of a thread share.
fn with_read_buffer<R>(read: impl FnOnce(&mut [u8]) -> R) -> R {
    thread_local! {
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }

    let mut buffer = BUFFER.take();
    buffer.resize(READ_BYTES, 0);
    let result = read(&mut buffer);
    BUFFER.set(buffer);
    result
}

/// Read at most this much at once.
const READ_BYTES: usize = 64 * 1024;

/// Decode at most this many frames ahead: tiny frames cost us more memory than they cost the peer.
pub const INBOX_FRAMES: usize = 32;
