//! Clients that read more slowly than they are sent to.

use metrics::counter;

pub(crate) fn lagged() {
    counter!("tidewire_slow_consumers_total", "action" => "lag").increment(1);
}

/// Counts a client that was disconnected because it did not read.
pub(crate) fn too_slow() {
    counter!("tidewire_slow_consumers_total", "action" => "disconnect").increment(1);
}
