use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tidewire_model::{Delivery, JoinId};
use tokio::sync::Notify;

/// Makes the two halves of a connection's bounded queue.
pub fn outbox(limits: QueueLimits) -> (Outbox, Inbox) {
    let shared = Arc::new(Shared { queue: Mutex::default(), filled: Notify::new(), limits });
    (Outbox(Arc::clone(&shared)), Inbox(shared))
}

/// The bound of a queue; whichever is reached first makes it full.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QueueLimits {
    pub deliveries: usize,
    pub bytes: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { deliveries: 1_024, bytes: 256 * 1_024 }
    }
}

/// The filling half: many may hold it, and none ever waits.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Shared>);

/// The emptying half: the connection's own.
#[derive(Debug)]
pub struct Inbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Notify,
    limits: QueueLimits,
}

#[derive(Debug, Default)]
struct Queue {
    deliveries: VecDeque<Delivery>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, delivery: Delivery) {
        self.bytes += delivery.weight();
        self.deliveries.push_back(delivery);
    }

    fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.deliveries.pop_front()?;
        self.bytes -= delivery.weight();
        Some(delivery)
    }

    fn is_full(&self, limits: QueueLimits) -> bool {
        self.deliveries.len() >= limits.deliveries || self.bytes >= limits.bytes
    }
}

impl Outbox {
    /// Queues a publication or a gap, or gives it back when the queue is full.
    pub fn offer(&self, delivery: Delivery) -> Result<(), Delivery> {
        let mut queue = self.0.queue.lock();
        if queue.is_full(self.0.limits) {
            return Err(delivery);
        }
        queue.push(delivery);
        drop(queue);
        self.0.filled.notify_one();
        Ok(())
    }

    /// Queues the answer to a join, even into a full queue: a connection waits for a bounded number
    /// of them, and each is bounded in size.
    pub fn answer(&self, delivery: Delivery) {
        self.0.queue.lock().push(delivery);
        self.0.filled.notify_one();
    }

    /// Queues the last thing that comes under `join`, even into a full queue: it comes once per
    /// join.
    pub fn lag(&self, join: JoinId) {
        self.answer(Delivery::Lagged { join });
    }
}

impl Inbox {
    /// Waits for deliveries and moves up to `most` of them to the end of `batch`.
    ///
    /// Cancel-safe: nothing is taken before it is moved.
    pub async fn take(&mut self, batch: &mut Vec<Delivery>, most: usize) {
        loop {
            if self.take_ready(batch, most) > 0 {
                return;
            }
            self.0.filled.notified().await;
        }
    }

    /// Moves up to `most` deliveries that are there already, and says how many.
    pub fn take_ready(&mut self, batch: &mut Vec<Delivery>, most: usize) -> usize {
        let mut queue = self.0.queue.lock();
        let before = batch.len();
        batch.extend(std::iter::from_fn(|| queue.pop()).take(most));
        batch.len() - before
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn lagged(join: u32) -> Delivery {
        Delivery::Lagged { join: JoinId(join) }
    }

    fn joins(batch: &[Delivery]) -> Vec<u32> {
        let join = |delivery: &Delivery| match delivery {
            Delivery::Lagged { join } => join.0,
            other => panic!("unexpected {other:?}"),
        };
        batch.iter().map(join).collect()
    }

    #[test]
    fn what_was_queued_comes_out_in_order_and_in_bounded_batches() {
        let (outbox, mut inbox) = outbox(QueueLimits::default());
        for join in 1..=3 {
            outbox.offer(lagged(join)).expect("room");
        }
        let mut batch = Vec::new();

        assert!(poll_once(inbox.take(&mut batch, 2)).is_ready());
        assert_eq!(joins(&batch), [1, 2]);
        assert_eq!(inbox.take_ready(&mut batch, 2), 1);
        assert!(poll_once(inbox.take(&mut batch, 2)).is_pending());
    }

    #[test]
    fn a_full_queue_gives_publications_back_but_takes_answers() {
        let (outbox, mut inbox) = outbox(QueueLimits { deliveries: 1, bytes: 1_000_000 });

        outbox.offer(lagged(1)).expect("room");
        assert!(outbox.offer(lagged(2)).is_err());
        outbox.lag(JoinId(3));

        let mut batch = Vec::new();
        inbox.take_ready(&mut batch, 10);
        assert_eq!(joins(&batch), [1, 3]);
        assert!(outbox.offer(lagged(4)).is_ok());
    }

    #[test]
    fn bytes_bound_a_queue_too() {
        let (outbox, _inbox) = outbox(QueueLimits { deliveries: 1_000, bytes: 100 });

        let accepted = (0..10).take_while(|&join| outbox.offer(lagged(join)).is_ok()).count();

        assert_eq!(accepted, 2);
    }
}
