use std::sync::Arc;

use tidewire_model::{Channel, Deltas, Envelope, Event, Gap, GapReason, JoinId, Position};

use super::Session;
use crate::subscription::State;
use crate::{Effect, Meeting, Outputs};

impl Session {
    /// Takes a run of consecutive publications, `first` to `last`, of one epoch, without a look at
    /// them: the way most publications go. It moves the position of a client in step past the run,
    /// so whoever asks must be able to send it.
    ///
    /// One subscription takes the same publications by this and by [`deliver`](Self::deliver).
    pub fn meet(&mut self, join: JoinId, first: Position, last: Position) -> Meeting {
        match self.subscriptions.live(join) {
            Some((_, live)) => live.meet(first, last),
            None => Meeting::Nothing,
        }
    }

    /// Takes a publication. It is dropped unless it belongs to a live join and comes after what the
    /// client has seen.
    pub fn deliver(&mut self, join: JoinId, envelope: Arc<Envelope>, out: &mut Outputs) {
        let Some((channel, live)) = self.subscriptions.live(join) else { return };
        match live.meet(envelope.position, envelope.position) {
            Meeting::InStep { deltas } => push_publication(channel, envelope, deltas, out),
            Meeting::Nothing => {}
            // The node keeps subscribers in step, so this is a mistake of ours; reading on from the
            // log mends it without the client noticing.
            Meeting::OutOfStep => self.catch_up(join, out),
        }
    }

    /// Takes notice of publications that will not come.
    pub fn gap(&mut self, join: JoinId, gap: Gap, out: &mut Outputs) {
        let Some((channel, live)) = self.subscriptions.live(join) else { return };
        if gap.reason == GapReason::Rewind && live.position.offset <= gap.position.offset {
            // The client never saw the lost tail, so there is nothing to take back.
            return;
        }
        live.position = gap.position;
        live.deltas = live.deltas.after_gap();
        out.events.push(Event::Gap { channel: channel.clone(), gap });
    }

    /// Leaves out what a live join has not been sent up to `position`, because its channel is sampled.
    /// Whoever was not told so once and for all is told each time, as by [`skip`](Self::skip); returns
    /// whether.
    pub fn sample(&mut self, join: JoinId, position: Position, out: &mut Outputs) -> bool {
        match self.subscriptions.live(join) {
            Some((_, live)) if live.is_sampled => {
                if position.offset > live.position.offset {
                    (live.position, live.deltas) = (position, live.deltas.after_gap());
                }
                false
            }
            _ => self.skip(join, position, out),
        }
    }

    /// Leaves out what a live join has not been sent up to `position`. If there is anything it is told,
    /// with how many offsets that is where the epoch is the same; returns whether.
    pub fn skip(&mut self, join: JoinId, position: Position, out: &mut Outputs) -> bool {
        let Some((_, live)) = self.subscriptions.live(join) else { return false };
        let seen = live.position;
        if position.offset <= seen.offset {
            return false;
        }
        let missed = (position.epoch == seen.epoch).then(|| position.offset - seen.offset);
        self.gap(join, Gap { reason: GapReason::Skipped, position, missed }, out);
        true
    }

    /// Takes notice that nothing more comes under a join, because this connection reads too slowly.
    pub fn lagged(&mut self, join: JoinId, out: &mut Outputs) {
        self.catch_up(join, out);
    }

    fn catch_up(&mut self, join: JoinId, out: &mut Outputs) {
        let Some(subscription) = self.subscriptions.of_join(join) else { return };
        let State::Live(live) = &subscription.state else { return };
        let channel = subscription.channel.clone();
        subscription.state = State::Pending(Box::new(live.pending()));
        out.effects.push(Effect::Leave { channel: channel.clone(), join });
        self.line_up(channel, out);
    }
}

/// Adds a publication to the last event if that is of the same channel, so that what gathered while
/// the connection was busy leaves as one batch.
fn push_publication(channel: &Channel, envelope: Arc<Envelope>, deltas: Deltas, out: &mut Outputs) {
    match out.events.last_mut() {
        Some(Event::Publications { channel: last, publications, .. }) if last == channel => {
            publications.push(envelope);
        }
        _ => {
            let (channel, publications) = (channel.clone(), vec![envelope]);
            out.events.push(Event::Publications { channel, publications, deltas });
        }
    }
}
