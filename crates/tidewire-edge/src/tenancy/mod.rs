//! What each tenant may do here, and how that changes while its clients are connected.

mod homes;
mod keeper;
mod usage;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;
use tidewire_model::{ErrorCode, Failure, Limit, Tenant, TenantLimits};
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, timeout_at};

pub(crate) use self::homes::Homes;
pub(crate) use self::usage::{Counted, Spent, Usage};
use crate::door::come_back_after;
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
    /// What is used of the quotas; the same in every allowance of a tenant.
    pub(crate) usage: Arc<Usage>,
    pub(crate) homes: Homes,
    /// Of the tenants that it follows from.
    version: u64,
}

/// How long a new connection waits for the store to say whether there is one to be had.
const PATIENCE: Duration = Duration::from_secs(1);
/// When who was refused a connection is to come back.
const CONNECTS_AGAIN: Duration = Duration::from_secs(5);

impl Allowance {
    /// Whether tenants are as they were when it was made, `version` being theirs.
    pub(crate) fn is_of(&self, version: u64) -> bool {
        self.version == version
    }

    fn new(tenant: &Tenant, version: u64, (shared, usage): (&Shared, Arc<Usage>)) -> Self {
        let limits = shared.limits_of(tenant);
        let session = tidewire_session::Limits {
            subscriptions: limits.connection_subscriptions,
            payload_bytes: limits.payload_bytes.min(shared.config.max_payload_bytes()),
            ..tidewire_session::Limits::default()
        };
        let metrics = shared.metrics.tenant(tenant);
        let homes = Homes::new(tenant.clone(), shared.tenants.homes(tenant));
        Self { limits, session: Arc::new(session), metrics, usage, homes, version }
    }

    /// Charges the tenant for a new connection, at `now`, counted from when the edge began.
    ///
    /// # Errors
    ///
    /// When more of its clients connect than may in a second, on this node.
    pub(crate) fn connect(&self, now: Duration) -> Result<(), Failure> {
        let pace = self.limits.tenant_connects;
        self.usage.connect(pace, now).map_err(|wait| {
            let (most, wait) = (pace.per_second, come_back_after(wait));
            let wait_ms = wait.as_millis();
            let message = format!(
                "the tenant may connect {most} times a second on one node: again in {wait_ms} ms"
            );
            let failure = Failure::new(ErrorCode::RateExceeded, message);
            failure.retry_after(wait).exceeding(Limit::TenantConnectRate, most.into())
        })
    }

    /// Counts a new connection of the tenant's, once it is known that there may be one more.
    ///
    /// # Errors
    ///
    /// When the tenant has as many as it may, or when nobody can say whether.
    pub(crate) async fn enter(&self, allowances: &Allowances) -> Result<Counted, Failure> {
        let until = Instant::now() + PATIENCE;
        loop {
            let settled = self.usage.settled();
            tokio::pin!(settled);
            settled.as_mut().enable();
            let entered = self.usage.enter();
            if self.usage.is_hurried() {
                allowances.hurry();
            }
            if let Some(counted) = entered {
                return Ok(counted);
            }
            if self.usage.is_full() {
                return Err(self.too_many());
            }
            self.usage.hurry();
            allowances.hurry();
            if timeout_at(until, settled).await.is_err() {
                return Err(self.too_many());
            }
        }
    }

    fn too_many(&self) -> Failure {
        let most = self.limits.quotas.connections.unwrap_or_default();
        let wait_ms = CONNECTS_AGAIN.as_millis();
        let message =
            format!("the tenant may have {most} connections on all nodes: again in {wait_ms} ms");
        Failure::new(ErrorCode::QuotaExceeded, message)
            .retry_after(CONNECTS_AGAIN)
            .exceeding(Limit::TenantConnections, most.into())
    }

    /// Charges the tenant for a publication, at `now`, counted from when the edge began.
    ///
    /// # Errors
    ///
    /// If the tenant has used up its part of a rate.
    pub(crate) fn charge(&self, bytes: usize, now: Duration) -> Result<(), Spent> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.usage.charge(bytes, &self.limits.quotas, now)
    }
}

impl Spent {
    /// What to tell who is to come back after `wait`.
    pub(crate) fn failure(self, wait: Duration) -> Failure {
        let (most, wait_ms) = (self.value, wait.as_millis().max(1));
        let what = match self.limit {
            Limit::TenantBytesIn => format!("{most} bytes a second"),
            _ => format!("{most} times a second"),
        };
        let message =
            format!("the tenant may publish {what} on all nodes together: again in {wait_ms} ms");
        let failure = Failure::new(ErrorCode::RateExceeded, message);
        failure.retry_after(wait).exceeding(self.limit, most.into())
    }
}

/// The allowances of tenants that are here, made when the first of their clients or servers comes:
/// at most as many as have proved who they are since tenants last changed.
///
/// A connection keeps its tenant's, and a worker looks once a turn whether tenants have changed: a
/// change costs no walk over the connections, and a publication takes no lock.
#[derive(Debug, Default)]
pub(crate) struct Allowances {
    known: RwLock<Known>,
    /// How many usages were ever made.
    count: AtomicU64,
    /// Somebody has, or had, a quota of what is sent.
    is_metered: AtomicBool,
    /// Somebody waits for the store.
    hurried: Notify,
}

#[derive(Debug, Default)]
struct Known {
    version: u64,
    tenants: HashMap<Tenant, Arc<Allowance>>,
    usages: HashMap<Tenant, Arc<Usage>>,
}

impl Allowances {
    pub(crate) fn of(&self, tenant: &Tenant, shared: &Shared) -> Arc<Allowance> {
        let version = shared.tenants.version();
        let known = self.known.read();
        if let Some(allowance) = known.tenants.get(tenant).filter(|one| one.is_of(version)) {
            return Arc::clone(allowance);
        }
        drop(known);
        let quotas = shared.limits_of(tenant).quotas;
        if quotas.rates.bytes_out.is_some() {
            self.is_metered.store(true, Ordering::Relaxed);
        }
        let mut known = self.known.write();
        if known.version < version {
            // Tenants that are gone are not to stay here.
            known.tenants.clear();
            known.usages.retain(|_, usage| usage.is_needed());
            known.version = version;
        }
        let usage = known.usages.entry(tenant.clone()).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::Relaxed);
            Arc::new(Usage::new(&quotas, shared.nodes()))
        });
        usage.heed(&quotas, shared.nodes());
        let made = Arc::new(Allowance::new(tenant, version, (shared, Arc::clone(usage))));
        known.tenants.insert(tenant.clone(), Arc::clone(&made));
        made
    }

    /// How long a tenant's clients are to be handed no publications, at `now`, counted from when the
    /// edge began.
    pub(crate) fn wait_to_send(&self, tenant: &Tenant, now: Duration) -> Duration {
        if !self.is_metered.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let known = self.known.read();
        known.usages.get(tenant).map_or(Duration::ZERO, |usage| usage.wait_to_send(now))
    }

    /// Changes when there is somebody new among the [usages](Self::usages).
    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// What every tenant that was here uses.
    fn usages(&self) -> Vec<(Tenant, Arc<Usage>)> {
        let known = self.known.read();
        known.usages.iter().map(|(tenant, usage)| (tenant.clone(), Arc::clone(usage))).collect()
    }

    fn hurry(&self) {
        self.hurried.notify_one();
    }

    async fn hurried(&self) {
        self.hurried.notified().await;
    }
}
