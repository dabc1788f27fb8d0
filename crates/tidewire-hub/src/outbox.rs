use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tidewire_model::{Delivery, TenantChannel, Tenure};
use tokio::sync::Notify;

/// Makes the two halves of a worker's bounded queue.
pub fn outbox(limits: QueueLimits) -> (Outbox, Inbox) {
    let shared = Arc::new(Shared { queue: Mutex::default(), filled: Notify::new(), limits });
    (Outbox(Arc::clone(&shared)), Inbox(shared))
}

/// The bound on the publications and gaps of a queue; whichever is reached first makes it full.
///
/// Answers and last words are bounded by what the worker has asked for, and do not count: a crowd
/// that comes back at once must not cost those who are there their places.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QueueLimits {
    pub deliveries: usize,
    pub bytes: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { deliveries: 16_384, bytes: 16 << 20 }
    }
}

/// The filling half: every shard has it that a worker has asked anything, and none ever waits.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Shared>);

/// The emptying half: the worker's own.
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
    /// How many of them are offers, and what those weigh.
    offers: usize,
    bytes: usize,
}

impl Queue {
    /// Says whether the queue was empty before.
    fn push(&mut self, delivery: Delivery) -> bool {
        let was_empty = self.deliveries.is_empty();
        if is_offer(&delivery) {
            self.offers += 1;
            self.bytes += delivery.weight();
        }
        self.deliveries.push_back(delivery);
        was_empty
    }

    fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.deliveries.pop_front()?;
        if is_offer(&delivery) {
            self.offers -= 1;
            self.bytes -= delivery.weight();
        }
        Some(delivery)
    }

    fn is_full(&self, limits: QueueLimits) -> bool {
        self.offers >= limits.deliveries || self.bytes >= limits.bytes
    }
}

fn is_offer(delivery: &Delivery) -> bool {
    matches!(delivery, Delivery::Publication(_) | Delivery::Gap { .. })
}

impl Outbox {
    /// Queues a publication or a gap, or gives it back when the queue is full.
    pub fn offer(&self, delivery: Delivery) -> Result<(), Delivery> {
        let mut queue = self.0.queue.lock();
        if queue.is_full(self.0.limits) {
            return Err(delivery);
        }
        let was_empty = queue.push(delivery);
        drop(queue);
        self.wake_if(was_empty);
        Ok(())
    }

    /// Queues the answer to a join or a publication, even into a full queue: a worker waits for no
    /// more of them than it has asked for, and each is bounded in size.
    pub fn answer(&self, delivery: Delivery) {
        let was_empty = self.0.queue.lock().push(delivery);
        self.wake_if(was_empty);
    }

    /// Queues the last word under a tenure, even into a full queue: it comes once per tenure, and a
    /// tenure begins with an answer.
    pub fn lag(&self, channel: TenantChannel, tenure: Tenure) {
        self.answer(Delivery::Lagged { channel, tenure });
    }

    /// Whether both belong to the same worker.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// One wake per burst: whoever filled an empty queue has seen to it, and a worker does not wait
    /// before it has found the queue empty again.
    fn wake_if(&self, was_empty: bool) {
        if was_empty {
            self.0.filled.notify_one();
        }
    }
}

impl Inbox {
    /// Waits until there is something to take. Cancel-safe; takes nothing.
    pub async fn filled(&self) {
        while self.0.queue.lock().deliveries.is_empty() {
            // What is pushed between the look and the wait leaves a permit behind.
            self.0.filled.notified().await;
        }
    }

    /// Moves up to `most` deliveries that are there already to the end of `batch`, and says how
    /// many.
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
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    use bytes::Bytes;
    use tidewire_model::{
        Channel, ConnectionId, Envelope, ErrorCode, Failure, Gap, GapReason, Incarnation, Payload,
        Position, Publication, RequestId, Tenant,
    };

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn is_filled(inbox: &Inbox) -> bool {
        pin!(inbox.filled()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn channel() -> TenantChannel {
        TenantChannel::new(
            Tenant::parse("acme").expect("tenant"),
            Channel::parse("news").expect("channel"),
        )
    }

    fn position(offset: u64) -> Position {
        Position::new(Incarnation::ZERO.epoch(0), offset)
    }

    fn publication(offset: u64) -> Delivery {
        Delivery::Publication(Arc::new(Envelope::new(Publication {
            channel: channel(),
            position: position(offset),
            id: None,
            time_ms: 0,
            publisher: None,
            payload: Payload::binary(Bytes::new()),
        })))
    }

    fn answer(request: u32) -> Delivery {
        Delivery::Published {
            connection: ConnectionId(1),
            request: RequestId(request),
            took: std::time::Duration::ZERO,
            outcome: Err(Failure::new(ErrorCode::Unavailable, "away")),
        }
    }

    /// A delivery of each kind by a number: offsets, requests and tenures.
    fn numbers(batch: &[Delivery]) -> Vec<u64> {
        let number = |delivery: &Delivery| match delivery {
            Delivery::Publication(envelope) => envelope.position.offset,
            Delivery::Gap { gap, .. } => gap.position.offset,
            Delivery::Published { request, .. } => u64::from(request.0),
            Delivery::Lagged { tenure, .. } => u64::from(tenure.0),
            Delivery::Told { connection, .. } => connection.0,
            Delivery::Joined { join, .. } => u64::from(join.0),
        };
        batch.iter().map(number).collect()
    }

    #[test]
    fn what_was_queued_comes_out_in_order_and_in_bounded_batches() {
        let (outbox, mut inbox) = outbox(QueueLimits::default());
        outbox.offer(publication(1)).expect("room");
        outbox.answer(answer(2));
        outbox.lag(channel(), Tenure(3));
        let mut batch = Vec::new();

        assert_eq!(inbox.take_ready(&mut batch, 2), 2);
        assert_eq!(numbers(&batch), [1, 2]);
        assert!(is_filled(&inbox), "a part that was left is there to take");
        assert_eq!(inbox.take_ready(&mut batch, 2), 1);
        assert_eq!(numbers(&batch), [1, 2, 3]);
        assert!(!is_filled(&inbox));
    }

    #[test]
    fn a_full_queue_gives_publications_and_gaps_back_but_takes_answers_and_last_words() {
        let (outbox, mut inbox) = outbox(QueueLimits { deliveries: 1, bytes: 1_000_000 });
        let gap = Gap { reason: GapReason::Reset, position: position(3), missed: None };

        outbox.offer(publication(1)).expect("room");
        assert!(outbox.offer(publication(2)).is_err());
        assert!(outbox.offer(Delivery::Gap { channel: channel(), gap }).is_err());
        outbox.answer(answer(4));
        outbox.lag(channel(), Tenure(5));

        let mut batch = Vec::new();
        inbox.take_ready(&mut batch, 10);
        assert_eq!(numbers(&batch), [1, 4, 5]);
        assert!(outbox.offer(publication(6)).is_ok());
    }

    #[test]
    fn answers_take_no_room_from_publications() {
        let (outbox, mut inbox) = outbox(QueueLimits { deliveries: 2, bytes: 300 });

        for request in 1..=50 {
            outbox.answer(answer(request));
        }
        let accepted = (1..=9).take_while(|&offset| outbox.offer(publication(offset)).is_ok());

        assert_eq!(accepted.count(), 2);
        let mut batch = Vec::new();
        assert_eq!(inbox.take_ready(&mut batch, usize::MAX), 52);
        assert!(outbox.offer(publication(3)).is_ok(), "nothing is counted that was taken");
    }

    #[test]
    fn bytes_bound_a_queue_too() {
        let (outbox, _inbox) = outbox(QueueLimits { deliveries: 1_000, bytes: 300 });

        let accepted =
            (0..10).take_while(|&offset| outbox.offer(publication(offset)).is_ok()).count();

        assert_eq!(accepted, 3);
    }

    #[test]
    fn a_burst_wakes_its_worker_once() {
        let (outbox, mut inbox) = outbox(QueueLimits::default());
        let count = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        let mut batch = Vec::new();

        for round in 1..=3 {
            {
                let mut filled = pin!(inbox.filled());
                assert_eq!(filled.as_mut().poll(&mut context), Poll::Pending, "round {round}");
                for offset in 1..=5 {
                    outbox.offer(publication(offset)).expect("room");
                    outbox.answer(answer(1));
                }
                assert_eq!(count.0.load(Ordering::Relaxed), round);
                assert_eq!(filled.as_mut().poll(&mut context), Poll::Ready(()));
            }
            inbox.take_ready(&mut batch, usize::MAX);
        }
    }

    #[test]
    fn a_wait_that_is_given_up_loses_no_wake() {
        let (outbox, mut inbox) = outbox(QueueLimits::default());
        let mut batch = Vec::new();

        assert!(!is_filled(&inbox));
        outbox.answer(answer(1));
        assert!(is_filled(&inbox));
        inbox.take_ready(&mut batch, 1);
        assert!(!is_filled(&inbox), "the permit of what was taken wakes nobody for nothing");
        outbox.answer(answer(2));

        assert!(is_filled(&inbox));
    }

    #[test]
    fn an_outbox_knows_its_own_kind() {
        let (ours, _our_inbox) = outbox(QueueLimits::default());
        let (theirs, _their_inbox) = outbox(QueueLimits::default());

        assert!(ours.is_same(&ours.clone()));
        assert!(!ours.is_same(&theirs));
    }

    #[test]
    fn a_worker_on_another_thread_misses_nothing() {
        const COUNT: u64 = 20_000;
        let (outbox, mut inbox) = outbox(QueueLimits::default());
        let fillers: Vec<_> = (0..2)
            .map(|_| {
                let outbox = outbox.clone();
                std::thread::spawn(move || (0..COUNT).for_each(|_| outbox.answer(answer(1))))
            })
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");

        let mut batch = Vec::new();
        let mut taken = 0;
        while taken < 2 * COUNT {
            runtime.block_on(inbox.filled());
            taken += inbox.take_ready(&mut batch, 7) as u64;
            batch.clear();
        }

        assert_eq!(taken, 2 * COUNT);
        for filler in fillers {
            filler.join().expect("it filled");
        }
    }
}
