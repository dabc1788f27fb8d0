//! What each tenant may do here, and how that changes while its clients are connected.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tidewire_model::{Tenant, TenantLimits};

use crate::edge::Shared;
use crate::metrics::TenantMetrics;

/// What one tenant's connections have in common.
#[derive(Debug)]
pub(crate) struct Allowance {
    pub(crate) limits: TenantLimits,
    /// The part that sessions judge by.
    pub(crate) session: Arc<tidewire_session::Limits>,
    /// The tenant's own, where they are kept.
    pub(crate) metrics: Option<Arc<TenantMetrics>>,
    /// Of the tenants that it follows from.
    version: u64,
}

impl Allowance {
    /// Whether tenants are as they were when it was made, `version` being theirs.
    pub(crate) fn is_of(&self, version: u64) -> bool {
        self.version == version
    }

    fn new(tenant: &Tenant, version: u64, shared: &Shared) -> Self {
        let details = shared.tenants.details(tenant).unwrap_or_default();
        let limits = details.limits.over(shared.config.limits);
        let session = tidewire_session::Limits {
            subscriptions: limits.connection_subscriptions,
            payload_bytes: limits.payload_bytes.min(shared.config.max_payload_bytes()),
            ..tidewire_session::Limits::default()
        };
        let metrics = shared.metrics.tenant(tenant);
        Self { limits, session: Arc::new(session), metrics, version }
    }
}

/// The allowances of tenants that are here, made when the first of their clients or servers comes:
/// at most as many as have proved who they are since tenants last changed.
///
/// A connection keeps its tenant's, and a worker looks once a turn whether tenants have changed: a
/// change costs no walk over the connections, and a publication takes no lock.
#[derive(Debug, Default)]
pub(crate) struct Allowances(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    version: u64,
    tenants: HashMap<Tenant, Arc<Allowance>>,
}

impl Allowances {
    pub(crate) fn of(&self, tenant: &Tenant, shared: &Shared) -> Arc<Allowance> {
        let version = shared.tenants.version();
        let known = self.0.read();
        if let Some(allowance) = known.tenants.get(tenant).filter(|one| one.is_of(version)) {
            return Arc::clone(allowance);
        }
        drop(known);
        let made = Arc::new(Allowance::new(tenant, version, shared));
        let mut known = self.0.write();
        if known.version < version {
            // Tenants that are gone are not to stay here.
            known.tenants.clear();
            known.version = version;
        }
        known.tenants.insert(tenant.clone(), Arc::clone(&made));
        made
    }
}
