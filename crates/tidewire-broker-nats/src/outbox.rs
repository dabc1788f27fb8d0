use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_nats::{Client, PublishErrorKind, Subject};
use bytes::Bytes;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::{Metrics, Trouble};

/// The queue towards one connection, bounded in envelopes and in bytes. What does not fit is dropped
/// and counted.
///
/// One task empties it, in the order of calls. It waits when the connection takes no more, as it
/// does after some hundred envelopes while NATS cannot be reached; the queue is what absorbs that.
pub(crate) struct Outbox {
    queue: Sender<Outgoing>,
    queued_bytes: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    /// Cancelled to make the writer finish what is queued and end.
    closing: CancellationToken,
    /// Cancelled by the writer when it has ended.
    ended: CancellationToken,
}

struct Outgoing {
    subject: Subject,
    envelope: Bytes,
}

impl Outbox {
    /// The most bytes queued.
    const MAX_BYTES: usize = 32 << 20;
    /// The most envelopes queued.
    const MAX_ENVELOPES: usize = 65_536;

    /// Starts the writer, which ends when the outbox is finished or `stop` is cancelled.
    pub(crate) fn start(
        client: Client,
        metrics: Arc<Metrics>,
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (queue, queued) = mpsc::channel(Self::MAX_ENVELOPES);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let [closing, ended] = [CancellationToken::new(), CancellationToken::new()];
        let writer = Writer {
            client,
            queued,
            queued_bytes: queued_bytes.clone(),
            metrics: metrics.clone(),
            closing: closing.clone(),
        };
        let ends = ended.clone().drop_guard();
        tracker.spawn(async move {
            let _ends = ends;
            stop.run_until_cancelled(writer.run()).await;
        });
        Self { queue, queued_bytes, metrics, closing, ended }
    }

    /// Queues an envelope, or drops it. After [`Outbox::finish`] it is dropped without being counted.
    pub(crate) fn send(&self, subject: Subject, envelope: Bytes) {
        let bytes = envelope.len();
        let before = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= Self::MAX_BYTES;
        if fits && self.queue.try_send(Outgoing { subject, envelope }).is_ok() {
            return;
        }
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if !self.closing.is_cancelled() {
            self.metrics.note(Trouble::OutboxFull);
        }
    }

    /// Takes no more, and waits until what is queued was handed to the connection.
    pub(crate) async fn finish(&self) {
        self.closing.cancel();
        self.ended.cancelled().await;
    }
}

struct Writer {
    client: Client,
    queued: Receiver<Outgoing>,
    queued_bytes: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    closing: CancellationToken,
}

impl Writer {
    async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                next = self.queued.recv() => match next {
                    Some(outgoing) => self.write(outgoing).await,
                    None => return,
                },
                // Then `recv` yields what is left, and in the end nothing.
                () = self.closing.cancelled(), if !self.queued.is_closed() => self.queued.close(),
            }
        }
    }

    async fn write(&self, Outgoing { subject, envelope }: Outgoing) {
        let bytes = envelope.len();
        let written = self.client.publish(subject, envelope).await;
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        match written.map_err(|error| error.kind()) {
            Ok(()) => self.metrics.outgoing.count(bytes),
            Err(PublishErrorKind::MaxPayloadExceeded) => {
                self.metrics.note(Trouble::PayloadTooLarge);
            }
            Err(PublishErrorKind::InvalidSubject | PublishErrorKind::Send) => {
                self.metrics.note(Trouble::Client);
            }
        }
    }
}
