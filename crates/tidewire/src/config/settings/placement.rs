use tidewire_edge::{PlacementConfig, RebalanceConfig};

use crate::config::document::{Placement, Switch};

/// Every placement that can be written down is one.
pub(super) fn take(placement: &Placement) -> PlacementConfig {
    let rebalance = RebalanceConfig {
        permille: placement.rebalance_rate,
        patience: placement.rebalance_after.duration(),
    };
    PlacementConfig {
        redirects: placement.redirect == Switch::On,
        rebalance: (placement.rebalance == Switch::On).then_some(rebalance),
    }
}
