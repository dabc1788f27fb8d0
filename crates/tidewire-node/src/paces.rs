//! How fast the channels of a shard are published to from this node.

use std::time::Duration;

use tidewire_model::{ErrorCode, Failure, Limit, Pace, TenantChannel, Turns};
use tokio::time::Instant;

use crate::by_channel::ByChannel;

/// What each channel has taken of its pace, for as long as that is not earned back.
#[derive(Debug)]
pub(crate) struct Paces {
    channels: ByChannel<Turns>,
    began: Instant,
}

/// Channels that are remembered at once. Whichever is published to when that many owe something is not
/// judged: its publications are still held to the rates of their connections and of the tenant.
const MOST: usize = 65_536;

impl Paces {
    pub(crate) fn new(now: Instant) -> Self {
        Self { channels: ByChannel::default(), began: now }
    }

    /// Charges a channel for a publication. Yields whether it was judged: there may be no room to
    /// remember it.
    ///
    /// # Errors
    ///
    /// If it is published to faster than it may be.
    pub(crate) fn charge(
        &mut self,
        channel: &TenantChannel,
        pace: Pace,
        now: Instant,
    ) -> Result<bool, Failure> {
        let now = now.saturating_duration_since(self.began);
        let is_full = self.channels.len() >= MOST;
        let taken = match self.channels.get_mut(channel) {
            Some(turns) => turns.take(pace, now),
            None if is_full => return Ok(false),
            None => self.channels.entry(channel.clone()).or_default().take(pace, now),
        };
        taken.map(|()| true).map_err(|wait| too_fast(pace, wait))
    }

    /// Forgets channels that owe nothing.
    pub(crate) fn forget_idle(&mut self, now: Instant) {
        let now = now.saturating_duration_since(self.began);
        self.channels.retain(|_, turns| !turns.is_clear(now));
    }
}

fn too_fast(pace: Pace, wait: Duration) -> Failure {
    let (most, wait_ms) = (pace.per_second, wait.as_millis().max(1));
    let message = format!(
        "a channel may be published to {most} times a second on one node: again in {wait_ms} ms"
    );
    let failure = Failure::new(ErrorCode::RateExceeded, message);
    failure.retry_after(wait).exceeding(Limit::ChannelPublishRate, most.into())
}

#[cfg(test)]
mod tests {
    use tidewire_model::{Channel, Tenant};

    use super::*;

    const PACE: Pace = Pace { per_second: 10, burst: 20 };

    fn channel(number: usize) -> TenantChannel {
        let tenant = Tenant::parse("acme").expect("tenant");
        TenantChannel::new(tenant, Channel::parse(&format!("room/{number}")).expect("channel"))
    }

    fn passing(paces: &mut Paces, number: usize, now: Instant) -> usize {
        let channel = channel(number);
        (0..50).filter(|_| paces.charge(&channel, PACE, now).is_ok()).count()
    }

    #[test]
    fn a_channel_that_is_published_to_too_fast_costs_no_other() {
        let now = Instant::now();
        let mut paces = Paces::new(now);

        assert_eq!(passing(&mut paces, 1, now), 20);
        assert_eq!(passing(&mut paces, 2, now), 20);
        assert_eq!(passing(&mut paces, 1, now + Duration::from_millis(99)), 0, "none overtakes");
        assert_eq!(passing(&mut paces, 1, now + Duration::from_secs(1)), 10);

        let refused = paces.charge(&channel(1), PACE, now + Duration::from_secs(1));
        let failure = refused.expect_err("no more");
        let exceeded = failure.exceeded.as_ref().expect("a limit");
        assert_eq!((exceeded.limit, exceeded.value), (Limit::ChannelPublishRate, 10));
        assert!(failure.retry_after.is_some());
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for_and_those_that_owe_nothing_make_some() {
        let now = Instant::now();
        let mut paces = Paces::new(now);
        for number in 0..MOST {
            assert_eq!(paces.charge(&channel(number), PACE, now), Ok(true));
        }

        assert_eq!(paces.charge(&channel(MOST), PACE, now), Ok(false), "let through");
        assert_eq!(paces.charge(&channel(1), PACE, now), Ok(true));
        assert_eq!(paces.channels.len(), MOST);
        paces.forget_idle(now + Duration::from_millis(150));

        assert_eq!(paces.channels.len(), 1, "that one owes two");
    }
}
