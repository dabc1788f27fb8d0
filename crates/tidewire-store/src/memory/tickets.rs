use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::expiring::Expiring;
use crate::{StoreError, TicketName, TicketStore};

/// Keeps tickets in memory, at most 100,000, for one node. Time is tokio's, which a test can pause.
#[derive(Default)]
pub struct MemoryTicketStore {
    records: Mutex<Expiring<TicketName, Vec<u8>>>,
}

const MOST: usize = 100_000;

#[async_trait]
impl TicketStore for MemoryTicketStore {
    async fn put(&self, name: &TicketName, record: &[u8], ttl: Duration) -> Result<(), StoreError> {
        let mut records = self.records.lock();
        if records.len() >= MOST {
            records.forget_expired();
        }
        if records.len() >= MOST || records.find(name).is_some() {
            let reason = "there are as many tickets as are kept, or this one".into();
            return Err(StoreError::Unavailable { address: "memory".into(), reason });
        }
        records.insert(*name, record.to_vec(), ttl);
        Ok(())
    }

    async fn take(&self, name: &TicketName) -> Result<Option<Vec<u8>>, StoreError> {
        let mut records = self.records.lock();
        let record = records.find(name).map(|kept| std::mem::take(&mut kept.value));
        records.remove(name);
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_are_kept_than_there_may_be_until_some_have_run_out() {
        let store = MemoryTicketStore::default();
        let name = |number: usize| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_be_bytes());
            TicketName::from_digest(digest)
        };
        for number in 0..MOST {
            store.put(&name(number), b"a", Duration::from_secs(30)).await.expect("room");
        }

        store.put(&name(MOST), b"a", Duration::from_secs(30)).await.expect_err("it is full");
        tokio::time::advance(Duration::from_secs(30)).await;
        store.put(&name(MOST), b"a", Duration::from_secs(30)).await.expect("room again");
    }
}
