//! Clients that would be better off elsewhere.

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

/// Clients above this node's share.
#[expect(clippy::cast_precision_loss, reason = "a metric; far below 2^53")]
pub(crate) fn rebalance_excess(clients: u64) {
    gauge!("tidewire_rebalance_excess").set(clients as f64);
}

pub(crate) fn rebalance_asked() {
    counter!("tidewire_rebalance_asked_total").increment(1);
}

/// What became of clients that were asked.
pub(crate) fn rebalanced(outcome: &'static str, clients: u32) {
    counter!("tidewire_rebalance_clients_total", "outcome" => outcome).increment(clients.into());
}

/// It rests, or does so no longer.
pub(crate) fn rebalance_rests(is_resting: bool) {
    let change = if is_resting { 1.0 } else { -1.0 };
    gauge!("tidewire_rebalance_resting").increment(change);
}
