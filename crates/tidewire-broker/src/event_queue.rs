use std::collections::VecDeque;

use tokio::sync::mpsc::{self, OwnedPermit, Receiver, Sender};

use crate::BrokerEvent;

/// What stands behind [`Broker::events`](crate::Broker::events): a queue bounded in events and in
/// bytes that never waits and never loses anything silently.
///
/// What does not fit is dropped. One place is set aside for a [`BrokerEvent::Suspect`], which is put
/// there at the first drop: whoever reaches it knows that something before or after it is missing.
/// While it has not been taken out, further drops need no second one, because a `Suspect` stands for
/// everything lost until the moment it is acted on.
#[derive(Debug)]
pub struct EventQueue {
    sender: Sender<BrokerEvent>,
    suspect_place: Option<OwnedPermit<BrokerEvent>>,
    /// The weight of each queued event, oldest first, and of some that were taken out already.
    weights: VecDeque<usize>,
    bytes: usize,
    max_bytes: usize,
}

impl EventQueue {
    /// The bound in bytes that goes with a real network: 64 MiB.
    pub const MAX_BYTES: usize = 64 << 20;
    /// The bound in events that goes with a real network.
    pub const MAX_EVENTS: usize = 65_536;

    /// A queue of at most `max_events` events, besides a `Suspect`, of at most `max_bytes` together.
    ///
    /// # Panics
    ///
    /// If `max_events` is 0.
    pub fn new(max_events: usize, max_bytes: usize) -> (Self, Receiver<BrokerEvent>) {
        assert!(max_events > 0, "a queue has room for at least one event");
        let (sender, receiver) = mpsc::channel(max_events + 1);
        let suspect_place = sender.clone().try_reserve_owned().ok();
        let weights = VecDeque::new();
        (Self { sender, suspect_place, weights, bytes: 0, max_bytes }, receiver)
    }

    /// Appends an event, or drops it and makes sure that a `Suspect` is queued. False if dropped.
    ///
    /// Once the receiver is gone nobody misses anything, and nothing counts as dropped.
    pub fn push(&mut self, event: BrokerEvent) -> bool {
        if self.sender.is_closed() {
            return true;
        }
        self.set_place_aside();
        self.forget_taken();
        let weight = event.weight();
        if self.bytes + weight > self.max_bytes || self.sender.try_send(event).is_err() {
            self.suspect();
            return false;
        }
        self.bytes += weight;
        self.weights.push_back(weight);
        true
    }

    /// Queues a `Suspect`, unless one is waiting at the end already.
    pub fn suspect(&mut self) {
        self.set_place_aside();
        self.forget_taken();
        if self.weights.back() == Some(&SUSPECT_WEIGHT) {
            return;
        }
        // No place means that the queue has been full since the last `Suspect`, which therefore
        // still waits at its end.
        let Some(place) = self.suspect_place.take() else { return };
        place.send(BrokerEvent::Suspect);
        self.weights.push_back(SUSPECT_WEIGHT);
    }

    fn set_place_aside(&mut self) {
        if self.suspect_place.is_none() {
            self.suspect_place = self.sender.clone().try_reserve_owned().ok();
        }
    }

    fn forget_taken(&mut self) {
        let taken_places = self.sender.max_capacity() - self.sender.capacity();
        let queued = taken_places - usize::from(self.suspect_place.is_some());
        let gone = self.weights.len().saturating_sub(queued);
        self.bytes -= self.weights.drain(..gone).sum::<usize>();
    }
}

impl BrokerEvent {
    /// What it takes in a queue, in bytes: the payload and a fixed allowance for everything else.
    fn weight(&self) -> usize {
        const ALLOWANCE: usize = 256;
        match self {
            Self::Publication(publication) => publication.payload.len() + ALLOWANCE,
            Self::Announcement { .. } | Self::Notice(_) | Self::Heard(_) => ALLOWANCE,
            Self::Suspect => SUSPECT_WEIGHT,
        }
    }
}

/// Nothing else weighs so little.
const SUSPECT_WEIGHT: usize = 0;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidewire_model::{
        Channel, Incarnation, Payload, Position, Publication, Tenant, TenantChannel,
    };

    use super::*;

    #[test]
    fn what_fits_is_queued_and_the_first_drop_is_followed_by_one_suspect() {
        let (mut queue, mut receiver) = EventQueue::new(2, usize::MAX);

        let taken = [1, 2, 3, 4].map(|offset| queue.push(event(offset, 0)));

        assert_eq!(taken, [true, true, false, false]);
        assert_eq!(drain(&mut receiver), ["1", "2", "suspect"]);
    }

    #[test]
    fn each_break_has_its_own_suspect() {
        let (mut queue, mut receiver) = EventQueue::new(1, usize::MAX);
        queue.push(event(1, 0));
        queue.push(event(2, 0));
        assert_eq!(drain(&mut receiver), ["1", "suspect"]);

        queue.push(event(3, 0));
        queue.push(event(4, 0));

        assert_eq!(drain(&mut receiver), ["3", "suspect"]);
    }

    #[test]
    fn a_drop_while_a_suspect_waits_needs_no_second_one() {
        let (mut queue, mut receiver) = EventQueue::new(2, usize::MAX);
        for offset in 1..=3 {
            queue.push(event(offset, 0));
        }
        assert_eq!(receiver.try_recv(), Ok(event(1, 0)));

        // The one free place is set aside for the next break.
        assert!(!queue.push(event(4, 0)));

        assert_eq!(drain(&mut receiver), ["2", "suspect"]);
    }

    #[test]
    fn bytes_are_bounded_and_given_back_when_an_event_is_taken() {
        let (mut queue, mut receiver) = EventQueue::new(100, 2_000);
        assert!(queue.push(event(1, 1_000)));
        assert!(!queue.push(event(2, 1_000)));
        assert_eq!(drain(&mut receiver), ["1", "suspect"]);

        assert!(queue.push(event(3, 1_000)));

        assert_eq!(drain(&mut receiver), ["3"]);
    }

    #[test]
    fn asking_for_suspects_in_an_unread_queue_does_not_fill_it() {
        let (mut queue, mut receiver) = EventQueue::new(100, usize::MAX);
        queue.push(event(1, 0));

        for _ in 0..10 {
            queue.suspect();
        }

        assert_eq!(drain(&mut receiver), ["1", "suspect"]);
    }

    #[test]
    fn without_a_receiver_nothing_counts_as_dropped() {
        let (mut queue, receiver) = EventQueue::new(1, usize::MAX);
        drop(receiver);

        assert!(queue.push(event(1, 0)));
        assert!(queue.push(event(2, 0)));
    }

    fn drain(receiver: &mut Receiver<BrokerEvent>) -> Vec<String> {
        std::iter::from_fn(|| receiver.try_recv().ok())
            .map(|event| match event {
                BrokerEvent::Publication(publication) => publication.position.offset.to_string(),
                BrokerEvent::Suspect => "suspect".into(),
                other => panic!("unexpected {other:?}"),
            })
            .collect()
    }

    fn event(offset: u64, bytes: usize) -> BrokerEvent {
        let tenant = Tenant::parse("acme").expect("valid");
        let channel = Channel::parse("room").expect("valid");
        BrokerEvent::Publication(Publication {
            channel: TenantChannel::new(tenant, channel),
            position: Position::new(Incarnation::ZERO.epoch(0), offset),
            id: None,
            time_ms: 0,
            publisher: None,
            payload: Payload::binary(Bytes::from(vec![0; bytes])),
        })
    }
}
