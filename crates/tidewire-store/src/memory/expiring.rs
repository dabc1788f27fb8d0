use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// Values that are gone after a time of their own.
pub(super) struct Expiring<K, V> {
    entries: HashMap<K, Kept<V>>,
    next_sweep: Instant,
}

pub(super) struct Kept<V> {
    pub(super) value: V,
    until: Instant,
}

impl<V> Kept<V> {
    pub(super) fn keep_for(&mut self, ttl: Duration) {
        self.until = Instant::now() + ttl;
    }
}

impl<K, V> Default for Expiring<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), next_sweep: Instant::now() + SWEEP_INTERVAL }
    }
}

impl<K: Eq + Hash, V> Expiring<K, V> {
    pub(super) fn insert(&mut self, key: K, value: V, ttl: Duration) {
        let now = Instant::now();
        self.sweep(now);
        self.entries.insert(key, Kept { value, until: now + ttl });
    }

    pub(super) fn find(&mut self, key: &K) -> Option<&mut Kept<V>> {
        let now = Instant::now();
        self.entries.get_mut(key).filter(|kept| now < kept.until)
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    /// How many there are, those that have run out and have not been forgotten included.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn forget_expired(&mut self) {
        let now = Instant::now();
        self.entries.retain(|_, kept| now < kept.until);
    }

    /// What has not run out, and how long it will last.
    pub(super) fn live(&self) -> impl Iterator<Item = (&K, &V, Duration)> {
        let now = Instant::now();
        let live = self.entries.iter().filter(move |(_, kept)| now < kept.until);
        live.map(move |(key, kept)| (key, &kept.value, kept.until - now))
    }

    /// At most once a minute, so that its cost, which grows with the number of entries, is shared
    /// by many calls.
    fn sweep(&mut self, now: Instant) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_INTERVAL;
        self.entries.retain(|_, kept| now < kept.until);
    }
}

const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_memory_of_what_has_run_out_comes_back() {
        let mut expiring = Expiring::default();
        for key in 0..100 {
            expiring.insert(key, (), Duration::from_secs(key));
        }

        tokio::time::advance(SWEEP_INTERVAL).await;
        expiring.insert(100, (), SWEEP_INTERVAL);

        assert_eq!(expiring.entries.len(), 40);
        assert!(expiring.find(&60).is_none());
        assert!(expiring.find(&61).is_some());
    }
}
