//! What all clients count together.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tidewire_client::Happening;
use tidewire_witness::Stamp;
use tokio::time::Instant;

use crate::latency::{Latencies, Latency, histogram, microseconds};
use crate::moves::Moves;

/// Counters, histograms, and the run's clock.
#[derive(Debug)]
pub(crate) struct Tally {
    origin: Instant,
    /// When publishing starts and ends, once that is known.
    window: OnceLock<Window>,
    pub(crate) connected: Counter,
    /// Subscribers with all their subscriptions, and publishers.
    pub(crate) ready: Counter,
    pub(crate) published: Counter,
    pub(crate) acknowledged: Counter,
    /// Publications refused for good.
    pub(crate) rejected: Counter,
    pub(crate) delivered: Counter,
    /// Connections lost, and the sessions that went on or had to begin anew after that.
    pub(crate) lost_connections: Counter,
    pub(crate) resumed: Counter,
    pub(crate) reopened: Counter,
    /// Clients that could not go on.
    pub(crate) ended: Counter,
    pub(crate) latencies: Latencies,
    pub(crate) moves: Moves,
    connect_times: Mutex<Histogram<u64>>,
    /// What went wrong, and how often.
    problems: Mutex<BTreeMap<String, u64>>,
}

/// When publications are made, and which are measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) start: Instant,
    /// The end of the warm-up.
    pub(crate) measured_from: Instant,
    pub(crate) end: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Different problems that are remembered; further ones are counted as others.
const MOST_PROBLEMS: usize = 8;

impl Tally {
    pub(crate) fn new(origin: Instant) -> Self {
        Self {
            origin,
            window: OnceLock::new(),
            connected: Counter::default(),
            ready: Counter::default(),
            published: Counter::default(),
            acknowledged: Counter::default(),
            rejected: Counter::default(),
            delivered: Counter::default(),
            lost_connections: Counter::default(),
            resumed: Counter::default(),
            reopened: Counter::default(),
            ended: Counter::default(),
            latencies: Latencies::new(),
            moves: Moves::new(),
            connect_times: Mutex::new(histogram()),
            problems: Mutex::default(),
        }
    }

    /// Nanoseconds from the beginning of the run to `at`.
    pub(crate) fn clock(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// When [`clock`](Self::clock) said so.
    pub(crate) fn instant(&self, clock: u64) -> Instant {
        self.origin + Duration::from_nanos(clock)
    }

    /// Says when publications are made; once.
    pub(crate) fn open(&self, window: Window) {
        self.window.set(window).expect("a run has one window");
    }

    pub(crate) fn connect(&self, took: Duration) {
        self.connected.increment();
        self.connect_times.lock().saturating_record(microseconds(took));
    }

    pub(crate) fn connect_times(&self) -> Histogram<u64> {
        self.connect_times.lock().clone()
    }

    /// A publication of this run reached a subscriber.
    pub(crate) fn deliver(&self, subscriber: u32, stamp: &Stamp, now: Instant) {
        self.delivered.increment();
        let is_measured = self.window.get().is_some_and(|window| {
            (self.clock(window.measured_from)..self.clock(window.end)).contains(&stamp.due)
        });
        let now = self.clock(now);
        let since = |then: u64| Duration::from_nanos(now.saturating_sub(then));
        let latency = Latency { from_due: since(stamp.due), from_sent: since(stamp.sent) };
        self.latencies.record(subscriber, latency, is_measured);
    }

    /// Counts what happens to any client once it is ready.
    pub(crate) fn note(&self, happening: &Happening) {
        match happening {
            Happening::Connected { resumed: true, .. } => self.resumed.increment(),
            Happening::Connected { resumed: false, .. } => self.reopened.increment(),
            Happening::Lost { reason } => {
                self.lost_connections.increment();
                self.blame(reason);
            }
            Happening::Rejected { refusal, .. } => {
                self.rejected.increment();
                self.blame(&refusal.to_string());
            }
            Happening::Refused { refusal, .. } => self.blame(&refusal.to_string()),
            _ => {}
        }
    }

    /// Remembers a reason for something that went wrong.
    pub(crate) fn blame(&self, reason: &str) {
        let mut problems = self.problems.lock();
        let known = problems.contains_key(reason) || problems.len() < MOST_PROBLEMS;
        let reason = if known { reason } else { "others" };
        *problems.entry(reason.to_owned()).or_default() += 1;
    }

    pub(crate) fn problems(&self) -> BTreeMap<String, u64> {
        self.problems.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_due_in_the_window_is_measured() {
        let origin = Instant::now();
        let tally = Tally::new(origin);
        let after = |seconds| origin + Duration::from_secs(seconds);
        tally.open(Window { start: after(1), measured_from: after(2), end: after(4) });

        for due in [1, 2, 3, 4] {
            let due = tally.clock(after(due));
            let stamp = Stamp { run: 0, publisher: 0, sequence: 0, due, sent: due };
            tally.deliver(0, &stamp, after(5));
        }

        assert_eq!(tally.delivered.value(), 4);
        assert_eq!(tally.latencies.measured().from_due.len(), 2);
    }

    #[test]
    fn problems_are_counted_by_reason_and_bounded() {
        let tally = Tally::new(Instant::now());

        for reason in 0..20 {
            tally.blame(&format!("reason {reason}"));
        }
        tally.blame("reason 0");

        let problems = tally.problems();
        assert_eq!(problems.len(), MOST_PROBLEMS + 1);
        assert_eq!(problems["reason 0"], 2);
        assert_eq!(problems["others"], 12);
    }
}
