//! Who comes in, and who does not.

use metrics::{counter, gauge};

pub(crate) fn rejected(reason: &'static str) {
    counter!("tidewire_connections_rejected_total", "transport" => "ws", "reason" => reason)
        .increment(1);
}

/// Counts handshakes in which a session is being claimed, up or down.
pub(crate) fn claiming(change: f64) {
    gauge!("tidewire_handshakes", "state" => "claiming").increment(change);
}

/// Counts bytes of first frames that are larger than everybody's, up or down.
pub(crate) fn first_frames(change: f64) {
    gauge!("tidewire_first_frames_bytes").increment(change);
}

/// Counts handshakes that wait for others' claims, up or down.
pub(crate) fn waiting(change: f64) {
    gauge!("tidewire_handshakes", "state" => "waiting").increment(change);
}

pub(crate) fn authenticated(method: &'static str, result: &'static str) {
    counter!("tidewire_auth_total", "method" => method, "result" => result).increment(1);
}

pub(crate) fn resumed(result: &'static str) {
    counter!("tidewire_sessions_resumed_total", "result" => result).increment(1);
}

pub(crate) fn ticket(result: &'static str) {
    counter!("tidewire_tickets_total", "result" => result).increment(1);
}

pub(crate) fn expired() {
    counter!("tidewire_tokens_expired_total").increment(1);
}

pub(crate) fn refreshed(is_ok: bool) {
    let result = if is_ok { "ok" } else { "invalid" };
    counter!("tidewire_token_refresh_total", "result" => result).increment(1);
}

/// Says how many addresses have come lately and are counted.
pub(crate) fn addresses(count: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a metric; far below 2^53")]
    gauge!("tidewire_addresses").set(count as f64);
}

/// Counts a connection whose address there was no room to count.
pub(crate) fn unjudged_address() {
    counter!("tidewire_unjudged_addresses_total").increment(1);
}

/// Counts a time that a listener waited before it shook hands again.
pub(crate) fn paced() {
    counter!("tidewire_handshakes_paced_total").increment(1);
}
