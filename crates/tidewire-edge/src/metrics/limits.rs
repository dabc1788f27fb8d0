//! What was more than is allowed.

use std::time::Duration;

use metrics::{counter, gauge};
use tidewire_model::Limit;

use super::TenantMetrics;

/// Counts something that was refused for a limit.
pub(crate) fn limited(limit: Limit, tenant: Option<&TenantMetrics>) {
    let name = limit.as_str();
    counter!("tidewire_limited_total", "limit" => name).increment(1);
    if let Some(tenant) = tenant {
        let tenant = tenant.label.clone();
        counter!("tidewire_tenant_limited_total", "tenant" => tenant, "limit" => name).increment(1);
    }
}

/// Counts a client that sent too many pings, or pongs that nobody had asked for.
pub(crate) fn pinged_too_often() {
    counter!("tidewire_excess_controls_total").increment(1);
}

/// Counts connections that are not read because they do not heed refusals, up or down.
pub(crate) fn paused(change: f64) {
    gauge!("tidewire_paused_connections").increment(change);
}

/// Counts a try to lease a part of a tenant's quotas.
pub(crate) fn quota_settled(result: &'static str) {
    counter!("tidewire_quota_settles_total", "result" => result).increment(1);
}

/// Says how long ago the store has last answered for whom that is the longest, and how many tenants
/// have their part by number because it does not.
pub(crate) fn quotas_kept(age: Duration, fallen_back: usize) {
    gauge!("tidewire_quota_age_seconds").set(age.as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "a metric; far below 2^53")]
    gauge!("tidewire_quota_fallback").set(fallen_back as f64);
}
