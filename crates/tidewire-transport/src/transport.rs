use std::io;
use std::time::Duration;

use tidewire_model::Disconnect;
use tidewire_protocol::Frame;
use tokio::time::Instant;

use crate::websocket::{CloseCode, Violation};

/// One client's stream of frames, owned by one task.
///
/// Reading and writing interleave in that task: frames are put in a queue of the transport, and
/// both [`receive`](Self::receive) and [`flush`](Self::flush) write from it. A task that only ever
/// flushes can stall against a peer that does the same; one that queues and receives cannot.
pub trait Transport: Send {
    /// The next frame, or `None` when the peer has left.
    ///
    /// Writes what is queued while it waits, and answers pings.
    ///
    /// Cancel-safe: dropping the future loses nothing, neither a received byte nor a queued one.
    ///
    /// # Errors
    ///
    /// A [`Violation`] of the protocol comes after every frame before it, and again on every later
    /// call: [`close`](Self::close) with its code. [`TransportError::Io`] ends the connection.
    fn receive(&mut self) -> impl Future<Output = Result<Option<Frame>, TransportError>> + Send;

    /// Puts `frames` in the queue, without writing any.
    ///
    /// The queue has no bound of its own: the caller stops when [`unsent`](Self::unsent) is more
    /// than it wants to hold for this peer. Large payloads are shared, not copied.
    ///
    /// # Errors
    ///
    /// [`TransportError::Closed`] once either side has closed or the peer has vanished; nothing is
    /// queued then. A peer that broke the protocol can still be told why.
    fn queue(&mut self, frames: &[Frame]) -> Result<(), TransportError>;

    /// Writes until the queue is empty, in as few writes as the stream allows.
    ///
    /// Cancel-safe: the rest stays queued, and a frame that is half written is finished first by
    /// whatever writes next.
    fn flush(&mut self) -> impl Future<Output = Result<(), TransportError>> + Send;

    /// Queues `frames` and flushes, under a timeout of the caller.
    ///
    /// When cancelled, every frame is either written or still queued, and sending one of them again
    /// would double it: a peer too slow for the timeout is to be closed, or left to `receive`.
    fn send(
        &mut self,
        frames: &[Frame],
    ) -> impl Future<Output = Result<(), TransportError>> + Send {
        let queued = self.queue(frames);
        async move {
            queued?;
            self.flush().await
        }
    }

    /// Bytes queued and not yet written, headers included.
    fn unsent(&self) -> usize;

    /// Asks the peer for a sign of life, which moves [`last_heard`](Self::last_heard).
    ///
    /// Written by the next `receive` or `flush`; a second before that is the same ping.
    fn ping(&mut self);

    /// When any byte last came from the peer, or when the connection was made.
    fn last_heard(&self) -> Instant;

    /// Says goodbye, waits for the peer to do so too, and ends the stream.
    ///
    /// What is queued goes out first. Frames that still come are dropped. A `reason` is cut at 123
    /// bytes. If either side has closed already, only what is missing is done. Takes no longer than
    /// `within`; afterwards, whatever the result, the transport is to be dropped.
    ///
    /// # Errors
    ///
    /// [`TransportError::Unanswered`] after `within`, [`TransportError::Io`] when the stream broke.
    fn close(
        &mut self,
        code: CloseCode,
        reason: &str,
        within: Duration,
    ) -> impl Future<Output = Result<(), TransportError>> + Send;
}

/// Why a transport can carry nothing more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    #[error("peer broke the websocket protocol")]
    Violation(#[from] Violation),
    #[error("stream failed")]
    Io(#[from] io::Error),
    #[error("connection is closing")]
    Closed,
    #[error("peer did not answer the close in time")]
    Unanswered,
}

impl TransportError {
    /// What to tell a peer that can still be told; `None` when the stream is beyond that.
    pub fn disconnect(&self) -> Option<Disconnect> {
        match self {
            Self::Violation(violation) => Some(violation.disconnect()),
            Self::Io(_) | Self::Closed | Self::Unanswered => None,
        }
    }
}
