use std::collections::BTreeSet;

use tidewire_model::TenantChannel;
use tokio::time::Instant;

use crate::by_channel::ByChannel;

/// At most one alarm per channel.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Instant, TenantChannel)>,
    by_channel: ByChannel<Instant>,
}

impl Timers {
    /// Sets, moves or clears a channel's alarm.
    pub(crate) fn set(&mut self, channel: &TenantChannel, at: Option<Instant>) {
        if self.by_channel.get(channel).copied() == at {
            return;
        }
        if let Some(earlier) = self.by_channel.remove(channel) {
            self.by_time.remove(&(earlier, channel.clone()));
        }
        if let Some(at) = at {
            self.by_channel.insert(channel.clone(), at);
            self.by_time.insert((at, channel.clone()));
        }
    }

    pub(crate) fn has(&self, channel: &TenantChannel) -> bool {
        self.by_channel.contains_key(channel)
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// How many alarms are set.
    pub(crate) fn len(&self) -> usize {
        self.by_time.len()
    }

    /// Takes a channel whose alarm is due.
    pub(crate) fn due(&mut self, now: Instant) -> Option<TenantChannel> {
        if self.next()? > now {
            return None;
        }
        let (_, channel) = self.by_time.pop_first()?;
        self.by_channel.remove(&channel);
        Some(channel)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidewire_model::{Channel, Tenant};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_moved_alarm_rings_once_at_its_new_time() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::default();

        timers.set(&channel("a"), Some(after(1)));
        timers.set(&channel("b"), Some(after(2)));
        timers.set(&channel("a"), Some(after(3)));

        assert_eq!(timers.due(after(1)), None);
        assert_eq!(timers.due(after(3)), Some(channel("b")));
        assert_eq!(timers.due(after(3)), Some(channel("a")));
        assert_eq!(timers.next(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cleared_alarm_does_not_ring() {
        let now = Instant::now();
        let mut timers = Timers::default();

        timers.set(&channel("a"), Some(now));
        timers.set(&channel("a"), None);

        assert_eq!(timers.due(now), None);
    }

    fn channel(name: &str) -> TenantChannel {
        TenantChannel::new(
            Tenant::parse("acme").expect("tenant"),
            Channel::parse(name).expect("channel"),
        )
    }
}
