//! Which channels to compare with the log next, as a value: each in its turn every ten seconds or so,
//! all of them soon when publications may have been lost, some of them each second while the broker
//! brings nothing.

use std::collections::VecDeque;
use std::time::Duration;

use tidewire_model::TenantChannel;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::ring::RingLimits;
use crate::timers::Timers;

#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// When each channel has its turn. One that is being compared has none.
    turns: Timers,
    /// What is compared out of turn, in the order of when that may begin.
    hurried: VecDeque<(Instant, Vec<TenantChannel>)>,
    /// Something may have been lost since all were hurried that have not been compared yet.
    is_suspect_again: bool,
    /// How many are being compared.
    under_way: usize,
    /// Counts turns, to vary their time.
    turns_given: u64,
    /// What channels remember, as it was when it was looked at.
    pub(crate) ring_limits: Option<RingLimits>,
}

impl Checks {
    /// The most channels compared at once.
    const MOST_UNDER_WAY: usize = 1_600;
    /// The most channels of one call.
    pub(crate) const BATCH: usize = 200;
    /// How long comparing all channels may take, so that thousands of them are no blow to the log.
    const SPREAD: Duration = Duration::from_secs(2);

    /// How often a channel is compared, give or take a fifth.
    const EVERY: Duration = Duration::from_secs(10);
    /// When to try again what could not be compared.
    const RETRY: Duration = Duration::from_secs(2);

    /// Gives a channel its next turn. Turns are spread by a fifth, differently each time, so that they
    /// do not come in waves.
    pub(crate) fn give_turn(&mut self, channel: &TenantChannel, now: Instant) {
        self.turns_given += 1;
        let name = channel.channel.as_str().as_bytes();
        let spread = xxh3_64_with_seed(name, self.turns_given) % 4_000;
        let at = now + Self::EVERY * 4 / 5 + Duration::from_millis(spread);
        self.turns.set(channel, Some(at));
    }

    /// Lets others have their turn before a channel that could not be compared: it may be in a part
    /// of the log of its own.
    pub(crate) fn step_aside(&mut self, channel: &TenantChannel, now: Instant) {
        self.turns.set(channel, Some(now + Self::RETRY));
    }

    /// Gives a channel no more turns.
    pub(crate) fn forget(&mut self, channel: &TenantChannel) {
        self.turns.set(channel, None);
    }

    /// Whether all channels may be hurried now. If not, it is to be done once those that were hurried
    /// earlier have been compared: none of them is put off for it.
    pub(crate) fn may_hurry_all(&mut self) -> bool {
        self.is_suspect_again = !self.hurried.is_empty();
        !self.is_suspect_again
    }

    /// Has channels compared out of turn, in their order: two hundred at once, and the others spread
    /// over two seconds.
    pub(crate) fn hurry_all(&mut self, channels: &[TenantChannel], now: Instant) {
        let batches = u32::try_from(channels.len().div_ceil(Self::BATCH)).unwrap_or(u32::MAX);
        for (index, batch) in (0..).zip(channels.chunks(Self::BATCH)) {
            let begin = now + Self::SPREAD * index / batches;
            self.hurried.push_back((begin, batch.to_vec()));
        }
    }

    /// Whether what was hurried earlier still waits, although it may begin.
    pub(crate) fn is_behind(&self, now: Instant) -> bool {
        self.hurried.front().is_some_and(|(begin, _)| *begin <= now)
    }

    /// Has channels compared at once.
    pub(crate) fn hurry(&mut self, channels: &[TenantChannel], now: Instant) {
        for batch in channels.chunks(Self::BATCH).rev() {
            self.hurried.push_front((now, batch.to_vec()));
        }
    }

    /// Takes what is to be compared now, as much as may be under way. Each is to be given back by
    /// [`Checks::done`], and given its next turn.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<TenantChannel> {
        let mut taken = Vec::new();
        while self.under_way + taken.len() + Self::BATCH <= Self::MOST_UNDER_WAY {
            match self.hurried.pop_front_if(|(begin, _)| *begin <= now) {
                Some((_, batch)) => taken.extend(batch),
                None => break,
            }
        }
        while self.under_way + taken.len() < Self::MOST_UNDER_WAY {
            match self.turns.due(now) {
                Some(channel) => taken.push(channel),
                None => break,
            }
        }
        self.under_way += taken.len();
        taken
    }

    pub(crate) fn done(&mut self, count: usize) {
        self.under_way -= count;
    }

    /// Whether all channels are to be hurried once more, now that there is nothing before them.
    pub(crate) fn take_suspicion(&mut self) -> bool {
        self.hurried.is_empty() && std::mem::take(&mut self.is_suspect_again)
    }

    /// When there is something to [`Checks::take`] out of turn; `None` while as much is under way as
    /// may be.
    pub(crate) fn next(&self) -> Option<Instant> {
        let has_room = self.under_way + Self::BATCH <= Self::MOST_UNDER_WAY;
        self.hurried.front().filter(|_| has_room).map(|(begin, _)| *begin)
    }
}

#[cfg(test)]
mod tests {
    use tidewire_model::{Channel, Tenant};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_few_hurried_channels_are_compared_at_once_and_many_over_two_seconds() {
        let now = Instant::now();
        let mut checks = Checks::default();

        checks.hurry_all(&channels(200), now);
        assert_eq!(checks.take(now).len(), 200);
        checks.done(200);
        checks.hurry_all(&channels(1_000), now);

        let mut taken = Vec::new();
        for tenth in 0..20_u32 {
            let count = checks.take(now + Duration::from_millis(100) * tenth).len();
            checks.done(count);
            taken.push(count);
        }
        assert_eq!(taken.iter().sum::<usize>(), 1_000);
        assert_eq!(taken.iter().filter(|count| **count == 200).count(), 5, "{taken:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_suspicion_postpones_nobody_and_is_not_forgotten() {
        let now = Instant::now();
        let mut checks = Checks::default();
        assert!(checks.may_hurry_all());
        checks.hurry_all(&channels(1_000), now);
        let last = now + Checks::SPREAD * 4 / 5;

        assert!(!checks.may_hurry_all());
        assert!(!checks.take_suspicion(), "the first has not been through yet");

        assert_eq!(checks.take(last).len(), 1_000);
        assert!(checks.take_suspicion());
        assert!(!checks.take_suspicion());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_under_way_than_may_be() {
        let (mut checks, now) = (Checks::default(), Instant::now() + Checks::RETRY);
        for channel in channels(3_000) {
            checks.step_aside(&channel, now - Checks::RETRY);
        }

        assert_eq!(checks.take(now).len(), Checks::MOST_UNDER_WAY);
        assert_eq!(checks.take(now).len(), 0);
        checks.hurry(&channels(10), now);
        assert_eq!(checks.next(), None, "there is no room to wake up for");
        checks.done(Checks::BATCH);
        assert_eq!(checks.next(), Some(now));
        assert_eq!(checks.take(now).len(), Checks::BATCH, "what is hurried, and what is due");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_polled_does_not_wait_behind_what_is_spread() {
        let now = Instant::now();
        let mut checks = Checks::default();
        checks.hurry_all(&channels(400), now);
        assert_eq!(checks.take(now).len(), 200);
        checks.done(200);

        checks.hurry(&channels(3), now);

        assert_eq!(checks.take(now).len(), 3);
    }

    fn channels(count: usize) -> Vec<TenantChannel> {
        let tenant = Tenant::parse("acme").expect("tenant");
        let channel = |index| Channel::parse(&format!("room/{index:04}")).expect("channel");
        (0..count).map(|index| TenantChannel::new(tenant.clone(), channel(index))).collect()
    }
}
