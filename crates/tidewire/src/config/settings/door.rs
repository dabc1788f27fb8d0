//! Who comes in, and how fast.

use tidewire_edge::DoorConfig;
use tidewire_model::Pace;
use tidewire_transport::guard::Network;

use crate::config::document;
use crate::config::draft::Draft;

/// How many times as many as in a second an address may have at once, after a rest: whole offices come
/// back together.
const BURST_OF_ADDRESS: u32 = 4;

/// Nothing if a network is none, which has then been reported.
pub(super) fn check(server: &document::Server, draft: &mut Draft) -> Option<DoorConfig> {
    let mut proxies = Vec::new();
    for (index, text) in server.trusted_proxies.iter().enumerate() {
        let network = text.parse::<Network>();
        proxies.push(draft.accept(&format!("server.trusted_proxies[{index}]"), network)?);
    }
    let burst = server.address_rate.saturating_mul(BURST_OF_ADDRESS);
    Some(DoorConfig {
        handshakes: Pace::doubled(server.handshake_rate),
        address: Pace { per_second: server.address_rate, burst },
        proxies,
    })
}
