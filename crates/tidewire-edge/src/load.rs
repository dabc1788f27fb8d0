//! What it costs others to come here, as this node has seen it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::Edge;

/// How an edge keeps up with those who come, since it was asked before.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EdgeLoad {
    /// Sessions taken up here.
    pub resumed: u64,
    /// Milliseconds from a request for a WebSocket to its worker, for all but the slowest hundredth;
    /// rounded up to a power of two, 2,048 standing for anything above. Zero if nobody came.
    pub accept_p99_ms: u32,
    /// Milliseconds from `connect` to being served, of those who resume, likewise.
    pub resume_p99_ms: u32,
}

/// Counts arrivals. Shared by all workers.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    accepts: Waits,
    resumes: Waits,
    resumed: AtomicU64,
}

impl Arrivals {
    /// A client has got from its request to its worker.
    pub(crate) fn accepted(&self, took: Duration) {
        self.accepts.note(took);
    }

    /// A client that resumes has got from `connect` to being served.
    pub(crate) fn resumed(&self, took: Duration) {
        self.resumes.note(took);
        self.resumed.fetch_add(1, Ordering::Relaxed);
    }

    fn take(&self) -> EdgeLoad {
        EdgeLoad {
            resumed: self.resumed.swap(0, Ordering::Relaxed),
            accept_p99_ms: self.accepts.take_p99_ms(),
            resume_p99_ms: self.resumes.take_p99_ms(),
        }
    }
}

impl Edge {
    /// How it keeps up with those who come. Begins anew: for one caller.
    pub fn take_load(&self) -> EdgeLoad {
        self.0.arrivals.take()
    }
}

/// How long many have waited: less than 1 ms, 2 ms, 4 ms and so on.
#[derive(Debug, Default)]
struct Waits([AtomicU32; BUCKETS]);

/// The last is for a second and everything above.
const BUCKETS: usize = 12;

impl Waits {
    fn note(&self, wait: Duration) {
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - millis.leading_zeros()) as usize;
        self.0[bucket.min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
    }

    /// What all but a hundredth have waited less than. Begins anew.
    fn take_p99_ms(&self) -> u32 {
        let counts = self.0.each_ref().map(|count| u64::from(count.swap(0, Ordering::Relaxed)));
        let all: u64 = counts.iter().sum();
        if all == 0 {
            return 0;
        }
        let mut slower = all;
        for (bucket, count) in counts.iter().enumerate() {
            slower -= count;
            if slower * 100 <= all {
                return 1 << bucket;
            }
        }
        1 << (BUCKETS - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p99(waits: &[(usize, u64)]) -> u32 {
        let seen = Waits::default();
        for (count, millis) in waits {
            (0..*count).for_each(|_| seen.note(Duration::from_millis(*millis)));
        }
        seen.take_p99_ms()
    }

    #[test]
    fn the_slowest_hundredth_does_not_count_and_what_is_slower_does() {
        assert_eq!(p99(&[]), 0);
        assert_eq!(p99(&[(1, 0)]), 1);
        assert_eq!(p99(&[(99, 0), (1, 900)]), 1);
        assert_eq!(p99(&[(98, 0), (2, 900)]), 1_024);
        assert_eq!(p99(&[(1, 250)]), 256);
        assert_eq!(p99(&[(1, 60_000)]), 2_048);
    }

    #[test]
    fn what_was_taken_is_not_counted_twice() {
        let arrivals = Arrivals::default();
        arrivals.accepted(Duration::from_millis(3));
        arrivals.resumed(Duration::from_millis(700));

        assert_eq!(
            arrivals.take(),
            EdgeLoad { resumed: 1, accept_p99_ms: 4, resume_p99_ms: 1_024 }
        );
        assert_eq!(arrivals.take(), EdgeLoad::default());
    }
}
