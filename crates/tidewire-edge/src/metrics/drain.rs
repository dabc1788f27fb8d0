//! A node that leaves.

use std::time::Duration;

use metrics::{counter, gauge};

use crate::drain::Phase;

#[expect(clippy::cast_precision_loss, reason = "a metric; far below 2^53")]
pub(crate) fn drain_remaining(connections: usize) {
    gauge!("tidewire_drain_remaining").set(connections as f64);
}

pub(crate) fn drain_killed(connections: usize) {
    counter!("tidewire_drain_connections_total", "outcome" => "killed")
        .increment(connections as u64);
}

/// One of these is 1.
pub(crate) fn drain_state(current: Phase) {
    for phase in Phase::ALL {
        let is_current = f64::from(u8::from(phase == current));
        gauge!("tidewire_drain_state", "state" => phase.name()).set(is_current);
    }
}

pub(crate) fn drain_pace(per_second: u32, is_held: bool) {
    gauge!("tidewire_drain_rate").set(f64::from(per_second));
    gauge!("tidewire_drain_held").set(f64::from(u8::from(is_held)));
}

pub(crate) fn drain_asked(clients: usize) {
    counter!("tidewire_drain_asked_total").increment(clients as u64);
}

pub(crate) fn drain_ended(took: Duration) {
    drain_remaining(0);
    gauge!("tidewire_drain_duration_seconds").set(took.as_secs_f64());
}
