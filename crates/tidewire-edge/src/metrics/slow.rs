//! Clients that read more slowly than they are sent to.

use metrics::{Gauge, counter, gauge};

pub(crate) fn lagged() {
    counter!("tidewire_slow_consumers_total", "action" => "lag").increment(1);
}

/// Counts a client that was disconnected because it did not read.
pub(crate) fn too_slow() {
    counter!("tidewire_slow_consumers_total", "action" => "disconnect").increment(1);
}

/// Counts publications that were left out for clients that read too slowly.
pub(crate) fn skipped(publications: usize) {
    if publications > 0 {
        counter!("tidewire_skipped_publications_total").increment(publications as u64);
    }
}

/// Counts a client that was told that something was left out.
pub(crate) fn told_of_skipping() {
    counter!("tidewire_slow_consumers_total", "action" => "skip").increment(1);
}

/// A client that is slow, counted for as long as this is kept.
#[derive(Debug)]
pub(crate) struct SlowConsumer(Gauge);

impl SlowConsumer {
    pub(crate) fn new() -> Self {
        counter!("tidewire_slow_consumers_total", "action" => "slow").increment(1);
        let now = gauge!("tidewire_slow_consumers");
        now.increment(1.0);
        Self(now)
    }
}

impl Drop for SlowConsumer {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Counts a channel for which a worker had no room, and whose subscribers it has catch up.
pub(crate) fn overflowed() {
    counter!("tidewire_fan_out_overflow_total").increment(1);
}

/// What waits in a worker to be handed out, as a part of what waits in all of them.
#[derive(Debug)]
pub(crate) struct Waiting {
    shown: [u32; 2],
    gauges: [Gauge; 2],
}

impl Default for Waiting {
    fn default() -> Self {
        let gauge = |kind: &'static str| gauge!("tidewire_fan_out_waiting", "kind" => kind);
        Self { shown: [0; 2], gauges: [gauge("publications"), gauge("bytes")] }
    }
}

impl Waiting {
    pub(crate) fn show(&mut self, publications: usize, bytes: usize) {
        let now = [publications, bytes].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        for ((gauge, shown), now) in self.gauges.iter().zip(&mut self.shown).zip(now) {
            if *shown != now {
                gauge.increment(f64::from(now) - f64::from(*shown));
                *shown = now;
            }
        }
    }
}
