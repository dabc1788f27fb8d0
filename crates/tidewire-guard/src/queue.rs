//! The queue between the shards and a worker.

use std::hint::black_box;
use std::sync::Arc;

use tidewire_hub::{QueueLimits, outbox};
use tidewire_model::{Delivery, Envelope};

use crate::samples;

const DELIVERIES: u32 = 1_000;

pub(crate) fn offer_and_take(times: u32) {
    let (outbox, mut inbox) = outbox(QueueLimits::default());
    let envelope = Arc::new(Envelope::new(samples::publication(1)));
    let mut taken = Vec::new();
    for _ in 0..times {
        for _ in 0..DELIVERIES {
            let delivery = Delivery::Publication(Arc::clone(&envelope));
            assert!(outbox.offer(black_box(delivery)).is_ok(), "the queue has room");
        }
        inbox.take_ready(&mut taken, usize::MAX);
        black_box(&taken);
        taken.clear();
    }
}
