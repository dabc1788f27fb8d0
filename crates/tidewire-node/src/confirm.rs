//! Telling publishers that the log has kept what they published; in a durable channel, once it is
//! kept in other places too.
//!
//! Nobody but them waits for that: what is kept has been delivered, and the channel's next batch goes
//! to the log meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tidewire_broker::{Appended, LogError, Secured};
use tidewire_model::{DeliveryClass, Incarnation, TenantChannel};
use tokio::time::{Instant, timeout};

use crate::ask::Reply;
use crate::publish::not_copied;
use crate::shard::{Done, Shard};

/// The most publications of a shard that wait to be copied: those beyond are told at once that they
/// are not yet.
const MOST_UNCONFIRMED: usize = 16_384;

/// How long publishers wait for copies. The log asks on by itself, and others may be asking before.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the log has kept, and who waits to be told.
pub(crate) type Kept = Vec<(Reply, Appended)>;

impl Shard {
    /// Takes what the life `by` of the log has kept and what has been passed on.
    pub(crate) fn acknowledge(
        &mut self,
        channel: &TenantChannel,
        (kept, by): (Kept, Incarnation),
        now: Instant,
    ) {
        if self.rules.class(channel) != DeliveryClass::Durable {
            return answer(kept, now);
        }
        if self.unconfirmed + kept.len() > MOST_UNCONFIRMED {
            return self.withhold(kept, now);
        }
        self.unconfirmed += kept.len();
        let (log, channel) = (Arc::clone(&self.around.log), channel.clone());
        self.running.push(Box::pin(async move {
            let confirmed = timeout(PATIENCE, log.confirm(&channel, by)).await;
            let outcome = confirmed
                .unwrap_or_else(|_| Err(LogError::Timeout { address: "its replicas".into() }));
            Done::Confirmed(channel, kept, outcome)
        }));
    }

    pub(crate) fn finish_confirm(
        &mut self,
        channel: &TenantChannel,
        (kept, outcome): (Kept, Result<Secured, LogError>),
        now: Instant,
    ) {
        self.unconfirmed -= kept.len();
        match outcome {
            Ok(Secured::Alone | Secured::Copied { .. }) => answer(kept, now),
            Ok(Secured::Behind { wanted, reached }) => {
                tracing::debug!(%channel, wanted, reached, "too few copies to acknowledge");
                self.withhold(kept, now);
            }
            Err(error) => {
                tracing::debug!(%channel, %error, "cannot ask for copies");
                self.withhold(kept, now);
            }
        }
    }

    fn withhold(&self, kept: Kept, now: Instant) {
        self.around.metrics.uncertain.increment(kept.len() as u64);
        for (reply, _) in kept {
            reply.send(Err(not_copied()), now);
        }
    }
}

fn answer(kept: Kept, now: Instant) {
    for (reply, appended) in kept {
        reply.send(Ok(appended), now);
    }
}
