//! Publishing: drafts on their way to the log, in the channel's lane, and passing on what the log has
//! kept.

use std::sync::Arc;
use std::time::Duration;

use tidewire_broker::{Appended, Draft, LogError, Outcome};
use tidewire_model::{Envelope, Position, Publication, TenantChannel};
use tokio::time::Instant;

use crate::ask::Reply;
use crate::lane::{Batch, Lane, Pending};
use crate::publish::{failure, healing, not_begun};
use crate::shard::{Done, Shard};

/// Where a channel stood when it was last published to from here, and when that was.
pub(crate) struct Newest {
    position: Position,
    at: Instant,
}

/// How long after its last publication a channel's position is announced.
const QUIET_AFTER: Duration = Duration::from_millis(250);

impl Shard {
    pub(crate) fn publish(&mut self, channel: TenantChannel, pending: Pending, now: Instant) {
        let lane = self.lanes.entry(channel.clone()).or_default();
        if lane.is_stuck() {
            return pending.reply.send(Err(healing()), now);
        }
        lane.push(pending, now);
        if let Some(batch) = lane.next_batch() {
            self.append(channel, batch);
        }
    }

    fn append(&mut self, channel: TenantChannel, batch: Batch) {
        let (log, epoch) = (Arc::clone(&self.around.log), self.tail.confirmed(&channel));
        self.running.push(Box::pin(async move {
            let outcome = log.append_in(&channel, epoch, &batch.drafts).await;
            Done::Appended(channel, batch, outcome)
        }));
    }

    /// Passes an appended batch on, to this node's subscribers and to the others', and only then
    /// tells the publishers.
    pub(crate) fn finish_append(
        &mut self,
        channel: &TenantChannel,
        (batch, outcome): (Batch, Result<Outcome, LogError>),
        now: Instant,
    ) {
        let has_forked = match outcome {
            Ok(Outcome::Kept { appended, by }) => {
                let Batch { drafts, replies } = batch;
                let has_forked = self.remember(channel, (&drafts, &appended), now);
                self.pass_on(channel, drafts.into_iter().zip(&appended), now);
                let kept = replies.into_iter().zip(appended).collect();
                self.acknowledge(channel, (kept, by), now);
                has_forked
            }
            Ok(Outcome::Forked) => {
                if let Some(lane) = self.lanes.get_mut(channel) {
                    lane.put_back(batch);
                }
                true
            }
            Err(error) => {
                tracing::debug!(%channel, %error, "cannot append");
                self.refuse(channel, batch.replies, (&error, now));
                false
            }
        };
        let Some(lane) = self.lanes.get_mut(channel) else { return };
        lane.appended();
        if has_forked { self.begin_heal(channel) } else { self.append_next(channel) }
    }

    /// Appends what waits in a channel's lane, or gives the lane up.
    pub(crate) fn append_next(&mut self, channel: &TenantChannel) {
        match self.lanes.get_mut(channel).and_then(Lane::next_batch) {
            Some(batch) => self.append(channel.clone(), batch),
            None => drop(self.lanes.remove(channel)),
        }
    }

    /// Refuses a batch that failed, and all that waits behind it: were that appended next, it would
    /// overtake what its publisher is about to repeat.
    fn refuse(
        &mut self,
        channel: &TenantChannel,
        replies: Vec<Reply>,
        (error, now): (&LogError, Instant),
    ) {
        let failure = failure(error);
        for reply in replies {
            reply.send(Err(failure.clone()), now);
        }
        let waiting = self.lanes.get_mut(channel).map(Lane::clear).unwrap_or_default();
        for pending in waiting {
            pending.reply.send(Err(not_begun()), now);
        }
    }

    /// Hands a whole batch to the channel's feed before anything that follows from it is done: its
    /// publications reach each worker as one run.
    pub(crate) fn pass_on<'a>(
        &mut self,
        channel: &TenantChannel,
        batch: impl Iterator<Item = (Draft, &'a Appended)>,
        now: Instant,
    ) {
        let mut feed = self.channels.get_mut(channel).map(|state| &mut state.feed);
        let mut newest = None;
        for (draft, appended) in batch {
            if appended.duplicate {
                // The first attempt may have died between the log and the broker. Only its position
                // is passed on: this attempt's payload may differ from what the log has under it.
                if let Some(feed) = &mut feed {
                    feed.observe(appended.position, now);
                }
                self.around.broker.announce(channel, appended.position);
                continue;
            }
            let publication = publication(channel, draft, appended);
            self.around.broker.publish(&publication);
            if let Some(feed) = &mut feed {
                feed.receive(Arc::new(Envelope::new(publication)), now, &mut self.steps);
            }
            newest = Some(Newest { position: appended.position, at: now });
        }
        self.settle(channel, now);
        if let Some(newest) = newest {
            self.announce_later(channel, newest);
        }
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

fn publication(channel: &TenantChannel, draft: Draft, appended: &Appended) -> Publication {
    Publication {
        channel: channel.clone(),
        position: appended.position,
        id: draft.id,
        time_ms: appended.time_ms,
        publisher: draft.publisher,
        payload: draft.payload,
    }
}
