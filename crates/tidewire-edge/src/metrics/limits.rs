//! What was more than is allowed.

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

/// Counts connections that are not read because they do not heed refusals, up or down.
pub(crate) fn paused(change: f64) {
    gauge!("tidewire_paused_connections").increment(change);
}
