use std::collections::HashMap;
use std::sync::Arc;

use tidewire_model::{ConnectionId, Delivery, Envelope, Gap, JoinId, TenantChannel};

use crate::Outbox;

/// The subscribers of a share of a node's channels.
///
/// A subscriber is on a channel's list exactly as long as it is in step with it: everything the
/// channel delivers has gone into its queue.
#[derive(Debug, Default)]
pub struct Hub {
    channels: HashMap<TenantChannel, Vec<Subscriber>>,
    subscriptions: usize,
}

/// A connection in step with a channel.
#[derive(Clone, Debug)]
pub struct Subscriber {
    pub connection: ConnectionId,
    pub join: JoinId,
    pub outbox: Outbox,
}

impl Subscriber {
    fn is(&self, connection: ConnectionId, join: JoinId) -> bool {
        self.connection == connection && self.join == join
    }
}

impl Hub {
    /// Puts a subscriber on a channel's list. The caller has brought it in step.
    pub fn add(&mut self, channel: &TenantChannel, subscriber: Subscriber) {
        self.subscriptions += 1;
        match self.channels.get_mut(channel) {
            Some(subscribers) => subscribers.push(subscriber),
            None => {
                self.channels.insert(channel.clone(), vec![subscriber]);
            }
        }
    }

    /// Takes a subscriber off; says whether it was on the list. Takes time linear in the number of
    /// the channel's subscribers.
    pub fn remove(
        &mut self,
        channel: &TenantChannel,
        connection: ConnectionId,
        join: JoinId,
    ) -> bool {
        let Some(subscribers) = self.channels.get_mut(channel) else { return false };
        let Some(index) = subscribers.iter().position(|s| s.is(connection, join)) else {
            return false;
        };
        subscribers.swap_remove(index);
        self.subscriptions -= 1;
        self.forget_if_empty(channel);
        true
    }

    /// Hands a publication to everybody on the list, and says to how many.
    pub fn deliver(&mut self, channel: &TenantChannel, envelope: &Arc<Envelope>) -> usize {
        self.hand_out(channel, |join| Delivery::Publication {
            join,
            envelope: Arc::clone(envelope),
        })
    }

    /// Tells everybody on the list of a gap, and says how many.
    pub fn deliver_gap(&mut self, channel: &TenantChannel, gap: Gap) -> usize {
        self.hand_out(channel, |join| Delivery::Gap { join, gap })
    }

    /// Pushes a delivery to each subscriber. One whose queue is full leaves the list with a last
    /// word that tells it so.
    fn hand_out(
        &mut self,
        channel: &TenantChannel,
        delivery: impl Fn(JoinId) -> Delivery,
    ) -> usize {
        let Some(subscribers) = self.channels.get_mut(channel) else { return 0 };
        let before = subscribers.len();
        subscribers.retain(|subscriber| {
            let in_step = subscriber.outbox.offer(delivery(subscriber.join)).is_ok();
            if !in_step {
                subscriber.outbox.lag(subscriber.join);
            }
            in_step
        });
        let reached = subscribers.len();
        self.subscriptions -= before - reached;
        self.forget_if_empty(channel);
        reached
    }

    fn forget_if_empty(&mut self, channel: &TenantChannel) {
        if self.channels.get(channel).is_some_and(Vec::is_empty) {
            self.channels.remove(channel);
        }
    }

    pub fn has_subscribers(&self, channel: &TenantChannel) -> bool {
        self.channels.contains_key(channel)
    }

    /// Channels with a subscriber in step.
    pub fn channels(&self) -> impl Iterator<Item = &TenantChannel> {
        self.channels.keys()
    }

    /// Subscribers in step, over all channels.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidewire_model::{Channel, Incarnation, Payload, Position, Publication, Tenant};

    use super::*;
    use crate::{Inbox, QueueLimits, outbox};

    #[test]
    fn a_publication_reaches_every_subscriber_of_its_channel_and_no_other() {
        let mut hub = Hub::default();
        let mut ann = subscribe(&mut hub, "a", 1, QueueLimits::default());
        let mut bob = subscribe(&mut hub, "a", 2, QueueLimits::default());
        let mut eve = subscribe(&mut hub, "b", 3, QueueLimits::default());

        let reached = hub.deliver(&channel("a"), &publication("a", 1));

        assert_eq!(reached, 2);
        assert_eq!((offsets(&mut ann), offsets(&mut bob)), (vec![1], vec![1]));
        assert_eq!(offsets(&mut eve), Vec::<u64>::new());
    }

    #[test]
    fn a_subscriber_with_a_full_queue_leaves_the_list_and_is_told_once() {
        let mut hub = Hub::default();
        let limits = QueueLimits { deliveries: 2, bytes: 1_000_000 };
        let mut slow = subscribe(&mut hub, "a", 1, limits);
        let mut quick = subscribe(&mut hub, "a", 2, QueueLimits::default());

        let reached: Vec<_> =
            (1..=4).map(|offset| hub.deliver(&channel("a"), &publication("a", offset))).collect();

        assert_eq!(reached, [2, 2, 1, 1]);
        assert_eq!(offsets(&mut quick), [1, 2, 3, 4]);
        let mut batch = Vec::new();
        slow.take_ready(&mut batch, 10);
        assert!(matches!(
            batch[..],
            [
                Delivery::Publication { .. },
                Delivery::Publication { .. },
                Delivery::Lagged { join: JoinId(1) }
            ]
        ));
        assert_eq!(hub.subscriptions(), 1);
    }

    #[test]
    fn leaving_takes_the_named_join_only() {
        let mut hub = Hub::default();
        let _ann = subscribe(&mut hub, "a", 1, QueueLimits::default());

        assert!(!hub.remove(&channel("a"), ConnectionId(1), JoinId(9)));
        assert!(hub.remove(&channel("a"), ConnectionId(1), JoinId(1)));
        assert!(!hub.has_subscribers(&channel("a")));
        assert_eq!(hub.subscriptions(), 0);
    }

    fn subscribe(hub: &mut Hub, name: &str, id: u32, limits: QueueLimits) -> Inbox {
        let (outbox, inbox) = outbox(limits);
        let connection = ConnectionId(u64::from(id));
        hub.add(&channel(name), Subscriber { connection, join: JoinId(id), outbox });
        inbox
    }

    fn channel(name: &str) -> TenantChannel {
        TenantChannel::new(
            Tenant::parse("acme").expect("tenant"),
            Channel::parse(name).expect("channel"),
        )
    }

    fn publication(name: &str, offset: u64) -> Arc<Envelope> {
        Arc::new(Envelope::new(Publication {
            channel: channel(name),
            position: Position::new(Incarnation::ZERO.epoch(0), offset),
            id: None,
            time_ms: 0,
            publisher: None,
            payload: Payload::binary(Bytes::new()),
        }))
    }

    fn offsets(inbox: &mut Inbox) -> Vec<u64> {
        let mut batch = Vec::new();
        inbox.take_ready(&mut batch, 100);
        let offset = |delivery: &Delivery| match delivery {
            Delivery::Publication { envelope, .. } => envelope.position.offset,
            other => panic!("unexpected {other:?}"),
        };
        batch.iter().map(offset).collect()
    }
}
