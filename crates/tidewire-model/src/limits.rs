use crate::{Pace, Quotas, Rates};

/// What one tenant may have and ask. Plain values: whoever judges by them has a copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TenantLimits {
    /// Publications of one connection.
    pub connection_publish: Pace,
    /// Bytes of payload that one connection publishes.
    pub connection_publish_bytes: Pace,
    /// Everything else that one connection asks.
    pub connection_commands: Pace,
    /// Subscriptions of one connection at once.
    pub connection_subscriptions: usize,
    /// Bytes of one payload. The node may have room for less.
    pub payload_bytes: usize,
    /// Bytes on their way to one connection above which it is handed no publications until it has
    /// read. One run of publications may come on top.
    pub unsent_bytes: usize,
    /// Its new connections, on one node.
    pub tenant_connects: Pace,
    /// What its connections may have together, over all nodes.
    pub quotas: Quotas,
}

impl TenantLimits {
    /// Rates that no client reaches: for tests, and for one's own machine.
    pub const GENEROUS: Self = Self {
        connection_publish: Pace { per_second: 1_000_000, burst: 1_000_000 },
        connection_publish_bytes: Pace { per_second: 1_000_000_000, burst: 1_000_000_000 },
        connection_commands: Pace { per_second: 1_000_000, burst: 1_000_000 },
        connection_subscriptions: 512,
        payload_bytes: usize::MAX,
        unsent_bytes: 256 * 1_024,
        tenant_connects: Pace { per_second: 1_000_000, burst: 1_000_000 },
        quotas: Quotas {
            connections: None,
            rates: Rates { publications: None, bytes_in: None, bytes_out: None },
        },
    };

    /// So many bytes a second, and at once twice as many, or two payloads if that is more.
    pub fn bytes_pace(per_second: u32, payload_bytes: usize) -> Pace {
        let payload_bytes = u32::try_from(payload_bytes).unwrap_or(u32::MAX);
        let burst = per_second.saturating_mul(2).max(payload_bytes.saturating_mul(2));
        Pace { per_second, burst }
    }
}
