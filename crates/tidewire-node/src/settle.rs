//! What follows from anything that happens to a channel.

use std::sync::Arc;

use tidewire_broker::{LogError, Read};
use tidewire_model::{Envelope, TenantChannel};
use tokio::time::Instant;

use crate::feed::Step;
use crate::shard::{Done, PAGE, Shard};

impl Shard {
    pub(crate) fn receive(&mut self, envelope: &Arc<Envelope>, now: Instant) {
        let Some(state) = self.channels.get_mut(&envelope.channel) else { return };
        if state.feed.is_news(envelope.position) {
            self.around.log.hear_of(&envelope.channel, envelope.position.epoch.incarnation());
        }
        state.feed.receive(Arc::clone(envelope), now, &mut self.steps);
        self.settle(&envelope.channel, now);
    }

    /// Takes the answer to a feed's read.
    pub(crate) fn finish_read(
        &mut self,
        channel: &TenantChannel,
        outcome: Result<Read, LogError>,
        now: Instant,
    ) {
        let Some(state) = self.channels.get_mut(channel) else { return };
        match outcome {
            Ok(read) => {
                self.around.metrics.repair_reads.increment(1);
                state.feed.merge(read, now, &mut self.steps);
            }
            Err(error) => {
                tracing::debug!(%channel, %error, "cannot read the log to repair a channel");
                state.feed.read_failed(now);
            }
        }
        self.settle(channel, now);
    }

    /// Does what follows from a change of a channel: hands out what came of it, reads the log if
    /// that is due, brings in those who wait, and sets the alarm.
    pub(crate) fn settle(&mut self, channel: &TenantChannel, now: Instant) {
        let Some(state) = self.channels.get_mut(channel) else { return };
        self.steps.extend(state.due_loss(now).map(Step::Gap));
        for step in self.steps.drain(..) {
            match step {
                Step::Deliver(envelope) => {
                    state.active_at = now;
                    let recipients = state.audience.deliver(&envelope);
                    self.around.metrics.delivered(recipients);
                }
                Step::Gap(gap) => {
                    if let Some(gaps) = self.gap_warnings.count(now) {
                        let reason = gap.reason.as_str();
                        tracing::warn!(%channel, reason, gaps, "gap in a channel");
                    }
                    self.around.metrics.gaps.increment(1);
                    state.audience.deliver_gap(channel, gap);
                }
            }
        }
        if let Some(since) = state.feed.next_read(now) {
            let (log, repairs) = (Arc::clone(&self.around.log), Arc::clone(&self.around.repairs));
            let channel = channel.clone();
            self.running.push(Box::pin(async move {
                let _permit = repairs.acquire().await;
                let outcome = log.read(&channel, since, PAGE).await;
                Done::Read(channel, outcome)
            }));
        }
        if state.has_joiners() {
            self.advance_joins(channel, now);
            self.doubt_count(channel);
        }
        let Some(state) = self.channels.get_mut(channel) else { return };
        state.note_if_idle(now);
        self.alarms.set(channel, state.wake_at());
    }
}
