//! Channels that no log keeps: their publications go straight to the broker and to this node's own
//! subscribers, so that they need nothing but the network.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tidewire_broker::Appended;
use tidewire_model::{
    DeliveryClass, Envelope, Epoch, Incarnation, Position, Publication, Random, TenantChannel,
};
use tokio::time::Instant;

use crate::lane::Pending;
use crate::shard::Shard;

impl Shard {
    /// Takes a draft, by the way its channel's class goes, unless there are too many.
    pub(crate) fn accept(&mut self, channel: TenantChannel, pending: Pending, now: Instant) {
        let (class, pace) = self.rules.publishing(&channel);
        if let Some(pace) = pace {
            match self.paces.charge(&channel, pace, now) {
                Ok(true) => {}
                Ok(false) => self.around.metrics.unjudged.increment(1),
                Err(failure) => return pending.reply.send(Err(failure), now),
            }
        }
        match class {
            DeliveryClass::Recoverable | DeliveryClass::Durable => {
                self.publish(channel, pending, now);
            }
            DeliveryClass::Ephemeral => self.publish_fleeting(channel, pending, now),
        }
    }

    /// Answered once it is on its way: nothing more can be said of it.
    fn publish_fleeting(&mut self, channel: TenantChannel, pending: Pending, now: Instant) {
        let Pending { draft, reply } = pending;
        let (position, time_ms) = (Position::NONE, unix_ms());
        let publication = Publication {
            channel,
            position,
            id: draft.id,
            time_ms,
            publisher: draft.publisher,
            payload: draft.payload,
        };
        self.around.broker.publish(&publication);
        self.receive_fleeting(publication, now);
        reply.send(Ok(Appended { position, time_ms, duplicate: false }), now);
    }

    /// Takes a publication without a position.
    pub(crate) fn receive_fleeting(&mut self, publication: Publication, now: Instant) {
        if publication.channel.channel.is_reserved() {
            self.desk.hear(&publication);
        }
        let channel = publication.channel.clone();
        let Some(state) = self.channels.get_mut(&channel) else { return };
        if !state.feed.is_fleeting() {
            state.lose(now);
            self.around.metrics.misclassified.increment(1);
            return self.settle(&channel, now);
        }
        // Before the channel has begun nobody has joined it.
        let Some(publication) = state.feed.number(publication) else { return };
        state.feed.receive(Arc::new(Envelope::new(publication)), now, &mut self.steps);
        self.settle(&channel, now);
    }
}

/// An epoch of which nothing is meant but that no other is equal to it.
pub(crate) fn drawn_epoch(random: &Random) -> Epoch {
    let [life, nonces] = [random.draw(), random.draw()];
    let [high, low] = [nonces >> 32, nonces & u64::from(u32::MAX)];
    let nonce = |half: u64| u32::try_from(half).expect("32 bits");
    Incarnation::new(life, nonce(high)).epoch(nonce(low))
}

fn unix_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
