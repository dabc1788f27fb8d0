//! Which channels this node follows, and how many of each tenant's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidewire_broker::Partition;
use tidewire_model::{ErrorCode, Failure, Limit, Tenant, TenantChannel};
use tokio::time::Instant;

use crate::ask::Join;
use crate::channel::ChannelState;
use crate::shard::{Done, Shard};

/// How many channels of each tenant the shards of a node follow together: locked when a channel comes to
/// a node or leaves it, never for a publication.
#[derive(Debug, Default)]
pub(crate) struct Followed(Mutex<HashMap<Tenant, u32>>);

/// When who was refused a channel is to come back.
const FOLLOWS_AGAIN: Duration = Duration::from_secs(5);

impl Followed {
    /// Counts one more, if that is not more than `most`.
    ///
    /// # Errors
    ///
    /// If the tenant has as many.
    fn add(&self, tenant: &Tenant, most: Option<u32>) -> Result<(), Failure> {
        let mut followed = self.0.lock();
        let count = followed.get(tenant).copied().unwrap_or_default();
        if let Some(most) = most.filter(|most| count >= *most) {
            return Err(too_many(most));
        }
        followed.insert(tenant.clone(), count.saturating_add(1));
        Ok(())
    }

    fn remove(&self, tenant: &Tenant) {
        let mut followed = self.0.lock();
        let Some(count) = followed.get_mut(tenant) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            followed.remove(tenant);
        }
    }
}

fn too_many(most: u32) -> Failure {
    let wait_ms = FOLLOWS_AGAIN.as_millis();
    let message = format!(
        "the tenant may have {most} channels with subscribers on one node: again in {wait_ms} ms"
    );
    Failure::new(ErrorCode::QuotaExceeded, message)
        .retry_after(FOLLOWS_AGAIN)
        .exceeding(Limit::TenantChannels, most.into())
}

impl Shard {
    /// Begins to follow a channel for somebody, unless it is followed already.
    ///
    /// # Errors
    ///
    /// If the tenant has as many as it may, and this is for none that had it before.
    pub(crate) fn follow_for(&mut self, join: &Join, now: Instant) -> Result<(), Failure> {
        let channel = &join.channel;
        if self.channels.contains_key(channel) {
            return Ok(());
        }
        let most = self.rules.limits(&channel.tenant).followed.filter(|_| join.is_new);
        self.around.followed.add(&channel.tenant, most)?;
        self.follow(channel, now);
        Ok(())
    }

    fn follow(&mut self, channel: &TenantChannel, now: Instant) {
        let mut state = ChannelState::new(self.new_feed(channel), now);
        let partition = Partition::of(channel);
        if self.interest.add(&partition) {
            let broker = Arc::clone(&self.around.broker);
            self.running.push(Box::pin(async move {
                let outcome = broker.subscribe(&partition).await;
                Done::Subscribed(partition, outcome)
            }));
        } else if let Some(settled_at) = self.interest.settled_at(&partition) {
            state.feed.begin(settled_at, now);
        }
        if !state.feed.is_fleeting() {
            self.checks.give_turn(channel, now);
        }
        self.desk.follow(channel, now);
        self.count_if_ruled(channel, now);
        self.channels.insert(channel.clone(), state);
    }

    /// Ceases to follow a channel.
    pub(crate) fn forget(&mut self, channel: &TenantChannel) {
        if self.channels.remove(channel).is_some() {
            self.around.followed.remove(&channel.tenant);
        }
        self.alarms.set(channel, None);
        self.checks.forget(channel);
        self.desk.forget(channel);
        let partition = Partition::of(channel);
        if self.interest.remove(&partition) {
            self.around.broker.unsubscribe(&partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_as_many_as_it_may_and_another_is_not_asked() {
        let followed = Followed::default();
        let [acme, globex] = ["acme", "globex"].map(|name| Tenant::parse(name).expect("tenant"));

        assert_eq!(followed.add(&acme, Some(2)), Ok(()));
        assert_eq!(followed.add(&acme, None), Ok(()));
        let failure = followed.add(&acme, Some(2)).expect_err("two");
        assert_eq!(followed.add(&globex, Some(1)), Ok(()));
        assert_eq!(followed.add(&acme, None), Ok(()), "whoever had it before");
        followed.remove(&acme);
        followed.remove(&acme);
        assert_eq!(followed.add(&acme, Some(2)), Ok(()));

        let exceeded = failure.exceeded.as_ref().expect("a limit");
        assert_eq!((exceeded.limit, exceeded.value), (Limit::TenantChannels, 2));
        assert_eq!(failure.retry_after, Some(FOLLOWS_AGAIN));
    }

    #[test]
    fn nothing_is_kept_of_a_tenant_without_channels() {
        let followed = Followed::default();
        let acme = Tenant::parse("acme").expect("tenant");

        followed.add(&acme, None).expect("no bound");
        followed.remove(&acme);
        followed.remove(&acme);

        assert!(followed.0.lock().is_empty());
    }
}
