//! Publishing: drafts on their way to the log, in the channel's lane, and passing on what the log has
//! kept.

use std::sync::Arc;
use std::time::Duration;

use tidewire_broker::{Appended, LogError};
use tidewire_model::{Envelope, Position, Publication, TenantChannel};
use tokio::time::Instant;

use crate::lane::{Lane, Pending};
use crate::publish::{failure, not_begun};
use crate::shard::{Done, Shard};

/// Where a channel stood when it was last published to from here, and when that was.
pub(crate) struct Newest {
    position: Position,
    at: Instant,
}

/// How long after its last publication a channel's position is announced.
const QUIET_AFTER: Duration = Duration::from_millis(250);

impl Shard {
    pub(crate) fn publish(&mut self, channel: TenantChannel, pending: Pending) {
        self.lanes.entry(channel.clone()).or_default().push(pending);
        self.start_append(channel);
    }

    fn start_append(&mut self, channel: TenantChannel) {
        let Some(lane) = self.lanes.get_mut(&channel) else { return };
        let Some(batch) = lane.next_batch() else {
            if lane.is_idle() {
                self.lanes.remove(&channel);
            }
            return;
        };
        let log = Arc::clone(&self.around.log);
        self.running.push(Box::pin(async move {
            let drafts: Vec<_> = batch.iter().map(|pending| pending.draft.clone()).collect();
            let outcome = log.append(&channel, &drafts).await;
            Done::Appended(channel, batch, outcome)
        }));
    }

    /// Passes an appended batch on, to this node's subscribers and to the others', and only then
    /// tells the publishers.
    pub(crate) fn finish_append(
        &mut self,
        channel: TenantChannel,
        batch: Vec<Pending>,
        outcome: Result<Vec<Appended>, LogError>,
        now: Instant,
    ) {
        match outcome {
            Ok(appended) => {
                for (pending, appended) in batch.into_iter().zip(appended) {
                    self.pass_on(&channel, pending, appended, now);
                }
            }
            Err(error) => {
                tracing::debug!(%channel, %error, "cannot append");
                self.refuse(&channel, batch, &error);
            }
        }
        if let Some(lane) = self.lanes.get_mut(&channel) {
            lane.appended();
        }
        self.start_append(channel);
    }

    /// Refuses a batch that failed, and all that waits behind it: were that appended next, it would
    /// overtake what its publisher is about to repeat.
    fn refuse(&mut self, channel: &TenantChannel, batch: Vec<Pending>, error: &LogError) {
        let failure = failure(error);
        for pending in batch {
            pending.reply.send(Err(failure.clone()));
        }
        let waiting = self.lanes.get_mut(channel).map(Lane::clear).unwrap_or_default();
        for pending in waiting {
            pending.reply.send(Err(not_begun()));
        }
    }

    fn pass_on(
        &mut self,
        channel: &TenantChannel,
        pending: Pending,
        appended: Appended,
        now: Instant,
    ) {
        let Pending { draft, reply } = pending;
        if appended.duplicate {
            // The first attempt may have died between the log and the broker. Only its position is
            // passed on: this attempt's payload may differ from what the log has under it.
            if let Some(state) = self.channels.get_mut(channel) {
                state.feed.observe(appended.position, now);
                self.settle(channel, now);
            }
            self.around.broker.announce(channel, appended.position);
        } else {
            let publication = Publication {
                channel: channel.clone(),
                position: appended.position,
                id: draft.id,
                time_ms: appended.time_ms,
                publisher: draft.publisher,
                payload: draft.payload,
            };
            self.around.broker.publish(&publication);
            self.receive(&Arc::new(Envelope::new(publication)), now);
            self.announce_later(channel, Newest { position: appended.position, at: now });
        }
        reply.send(Ok(appended));
    }

    /// Has the position announced when nothing has followed for a while. A channel that is published
    /// to all the time moves no timer.
    fn announce_later(&mut self, channel: &TenantChannel, newest: Newest) {
        if let Some(earlier) = self.quiet.get_mut(channel) {
            *earlier = newest;
            return;
        }
        self.announcements.set(channel, Some(newest.at + QUIET_AFTER));
        self.quiet.insert(channel.clone(), newest);
    }

    /// Announces where a channel stands if it has been quiet long enough, or looks again when it may
    /// have been.
    pub(crate) fn announce_if_quiet(&mut self, channel: &TenantChannel, now: Instant) {
        let Some(newest) = self.quiet.get(channel) else { return };
        let due_at = newest.at + QUIET_AFTER;
        if due_at > now {
            return self.announcements.set(channel, Some(due_at));
        }
        self.around.broker.announce(channel, newest.position);
        self.quiet.remove(channel);
    }
}
