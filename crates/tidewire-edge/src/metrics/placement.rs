//! Clients of tenants that are at home elsewhere.

use metrics::{counter, gauge};

/// Counts a client whose tenant is not at home here, until it has [ended](misrouted_ended).
pub(crate) fn misrouted() {
    counter!("tidewire_connections_misrouted_total").increment(1);
    gauge!("tidewire_connections_misrouted").increment(1.0);
}

pub(crate) fn misrouted_ended() {
    gauge!("tidewire_connections_misrouted").decrement(1.0);
}

/// Counts such a client that was told where its tenant is at home.
pub(crate) fn redirected() {
    counter!("tidewire_connections_redirected_total").increment(1);
}
