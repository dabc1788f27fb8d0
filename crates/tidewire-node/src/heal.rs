//! After a failover: finding out what the log has lost of what this node has acknowledged, and
//! appending it again before anything new.
//!
//! That there was a failover shows in two ways: a batch is not taken, because the channel is not in
//! the epoch that it was expected in; or the watch over the log's incarnation finds a newer one,
//! though nobody publishes. Either way the channel's lane heals until everything is there again.

use std::sync::Arc;
use std::time::Duration;

use tidewire_broker::{Appended, Draft, LogError, Outcome, Read};
use tidewire_model::{Incarnation, Since, TenantChannel};
use tokio::time::Instant;

use crate::lane::Lane;
use crate::publish::healing;
use crate::shard::{Done, Shard};
use crate::tail::{Acknowledged, Verdict};

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

impl Shard {
    /// Remembers what is about to be acknowledged. Whether it shows that the log has failed over:
    /// some of it is in another epoch than what was kept before.
    pub(crate) fn remember(
        &mut self,
        channel: &TenantChannel,
        (drafts, appended): (&[Draft], &[Appended]),
        now: Instant,
    ) -> bool {
        let confirmed = self.tail.confirmed(channel);
        for (draft, appended) in drafts.iter().zip(appended) {
            let acknowledged = Acknowledged::new(now, appended.position, draft.clone());
            self.tail.push(channel, acknowledged);
        }
        let is_elsewhere =
            |one: &Appended| !one.duplicate && confirmed.is_some_and(|e| e != one.position.epoch);
        appended.iter().any(is_elsewhere)
    }

    /// Has a channel's lane heal. One that appends finds out by itself that it has to.
    pub(crate) fn begin_heal(&mut self, channel: &TenantChannel) {
        if self.lanes.entry(channel.clone()).or_default().begin_heal() {
            self.around.metrics.forks.increment(1);
            self.compare(channel);
        }
    }

    /// Asks the log where its lives began and where it stands, which tells what it has lost.
    pub(crate) fn compare(&mut self, channel: &TenantChannel) {
        let (log, repairs) = (Arc::clone(&self.around.log), Arc::clone(&self.around.repairs));
        let channel = channel.clone();
        self.running.push(Box::pin(async move {
            let _permit = repairs.acquire().await;
            let outcome = log.read(&channel, Since::Now, 0).await;
            Done::Compared(channel, outcome)
        }));
    }

    pub(crate) fn finish_compare(
        &mut self,
        channel: &TenantChannel,
        outcome: Result<Read, LogError>,
        now: Instant,
    ) {
        let read = match outcome {
            Ok(read) => read,
            Err(error) => return self.heal_failed(channel, &error, now),
        };
        let Verdict { lost, unknown } = self.tail.judge(channel, &read);
        if unknown > 0 {
            tracing::warn!(%channel, unknown, "cannot tell what the log has lost");
            self.around.metrics.heals_abandoned.increment(unknown as u64);
        }
        if let Some(state) = self.channels.get_mut(channel) {
            state.feed.observe(read.top_position(), now);
            self.settle(channel, now);
        }
        let Some(heal) = self.lanes.get_mut(channel).and_then(Lane::heal) else { return };
        // What is found now was acknowledged before what is still to be brought back.
        lost.into_iter().rev().for_each(|one| heal.lost.push_front(one));
        self.append_lost(channel);
    }

    fn append_lost(&mut self, channel: &TenantChannel) {
        let Some(heal) = self.lanes.get_mut(channel).and_then(Lane::heal) else { return };
        let drafts = heal.next_batch();
        if drafts.is_empty() {
            return self.end_heal(channel);
        }
        let (log, epoch) = (Arc::clone(&self.around.log), self.tail.confirmed(channel));
        let channel = channel.clone();
        self.running.push(Box::pin(async move {
            let outcome = log.append_in(&channel, epoch, &drafts).await;
            Done::Healed(channel, drafts, outcome)
        }));
    }

    pub(crate) fn finish_heal(
        &mut self,
        channel: &TenantChannel,
        (drafts, outcome): (Vec<Draft>, Result<Outcome, LogError>),
        now: Instant,
    ) {
        let appended = match outcome {
            Ok(Outcome::Kept { appended, .. }) => appended,
            Ok(Outcome::Forked) => return self.compare(channel),
            Err(error) => return self.heal_failed(channel, &error, now),
        };
        let Some(heal) = self.lanes.get_mut(channel).and_then(Lane::heal) else { return };
        heal.failures = 0;
        heal.lost.drain(..drafts.len());
        let stored = appended.iter().filter(|one| !one.duplicate).count();
        self.around.metrics.healed.increment(stored as u64);
        self.remember(channel, (&drafts, &appended), now);
        self.pass_on(channel, drafts.into_iter().zip(&appended), now);
        self.append_lost(channel);
    }

    /// Tries again a little later, and refuses what waits meanwhile: it may not go first. What the
    /// log cannot read is given up, or its channel could never be published to again.
    fn heal_failed(&mut self, channel: &TenantChannel, error: &LogError, now: Instant) {
        tracing::debug!(%channel, %error, "cannot bring back what the log has lost");
        let Some(lane) = self.lanes.get_mut(channel) else { return };
        let Some(heal) = lane.heal() else { return };
        if matches!(error, LogError::Corrupt { .. }) {
            let given_up = std::mem::take(&mut heal.lost).len();
            self.around.metrics.heals_abandoned.increment(given_up as u64);
            return self.end_heal(channel);
        }
        let back_off = FIRST_BACKOFF * 2_u32.pow(heal.failures.min(6));
        heal.failures += 1;
        for pending in lane.clear() {
            pending.reply.send(Err(healing()), now);
        }
        self.heals.set(channel, Some(now + back_off.min(LONGEST_BACKOFF)));
    }

    fn end_heal(&mut self, channel: &TenantChannel) {
        let Some(lane) = self.lanes.get_mut(channel) else { return };
        lane.healed();
        self.append_next(channel);
    }

    /// Forgets what is old enough, and asks each part of the log that may yet lose something
    /// which life it is in.
    pub(crate) fn watch(&mut self, now: Instant) {
        self.tail.expire(now);
        self.around.metrics.tail(self.tail.bytes(), self.tail.reaches_back(now));
        for (part, channel) in self.tail.parts(|channel| self.around.log.part_of(channel)) {
            if !self.watching.insert(part) {
                continue;
            }
            let log = Arc::clone(&self.around.log);
            self.running.push(Box::pin(async move {
                Done::Watched(part, log.incarnation(&channel).await)
            }));
        }
    }

    pub(crate) fn finish_watch(
        &mut self,
        part: u16,
        outcome: Result<Incarnation, LogError>,
        now: Instant,
    ) {
        self.watching.remove(&part);
        let incarnation = match outcome {
            Ok(incarnation) => incarnation,
            Err(error) => {
                tracing::debug!(%error, "cannot ask the log which life it is in");
                self.has_missed_watch = true;
                return;
            }
        };
        let log = Arc::clone(&self.around.log);
        for channel in self.tail.older_than(incarnation, |channel| log.part_of(channel) == part) {
            self.begin_heal(&channel);
        }
        if std::mem::take(&mut self.has_missed_watch) {
            self.check_all(now);
        }
    }
}
