//! How long deliveries take, in histograms of microseconds.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;

/// One delivery's latency.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    /// From when the schedule wanted it published. With a stalled server this grows for everything
    /// that was held up, where `from_sent` would see only what got through.
    pub(crate) from_due: Duration,
    /// From when it was handed to the publishing client.
    pub(crate) from_sent: Duration,
}

/// Histograms in shards, so that subscribers on different threads seldom wait for each other.
#[derive(Debug)]
pub(crate) struct Latencies {
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug)]
struct Shard {
    second: Histogram<u64>,
    measured: Measured,
}

/// Latencies of the measured publications.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) from_due: Histogram<u64>,
    pub(crate) from_sent: Histogram<u64>,
}

const SHARDS: u32 = 8;

impl Latencies {
    pub(crate) fn new() -> Self {
        let shard = |_| Mutex::new(Shard { second: histogram(), measured: Measured::new() });
        Self { shards: (0..SHARDS).map(shard).collect() }
    }

    /// Notes a delivery to one of the subscribers.
    pub(crate) fn record(&self, subscriber: u32, latency: Latency, is_measured: bool) {
        let mut shard = self.shards[(subscriber % SHARDS) as usize].lock();
        shard.second.saturating_record(microseconds(latency.from_due));
        if is_measured {
            shard.measured.from_due.saturating_record(microseconds(latency.from_due));
            shard.measured.from_sent.saturating_record(microseconds(latency.from_sent));
        }
    }

    /// Latencies, from due, since this was asked last.
    pub(crate) fn take_second(&self) -> Histogram<u64> {
        let mut second = histogram();
        for shard in &self.shards {
            let mut shard = shard.lock();
            second += &shard.second;
            shard.second.reset();
        }
        second
    }

    pub(crate) fn measured(&self) -> Measured {
        let mut measured = Measured::new();
        for shard in &self.shards {
            let shard = shard.lock();
            measured.from_due += &shard.measured.from_due;
            measured.from_sent += &shard.measured.from_sent;
        }
        measured
    }
}

impl Measured {
    fn new() -> Self {
        Self { from_due: histogram(), from_sent: histogram() }
    }
}

/// From a microsecond to two minutes, to three digits; what is longer counts as two minutes.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 120_000_000, 3).expect("the bounds are in order")
}

pub(crate) fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A histogram in a few numbers, in microseconds; all zero if it is empty.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) p50_us: u64,
    pub(crate) p90_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
}

impl Percentiles {
    /// The same, each less so much, and zero at least.
    pub(crate) fn beyond(self, less_us: u64) -> Self {
        Self {
            count: self.count,
            p50_us: self.p50_us.saturating_sub(less_us),
            p90_us: self.p90_us.saturating_sub(less_us),
            p99_us: self.p99_us.saturating_sub(less_us),
            p999_us: self.p999_us.saturating_sub(less_us),
            max_us: self.max_us.saturating_sub(less_us),
        }
    }
}

impl From<&Histogram<u64>> for Percentiles {
    fn from(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.5),
            p90_us: histogram.value_at_quantile(0.9),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_shows_in_its_second_only() {
        let latencies = Latencies::new();

        latencies.record(0, latency(500, 100), false);
        latencies.record(9, latency(700, 200), true);

        assert_eq!(latencies.take_second().len(), 2);
        assert_eq!(latencies.take_second().len(), 0);
        assert_eq!(latencies.measured().from_due.len(), 1);
        assert_eq!(latencies.measured().from_due.max(), 700);
        assert_eq!(latencies.measured().from_sent.max(), 200);
    }

    #[test]
    fn a_latency_beyond_the_bound_counts_as_the_bound() {
        let latencies = Latencies::new();

        latencies.record(0, latency(600_000_000, 0), true);

        assert!(latencies.measured().from_due.max() >= 120_000_000);
    }

    #[test]
    fn percentiles_are_of_what_was_recorded() {
        let mut histogram = histogram();
        for value in 1..=1_000 {
            histogram.saturating_record(value);
        }

        let percentiles = Percentiles::from(&histogram);

        assert_eq!((percentiles.p50_us, percentiles.p99_us), (500, 990));
        assert_eq!((percentiles.count, percentiles.max_us), (1_000, 1_000));
    }

    fn latency(due_us: u64, sent_us: u64) -> Latency {
        let (from_due, from_sent) = (Duration::from_micros(due_us), Duration::from_micros(sent_us));
        Latency { from_due, from_sent }
    }
}
