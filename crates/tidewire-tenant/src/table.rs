use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tidewire_auth::{InvalidKeyRing, KeyRing, TenantKeys};
use tidewire_model::{ByTenant, Channel, DeltaFormat, Live, LiveRules, SessionKind, Tenant};

use crate::Definition;

/// All tenants of a node: a cheap handle, of which all clones show the same.
///
/// Whoever looks sees what holds now, and never waits.
#[derive(Clone, Debug, Default)]
pub struct Tenants {
    ring: Live<KeyRing>,
    rules: LiveRules,
    details: Live<ByTenant<Arc<TenantDetails>>>,
    /// Those of the node's file, which nothing else changes.
    fixed: Arc<HashSet<Tenant>>,
    /// Held by whoever replaces any of them.
    writing: Arc<Mutex<()>>,
}

/// What is to hold from now on of a tenant that is not in the node's file.
#[derive(Clone, Debug)]
pub enum Change {
    Set(Box<Definition>),
    Remove(Tenant),
}

/// What has come of changes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Applied {
    pub set: usize,
    /// Of those that were there.
    pub removed: Vec<Tenant>,
    /// Not done, because the node's file has a tenant of that name.
    pub shadowed: Vec<Tenant>,
    /// Tenants that go without a key, because another has it.
    pub robbed: Vec<Tenant>,
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
        let fixed = Arc::new(ring.tenants().cloned().collect());
        let writing = Arc::default();
        Self { ring: Live::new(ring), rules: rules.into(), details, fixed, writing }
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

    /// Whether the node's file has it.
    pub fn is_fixed(&self, tenant: &Tenant) -> bool {
        self.fixed.contains(tenant)
    }

    /// Those of the node's file, in no order.
    pub fn fixed(&self) -> impl Iterator<Item = &Tenant> {
        self.fixed.iter()
    }

    /// Makes changes hold, all at once for each that looks.
    ///
    /// A tenant of the file stays as it is. Of a key that two tenants have the first one's stands, and
    /// the other goes without it: one that is wrong harms itself only.
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) -> Applied {
        let _guard = self.writing.lock();
        let mut ring = (*self.ring.load()).clone();
        let mut rules = (*self.rules.load()).clone();
        let mut details = (*self.details.load()).clone();
        let mut applied = Applied::default();
        for change in changes {
            let tenant = change.tenant();
            if self.is_fixed(tenant) {
                applied.shadowed.push(tenant.clone());
                continue;
            }
            match change {
                Change::Remove(tenant) => {
                    rules.set(tenant.clone(), Vec::new());
                    details.remove(&tenant);
                    if ring.remove(&tenant) {
                        applied.removed.push(tenant);
                    }
                }
                Change::Set(definition) => {
                    let Definition { keys, rules: new_rules, details: new_details } = *definition;
                    let tenant = keys.tenant.clone();
                    rules.set(tenant.clone(), new_rules);
                    details.set(tenant.clone(), Arc::new(new_details));
                    applied.set += 1;
                    if set_what_fits(&mut ring, keys) {
                        applied.robbed.push(tenant);
                    }
                }
            }
        }
        // The keys come last: who connects with them is treated as the tenant is to be.
        self.rules.replace(rules);
        self.details.replace(details);
        self.ring.replace(ring);
        applied
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

impl Change {
    fn tenant(&self) -> &Tenant {
        match self {
            Self::Set(definition) => &definition.keys.tenant,
            Self::Remove(tenant) => tenant,
        }
    }
}

/// Whether the tenant had to go without a key that another has.
fn set_what_fits(ring: &mut KeyRing, keys: TenantKeys) -> bool {
    let tenant = keys.tenant.clone();
    let count = keys.keys.len();
    let fits = |key: &_| ring.owner(key).is_none_or(|owner| *owner == tenant);
    let own = keys.keys.iter().filter(|key| fits(key)).cloned().collect();
    let keys = TenantKeys { keys: own, ..keys };
    let is_robbed = keys.keys.len() < count;
    match ring.set(keys) {
        Ok(()) => is_robbed,
        // What does not stand by itself was refused when it was checked.
        Err(InvalidKeyRing::SharedKey { .. } | _) => true,
    }
}

#[cfg(test)]
mod tests {
    use tidewire_auth::{KeyId, VerificationKey};
    use tidewire_model::{ChannelRule, ChannelRules, Filter};

    use super::*;

    fn tenant(name: &str) -> Tenant {
        Tenant::parse(name).expect("tenant")
    }

    fn keys(name: &str, secrets: &[u8]) -> TenantKeys {
        let key = |secret: &u8| {
            let id = KeyId::parse(&secret.to_string()).expect("id");
            VerificationKey::from_secret(id, &[*secret; 32]).expect("key")
        };
        let keys = secrets.iter().map(key).collect();
        TenantKeys { tenant: tenant(name), keys, api_keys: Vec::new() }
    }

    fn set(name: &str, secrets: &[u8]) -> Change {
        let rules = vec![ChannelRule::new(Filter::parse("**").expect("filter"))];
        let details = TenantDetails { sessions: SessionKind::Strict };
        Change::Set(Box::new(Definition { keys: keys(name, secrets), rules, details }))
    }

    fn of_file() -> Tenants {
        let ring = KeyRing::new([keys("file", &[1])]).expect("ring");
        Tenants::new(ring, ChannelRules::default(), [])
    }

    #[test]
    fn what_comes_holds_until_it_goes() {
        let tenants = of_file();
        let acme = tenant("acme");

        let came = tenants.apply([set("acme", &[2])]);
        assert_eq!(came, Applied { set: 1, ..Applied::default() });
        assert!(tenants.contains(&acme));
        assert_eq!(tenants.session_kind(&acme), SessionKind::Strict);
        assert_eq!(tenants.rules().load().of(&acme).len(), 1);

        let gone = tenants.apply([Change::Remove(acme.clone()), Change::Remove(tenant("nobody"))]);
        assert_eq!(gone, Applied { removed: vec![acme.clone()], ..Applied::default() });
        assert!(!tenants.contains(&acme));
        assert_eq!(tenants.session_kind(&acme), SessionKind::Lazy);
        assert!(tenants.rules().load().of(&acme).is_empty());
    }

    #[test]
    fn a_tenant_of_the_file_is_neither_changed_nor_removed() {
        let tenants = of_file();

        let applied = tenants.apply([set("file", &[2]), Change::Remove(tenant("file"))]);

        assert_eq!(applied.shadowed, [tenant("file"), tenant("file")]);
        assert!(tenants.contains(&tenant("file")));
        assert_eq!(tenants.session_kind(&tenant("file")), SessionKind::Lazy);
    }

    #[test]
    fn a_tenant_with_a_foreign_key_goes_without_it_and_harms_nobody() {
        let tenants = of_file();

        let applied = tenants.apply([set("thief", &[1, 3]), set("acme", &[2])]);

        assert_eq!(applied.robbed, [tenant("thief")]);
        let ring = tenants.ring().load();
        let owner = |secret| ring.owner(&keys("any", &[secret]).keys[0]).cloned();
        assert_eq!(owner(1), Some(tenant("file")));
        assert_eq!(owner(3), Some(tenant("thief")));
        assert!(ring.contains(&tenant("acme")));
    }
}
