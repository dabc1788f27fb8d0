//! Comparing positions with the log, so that a publication lost on its way is found even if nothing
//! follows it; and giving up channels nobody wants any more.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidewire_broker::{Head, LogError};
use tidewire_model::TenantChannel;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::channel::ChannelState;
use crate::shard::{Done, Shard};

/// How often a channel is compared, give or take a fifth.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// When to try again what could not be compared.
const CHECK_RETRY: Duration = Duration::from_secs(2);
/// How many channels are compared in one call.
const CHECK_BATCH: usize = 200;
/// How long a channel nobody wants is followed on, so that a page that is loaded again costs the
/// broker and the log nothing.
const LINGER: Duration = Duration::from_secs(30);

impl Shard {
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.around.is_deaf.load(Ordering::Relaxed) {
            self.poll(now);
        }
        self.watch(now);
        self.check_due(now);
        self.forget_idle(now);
        self.count_subscriptions();
        if let Some(gaps) = self.gap_warnings.overdue(now) {
            tracing::warn!(gaps, "gaps in channels");
        }
    }

    fn count_subscriptions(&self) {
        let heard = self.channels.values().filter(|state| !state.audience.is_empty());
        let (channels, places) = heard.fold((0, 0), |(channels, places), state| {
            (channels + 1, places + state.audience.places())
        });
        self.around.metrics.subscriptions(channels, places);
    }

    /// Publications may have been lost: compares every channel, as quickly as the log answers.
    pub(crate) fn check_all(&mut self, now: Instant) {
        for state in self.channels.values_mut() {
            state.check_at = now;
        }
        self.check_due(now);
    }

    /// Has channels compared although nothing is amiss with them: the broker brings nothing. If there
    /// are more than may be asked about in a second, the liveliest come first.
    fn poll(&mut self, now: Instant) {
        let most = self.around.polled_per_second;
        let heard = self.channels.values_mut().filter(|state| state.is_compared());
        let mut states: Vec<_> = heard.collect();
        if states.len() > most {
            states.select_nth_unstable_by_key(most, |state| Reverse(state.active_at));
            states.truncate(most);
        }
        self.around.metrics.polled.increment(states.len() as u64);
        for state in states {
            state.check_at = state.check_at.min(now);
        }
    }

    /// Spreads the checks of channels by a fifth, differently each time, so that they do not come
    /// in waves.
    pub(crate) fn next_check(&mut self, channel: &TenantChannel, now: Instant) -> Instant {
        self.checks += 1;
        let spread = xxh3_64_with_seed(channel.channel.as_str().as_bytes(), self.checks) % 4_000;
        now + CHECK_EVERY * 4 / 5 + Duration::from_millis(spread)
    }

    /// Compares those that have been due the longest, as many as one call takes.
    fn check_due(&mut self, now: Instant) {
        if self.is_checking {
            return;
        }
        let is_due = |(_, state): &(&TenantChannel, &ChannelState)| {
            state.check_at <= now && state.is_compared()
        };
        let mut due: Vec<_> = self
            .channels
            .iter()
            .filter(is_due)
            .map(|(channel, state)| (state.check_at, channel))
            .collect();
        if due.is_empty() {
            return;
        }
        if due.len() > CHECK_BATCH {
            due.select_nth_unstable(CHECK_BATCH);
            due.truncate(CHECK_BATCH);
        }
        due.sort_unstable();
        let channels: Vec<_> = due.into_iter().map(|(_, channel)| channel.clone()).collect();
        self.is_checking = true;
        let log = Arc::clone(&self.around.log);
        self.running.push(Box::pin(async move {
            let outcome = log.heads(&channels).await;
            Done::Heads { channels, asked_at: now, outcome }
        }));
    }

    pub(crate) fn finish_check(
        &mut self,
        (channels, asked_at): (&[TenantChannel], Instant),
        outcome: Result<Vec<Head>, LogError>,
        now: Instant,
    ) {
        self.is_checking = false;
        let heads = match outcome {
            Ok(heads) => heads,
            Err(error) => {
                tracing::debug!(%error, "cannot compare positions with the log");
                return self.step_aside(channels, now);
            }
        };
        for (channel, head) in channels.iter().zip(heads) {
            let check_at = self.next_check(channel, now);
            let Some(state) = self.channels.get_mut(channel) else { continue };
            if state.check_at <= asked_at {
                state.check_at = check_at;
            }
            state.feed.observe(head.position, now);
            self.settle(channel, now);
        }
        self.check_due(now);
    }

    /// Lets other channels have their turn: what cannot be compared may be in a part of the log of
    /// its own.
    fn step_aside(&mut self, channels: &[TenantChannel], now: Instant) {
        for channel in channels {
            if let Some(state) = self.channels.get_mut(channel) {
                state.check_at = now + CHECK_RETRY;
            }
        }
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
