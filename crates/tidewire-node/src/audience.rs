//! Who on this node is handed a channel's publications.

use std::sync::Arc;

use tidewire_hub::Outbox;
use tidewire_model::{Delivery, Envelope, Gap, TenantChannel, Tenure};

/// The workers that follow a channel, one seat each, however many of their connections it is for.
#[derive(Debug, Default)]
pub(crate) struct Audience(Vec<Seat>);

/// A worker that follows the channel: everything the channel delivers has gone into its queue.
#[derive(Debug)]
struct Seat {
    outbox: Outbox,
    tenure: Tenure,
    /// Live answers that have not been given back. Never 0.
    places: u32,
}

/// The numbers of a shard's tenures.
#[derive(Debug, Default)]
pub(crate) struct Tenures(Tenure);

impl Tenures {
    fn next(&mut self) -> Tenure {
        // The one before the first is nobody's.
        self.0 = Tenure(self.0.0.wrapping_add(1).max(1));
        self.0
    }
}

impl Audience {
    /// Gives the worker of `outbox` one more place, and says under which tenure. The caller answers
    /// before anything else is delivered.
    pub(crate) fn admit(&mut self, outbox: Outbox, tenures: &mut Tenures) -> Tenure {
        if let Some(seat) = self.0.iter_mut().find(|seat| seat.outbox.is_same(&outbox)) {
            seat.places += 1;
            return seat.tenure;
        }
        let tenure = tenures.next();
        if self.0.is_empty() {
            // Most channels are followed by one worker, and a first push would make room for four.
            self.0.reserve_exact(1);
        }
        self.0.push(Seat { outbox, tenure, places: 1 });
        tenure
    }

    /// Takes back one place. Of a tenure that is over there is none left to take.
    pub(crate) fn release(&mut self, outbox: &Outbox, tenure: Tenure) {
        let is_it = |seat: &Seat| seat.tenure == tenure && seat.outbox.is_same(outbox);
        let Some(index) = self.0.iter().position(is_it) else { return };
        self.0[index].places -= 1;
        if self.0[index].places == 0 {
            self.0.swap_remove(index);
        }
    }

    /// Takes back all places of a worker, and says under which tenure it had them.
    pub(crate) fn dismiss(&mut self, outbox: &Outbox) -> Option<Tenure> {
        let index = self.0.iter().position(|seat| seat.outbox.is_same(outbox))?;
        Some(self.0.swap_remove(index).tenure)
    }

    /// Hands a publication to every worker, and says how many places it is for.
    pub(crate) fn deliver(&mut self, envelope: &Arc<Envelope>) -> usize {
        self.hand_out(&envelope.channel, || Delivery::Publication(Arc::clone(envelope)))
    }

    /// Tells every worker of a gap.
    pub(crate) fn deliver_gap(&mut self, channel: &TenantChannel, gap: Gap) {
        self.hand_out(channel, || Delivery::Gap { channel: channel.clone(), gap });
    }

    /// Puts a delivery into each worker's queue. One whose queue is full loses its seat, with a last
    /// word that tells it so.
    fn hand_out(&mut self, channel: &TenantChannel, delivery: impl Fn() -> Delivery) -> usize {
        let mut reached = 0;
        self.0.retain(|seat| {
            let is_in_step = seat.outbox.offer(delivery()).is_ok();
            if is_in_step {
                reached += seat.places as usize;
            } else {
                seat.outbox.lag(channel.clone(), seat.tenure);
            }
            is_in_step
        });
        reached
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Places, over all workers.
    pub(crate) fn places(&self) -> usize {
        self.0.iter().map(|seat| seat.places as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidewire_hub::{Inbox, QueueLimits, outbox};
    use tidewire_model::{Channel, GapReason, Incarnation, Payload, Position, Publication, Tenant};

    use super::*;

    #[test]
    fn a_worker_is_handed_a_publication_once_however_many_places_it_has() {
        let (mut audience, mut tenures) = (Audience::default(), Tenures::default());
        let (ours, mut our_inbox) = outbox(QueueLimits::default());
        let (theirs, mut their_inbox) = outbox(QueueLimits::default());
        let first = audience.admit(ours.clone(), &mut tenures);
        let second = audience.admit(ours, &mut tenures);
        let other = audience.admit(theirs, &mut tenures);

        let reached = audience.deliver(&publication(1));

        assert_eq!((reached, audience.places()), (3, 3));
        assert_eq!(first, second);
        assert_ne!(first, other);
        assert_eq!(taken(&mut our_inbox), ["1"]);
        assert_eq!(taken(&mut their_inbox), ["1"]);
    }

    #[test]
    fn a_worker_with_a_full_queue_loses_its_seat_and_is_told_once() {
        let (mut audience, mut tenures) = (Audience::default(), Tenures::default());
        let (slow, mut slow_inbox) = outbox(QueueLimits { deliveries: 2, bytes: 1_000_000 });
        let (quick, mut quick_inbox) = outbox(QueueLimits::default());
        audience.admit(slow.clone(), &mut tenures);
        audience.admit(slow, &mut tenures);
        audience.admit(quick, &mut tenures);

        let reached: Vec<_> =
            (1..=4).map(|offset| audience.deliver(&publication(offset))).collect();

        assert_eq!(reached, [3, 3, 1, 1]);
        assert_eq!(taken(&mut quick_inbox), ["1", "2", "3", "4"]);
        assert_eq!(taken(&mut slow_inbox), ["1", "2", "lagged 1"]);
        assert_eq!(audience.places(), 1);
    }

    #[test]
    fn a_gap_does_not_pass_a_full_queue_by() {
        let (mut audience, mut tenures) = (Audience::default(), Tenures::default());
        let (slow, mut inbox) = outbox(QueueLimits { deliveries: 1, bytes: 1_000_000 });
        audience.admit(slow, &mut tenures);
        let gap =
            |offset| Gap { reason: GapReason::Reset, position: position(offset), missed: None };

        audience.deliver_gap(&channel(), gap(7));
        audience.deliver_gap(&channel(), gap(8));

        assert_eq!(taken(&mut inbox), ["gap 7", "lagged 1"]);
        assert!(audience.is_empty());
    }

    #[test]
    fn the_last_place_that_is_given_back_ends_the_tenure() {
        let (mut audience, mut tenures) = (Audience::default(), Tenures::default());
        let (outbox, mut inbox) = outbox(QueueLimits::default());
        let first = audience.admit(outbox.clone(), &mut tenures);
        audience.admit(outbox.clone(), &mut tenures);

        audience.release(&outbox, first);
        assert_eq!((audience.places(), audience.is_empty()), (1, false));
        audience.release(&outbox, first);
        assert!(audience.is_empty());
        audience.deliver(&publication(1));
        let second = audience.admit(outbox, &mut tenures);

        assert_ne!(first, second);
        assert_eq!(taken(&mut inbox), [""; 0]);
    }

    #[test]
    fn a_place_of_an_earlier_tenure_or_of_another_worker_is_not_given_back() {
        let (mut audience, mut tenures) = (Audience::default(), Tenures::default());
        let (ours, mut inbox) = outbox(QueueLimits { deliveries: 1, bytes: 1_000_000 });
        let (theirs, _their_inbox) = outbox(QueueLimits::default());
        let voided = audience.admit(ours.clone(), &mut tenures);
        audience.deliver(&publication(1));
        audience.deliver(&publication(2));
        assert_eq!(taken(&mut inbox), ["1", "lagged 1"]);
        let tenure = audience.admit(ours.clone(), &mut tenures);

        audience.release(&ours, voided);
        audience.release(&theirs, tenure);

        assert_eq!((audience.places(), tenure), (1, Tenure(2)));
    }

    #[test]
    fn a_worker_that_gives_up_has_no_place_left_and_the_others_keep_theirs() {
        let (mut audience, mut tenures) = (Audience::default(), Tenures::default());
        let (ours, mut our_inbox) = outbox(QueueLimits::default());
        let (theirs, _their_inbox) = outbox(QueueLimits::default());
        let tenure = audience.admit(ours.clone(), &mut tenures);
        audience.admit(ours.clone(), &mut tenures);
        audience.admit(theirs, &mut tenures);

        assert_eq!(audience.dismiss(&ours), Some(tenure));
        assert_eq!(audience.dismiss(&ours), None);

        assert_eq!(audience.deliver(&publication(1)), 1);
        assert_eq!(taken(&mut our_inbox), [""; 0]);
        assert_ne!(audience.admit(ours, &mut tenures), tenure);
    }

    fn taken(inbox: &mut Inbox) -> Vec<String> {
        let mut batch = Vec::new();
        inbox.take_ready(&mut batch, usize::MAX);
        let text = |delivery: &Delivery| match delivery {
            Delivery::Publication(envelope) => envelope.position.offset.to_string(),
            Delivery::Gap { gap, .. } => format!("gap {}", gap.position.offset),
            Delivery::Lagged { tenure, .. } => format!("lagged {}", tenure.0),
            other => format!("{other:?}"),
        };
        batch.iter().map(text).collect()
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

    fn publication(offset: u64) -> Arc<Envelope> {
        Arc::new(Envelope::new(Publication {
            channel: channel(),
            position: position(offset),
            id: None,
            time_ms: 0,
            publisher: None,
            payload: Payload::binary(Bytes::new()),
        }))
    }
}
