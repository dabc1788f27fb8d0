//! WebSocket (RFC 6455), both ends.

mod close;
pub mod codec;
pub mod deflate;
pub(crate) mod endpoint;
pub(crate) mod extensions;
pub(crate) mod header;
mod mask;
pub(crate) mod outgoing;
mod pending;
pub mod upgrade;
mod violation;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tidewire_protocol::Frame;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout};

use crate::scratch::with_scratch;
use crate::transport::{Transport, TransportError};

pub use close::{Close, CloseCode};
pub use codec::{Decoder, Incoming, Limits, Role};
pub use deflate::Deflate;
use endpoint::{Ending, Endpoint, Intake};
pub use extensions::Compression;
pub use header::{EncodedHeader, OpCode, encode_header};
pub use violation::Violation;

/// A WebSocket over a byte stream, after the handshake.
///
/// Reads into memory its thread shares and keeps only what is not complete, so that an idle one
/// holds no buffer. Received frames wait in it, at most [`INBOX_FRAMES`] of them, and nothing more
/// is read until they have been taken.
#[derive(Debug)]
pub struct WebSocket<S> {
    stream: S,
    endpoint: Endpoint,
    inbox: VecDeque<Frame>,
    last_heard: Instant,
}

impl<S> WebSocket<S> {
    /// A WebSocket over `stream`, whose first bytes after the handshake are `unread`.
    pub fn new(stream: S, unread: Bytes, role: Role, limits: Limits) -> Self {
        let endpoint = Endpoint::new(role, limits, unread);
        Self { stream, endpoint, inbox: VecDeque::new(), last_heard: Instant::now() }
    }

    /// The same, which compresses if the two ends agreed to.
    #[must_use]
    pub fn deflated(self, deflate: Option<Deflate>) -> Self {
        Self { endpoint: self.endpoint.deflated(deflate), ..self }
    }

    /// What the two ends agreed on.
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

    /// The stream below, to look at its options; bytes read or written there corrupt the socket.
    pub fn stream(&self) -> &S {
        &self.stream
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
            if let Poll::Ready(Err(error)) = self.poll_write(cx) {
                return Poll::Ready(Err(error.into()));
            }
            match self.endpoint.ending() {
                Some(Ending::Broken(violation)) => return Poll::Ready(Err((*violation).into())),
                Some(Ending::Closed(_) | Ending::Lost) => return Poll::Ready(Ok(None)),
                None => ready!(self.poll_more(cx))?,
            }
        }
    }

    /// Reads once, unless something read before has not been decoded yet.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_scratch(|scratch| {
            let (buffer, inflater) = scratch.reading();
            let room = INBOX_FRAMES - self.inbox.len();
            let mut intake = Intake::new(&mut self.inbox, room, inflater);
            if self.endpoint.digest_unread(&mut intake)? {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                self.endpoint.lose();
                return Poll::Ready(Ok(()));
            }
            self.last_heard = Instant::now();
            Poll::Ready(self.endpoint.digest_read(buffer.filled(), &mut intake))
        })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.endpoint.outgoing.poll_flush(&mut self.stream, cx)
    }

    /// Flushes and reads at once, until all is written and the peer has ended.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.endpoint.ending().is_none() {
            self.inbox.clear();
            if self.poll_more(cx)?.is_pending() {
                break;
            }
        }
        ready!(self.poll_write(cx))?;
        if self.endpoint.ending().is_some() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Reads what we can make nothing of: closing with bytes unread would reset the connection, and
    /// the reset could overtake the close frame.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_scratch(|scratch| {
            loop {
                let mut buffer = ReadBuf::new(scratch.reading().0);
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
        if matches!(self.endpoint.ending(), Some(Ending::Broken(_))) {
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
        with_scratch(|scratch| self.endpoint.queue(frames, &mut scratch.deflater))
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        Ok(poll_fn(|cx| self.poll_write(cx)).await?)
    }

    fn unsent(&self) -> usize {
        self.endpoint.outgoing.unsent()
    }

    fn ping(&mut self) {
        self.endpoint.outgoing.ping();
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
        self.endpoint.close(code, reason)?;
        match timeout(within, self.part()).await {
            Ok(parted) => Ok(parted?),
            Err(_) => Err(TransportError::Unanswered),
        }
    }
}

/// Decode at most this many frames ahead: tiny frames cost us more memory than they cost the peer.
pub const INBOX_FRAMES: usize = 32;
