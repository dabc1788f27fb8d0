//! What tenants keep in a cluster: counted in each partition by the function that appends there, and
//! asked for now and then by whoever appends somewhere else.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tidewire_model::Tenant;
use tokio::time::{Instant, timeout};

use crate::connection::RedisConnection;
use crate::error::CallError;
use crate::library::Function;
use crate::partition::Partition;
use crate::reply::unexpected;

/// What each tenant kept in each partition when that was last asked for. A tenant may keep more than its
/// bound by what it publishes to other partitions until that is known here.
#[derive(Debug, Default)]
pub(super) struct KeptBytes(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// When it is to be asked for; whoever comes then first does.
    due: Option<Instant>,
    /// The partition to begin with.
    first: u16,
    bytes: HashMap<Tenant, HashMap<Partition, u64>>,
}

/// How old what is known may be.
const EVERY: Duration = Duration::from_secs(5);
/// Partitions that are asked at once.
const AT_ONCE: usize = 32;
/// How long whoever asks waits for the answers: its publications are held up meanwhile.
const ASKED_FOR: Duration = Duration::from_millis(250);
/// By how many partitions the next asking begins later, if this one was not done: as it is odd, it comes to
/// begin with each.
const FURTHER: u16 = 101;

impl KeptBytes {
    /// What a tenant keeps in all partitions but one.
    pub(super) async fn elsewhere(
        &self,
        connection: &RedisConnection,
        tenant: &Tenant,
        partition: Partition,
    ) -> u64 {
        if self.0.lock().is_due(Instant::now()) {
            self.ask(connection).await;
        }
        let known = self.0.lock();
        let parts = known.bytes.get(tenant).into_iter().flatten();
        parts.filter(|(part, _)| **part != partition).map(|(_, bytes)| bytes).sum()
    }

    /// Partitions that do not answer in time are taken for what they were, and others are asked first
    /// the next time.
    async fn ask(&self, connection: &RedisConnection) {
        let first = self.0.lock().first;
        let partitions = (first..Partition::COUNT).chain(0..first).map(Partition::at);
        let mut answers = stream::iter(partitions)
            .map(|partition| async move { (partition, kept_in(connection, partition).await) })
            .buffer_unordered(AT_ONCE);
        let asking = async {
            while let Some((partition, answer)) = answers.next().await {
                match answer {
                    Ok(bytes) => self.0.lock().set(partition, bytes),
                    Err(error) => tracing::debug!(%error, "cannot ask what tenants keep"),
                }
            }
        };
        if timeout(ASKED_FOR, asking).await.is_err() {
            self.0.lock().first = (first + FURTHER) % Partition::COUNT;
        }
    }
}

impl Known {
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_none_or(|due| due <= now);
        if is_due {
            self.due = Some(now + EVERY);
        }
        is_due
    }

    fn set(&mut self, partition: Partition, bytes: HashMap<Tenant, u64>) {
        for parts in self.bytes.values_mut() {
            parts.remove(&partition);
        }
        for (tenant, bytes) in bytes {
            self.bytes.entry(tenant).or_default().insert(partition, bytes);
        }
        self.bytes.retain(|_, parts| !parts.is_empty());
    }
}

async fn kept_in(
    connection: &RedisConnection,
    partition: Partition,
) -> Result<HashMap<Tenant, u64>, CallError> {
    let call = Function::KeptBytes.call(&connection.keys().kept(Some(partition)));
    let mut reply = connection.call(Function::KeptBytes, &call).await?;
    reply.text()?;
    let mut bytes = HashMap::new();
    while !reply.is_empty() {
        let tenant = Tenant::parse(&reply.text()?).map_err(|_| unexpected("a tenant"))?;
        let kept = reply.text()?.parse().map_err(|_| unexpected("a number of bytes"))?;
        bytes.insert(tenant, kept);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_partition_says_replaces_what_it_said_and_nothing_else() {
        let mut known = Known::default();
        let [acme, globex] = ["acme", "globex"].map(|name| Tenant::parse(name).expect("tenant"));
        let [one, other] = [0, 1].map(Partition::at);

        known.set(one, HashMap::from([(acme.clone(), 5), (globex.clone(), 7)]));
        known.set(other, HashMap::from([(acme.clone(), 3)]));
        known.set(one, HashMap::from([(acme.clone(), 4)]));

        assert_eq!(known.bytes[&acme], HashMap::from([(one, 4), (other, 3)]));
        assert!(!known.bytes.contains_key(&globex));
    }
}
