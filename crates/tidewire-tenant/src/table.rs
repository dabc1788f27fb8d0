use std::sync::Arc;

use tidewire_auth::KeyRing;
use tidewire_model::{ByTenant, Channel, DeltaFormat, Live, LiveRules, SessionKind, Tenant};

/// All tenants of a node: a cheap handle, of which all clones show the same.
///
/// Whoever looks sees what holds now, and never waits.
#[derive(Clone, Debug, Default)]
pub struct Tenants {
    ring: Live<KeyRing>,
    rules: LiveRules,
    details: Live<ByTenant<Arc<TenantDetails>>>,
}

/// How a tenant is treated, apart from its channels.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TenantDetails {
    pub sessions: SessionKind,
}

impl Tenants {
    /// The tenants of `ring`, each treated as ordinary unless `details` says otherwise.
    pub fn new(
        ring: KeyRing,
        rules: impl Into<LiveRules>,
        details: impl IntoIterator<Item = (Tenant, TenantDetails)>,
    ) -> Self {
        let details = details.into_iter().map(|(tenant, details)| (tenant, Arc::new(details)));
        let details = Live::new(details.collect());
        Self { ring: Live::new(ring), rules: rules.into(), details }
    }

    /// The keys of all of them, for a verifier.
    pub fn ring(&self) -> &Live<KeyRing> {
        &self.ring
    }

    /// How their channels are treated.
    pub fn rules(&self) -> &LiveRules {
        &self.rules
    }

    pub fn contains(&self, tenant: &Tenant) -> bool {
        self.ring.read(|ring| ring.contains(tenant))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.ring.read(|ring| ring.tenants().count())
    }

    /// How a tenant is treated, if it is treated otherwise than most are.
    pub fn details(&self, tenant: &Tenant) -> Option<Arc<TenantDetails>> {
        self.details.read(|details| details.get(tenant).cloned())
    }

    /// How a tenant's sessions are kept.
    pub fn session_kind(&self, tenant: &Tenant) -> SessionKind {
        let kind = |details: &Arc<TenantDetails>| details.sessions;
        self.details.read(|details| details.get(tenant).map(kind).unwrap_or_default())
    }

    /// What of a wish for deltas a channel grants.
    pub fn grant(
        &self,
        tenant: &Tenant,
        channel: &Channel,
        wish: Option<DeltaFormat>,
    ) -> Option<DeltaFormat> {
        wish?;
        self.rules.read(|rules| rules.grant(tenant, channel, wish))
    }
}
