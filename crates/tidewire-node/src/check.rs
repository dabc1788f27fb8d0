//! Comparing positions with the log, so that a publication lost on its way is found even if nothing
//! follows it; and giving up channels nobody wants any more.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidewire_broker::{Head, LogError};
use tidewire_model::TenantChannel;
use tokio::time::Instant;

use crate::channel::ChannelState;
use crate::checks::Checks;
use crate::shard::{Done, Shard};

/// How long a channel nobody wants is followed on, so that a page that is loaded again costs the
/// broker and the log nothing.
const LINGER: Duration = Duration::from_secs(30);

impl Shard {
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.around.is_deaf.load(Ordering::Relaxed) {
            self.poll(now);
        }
        self.watch(now);
        self.compare_classes(now);
        self.bound_rings();
        self.check_due(now);
        self.tick_presence(now);
        self.forget_idle(now);
        self.paces.forget_idle(now);
        self.count_subscriptions();
        if let Some(gaps) = self.gap_warnings.overdue(now) {
            tracing::warn!(gaps, "gaps in channels");
        }
    }

    /// If memory has become short, or is not any more, has all channels remember less or more.
    fn bound_rings(&mut self) {
        let limits = self.around.rings.now();
        if self.checks.ring_limits.replace(limits).is_none_or(|before| before == limits) {
            return;
        }
        self.channels.values_mut().for_each(|state| state.feed.bound(limits));
    }

    fn count_subscriptions(&self) {
        let heard = self.channels.values().filter(|state| !state.audience.is_empty());
        let (channels, places) = heard.fold((0, 0), |(channels, places), state| {
            (channels + 1, places + state.audience.places())
        });
        self.around.metrics.subscriptions(channels, places);
    }

    /// Publications may have been lost: compares every channel, the liveliest first.
    pub(crate) fn check_all(&mut self, now: Instant) {
        if self.checks.may_hurry_all() {
            let channels = self.liveliest(usize::MAX);
            self.checks.hurry_all(&channels, now);
            self.desk.hurry(now);
        }
        self.check_due(now);
    }

    /// Has channels compared although nothing is amiss with them: the broker brings nothing. If there
    /// are more than may be asked about in a second, the liveliest are. A log that takes longer than
    /// that is not asked more.
    fn poll(&mut self, now: Instant) {
        if self.checks.is_behind(now) {
            return;
        }
        let channels = self.liveliest(self.around.polled_per_second);
        self.around.metrics.polled.increment(channels.len() as u64);
        self.checks.hurry(&channels, now);
    }

    /// The channels that something was delivered in last, the last first.
    fn liveliest(&self, most: usize) -> Vec<TenantChannel> {
        let compared = self.channels.iter().filter(|(_, state)| state.is_compared());
        let mut compared: Vec<_> = compared.collect();
        if compared.len() > most {
            compared.select_nth_unstable_by_key(most, |(_, state)| Reverse(state.active_at));
            compared.truncate(most);
        }
        // By name where nothing else tells them apart, so that two runs are alike.
        compared.sort_unstable_by(|(one, one_state), (other, other_state)| {
            other_state.active_at.cmp(&one_state.active_at).then_with(|| one.cmp(other))
        });
        compared.into_iter().map(|(channel, _)| channel.clone()).collect()
    }

    /// Compares what is due, one call for each part of the log, so that one in trouble holds up no
    /// other.
    pub(crate) fn check_due(&mut self, now: Instant) {
        let mut parts = BTreeMap::<u16, Vec<TenantChannel>>::new();
        for channel in self.checks.take(now) {
            match self.channels.get(&channel) {
                Some(state) if state.is_compared() => {
                    parts.entry(self.around.log.part_of(&channel)).or_default().push(channel);
                }
                followed => {
                    self.checks.done(1);
                    if followed.is_some() {
                        self.checks.give_turn(&channel, now);
                    }
                }
            }
        }
        for channels in parts.into_values() {
            channels.chunks(Checks::BATCH).for_each(|batch| self.ask_heads(batch.to_vec()));
        }
        if self.checks.take_suspicion() {
            self.check_all(now);
        }
    }

    fn ask_heads(&mut self, channels: Vec<TenantChannel>) {
        let log = Arc::clone(&self.around.log);
        self.running.push(Box::pin(async move {
            let outcome = log.heads(&channels).await;
            Done::Heads(channels, outcome)
        }));
    }

    pub(crate) fn finish_check(
        &mut self,
        channels: &[TenantChannel],
        outcome: Result<Vec<Head>, LogError>,
        now: Instant,
    ) {
        self.checks.done(channels.len());
        match outcome {
            Ok(heads) => {
                for (channel, head) in channels.iter().zip(heads) {
                    let Some(state) = self.channels.get_mut(channel) else { continue };
                    state.feed.observe(head.position, now);
                    self.checks.give_turn(channel, now);
                    self.settle(channel, now);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "cannot compare positions with the log");
                for channel in channels.iter().filter(|one| self.channels.contains_key(*one)) {
                    self.checks.step_aside(channel, now);
                }
            }
        }
        self.check_due(now);
    }

    fn forget_idle(&mut self, now: Instant) {
        let is_idle =
            |state: &ChannelState| state.idle_since.is_some_and(|since| since + LINGER <= now);
        let idle = self.channels.iter().filter(|(_, state)| is_idle(state));
        let mut idle: Vec<_> = idle.map(|(channel, _)| channel.clone()).collect();
        idle.sort_unstable();
        for channel in idle {
            match self.channels.get_mut(&channel) {
                Some(state) if state.is_wanted() => state.idle_since = None,
                _ => self.forget(&channel),
            }
        }
    }
}
