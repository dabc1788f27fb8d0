use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU8;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tidewire_auth::{IssuerName, KeyRing, TenantKeys, VerificationKey};
use tidewire_model::{ByTenant, Channel, DeltaFormat, Live, LiveRules, SessionKind, Tenant};

use crate::{CookieName, Definition, Incarnation, KeySource, Origins, OwnLimits};

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
    /// How many times any of them was replaced.
    version: Arc<AtomicU64>,
    /// All keys of those that go without some of them. Held by whoever replaces anything here.
    robbed: Arc<Mutex<BTreeMap<Tenant, TenantKeys>>>,
    /// There are others, of which nothing has been read yet.
    is_incomplete: Arc<AtomicBool>,
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
    /// Of those that were set, the ones that are others than those who had the name before.
    pub replaced: Vec<Tenant>,
    /// Not done, because the node's file has a tenant of that name.
    pub shadowed: Vec<Tenant>,
    /// Of those that were set, the ones that go without a key, because another has it.
    pub robbed: Vec<Tenant>,
}

/// How many nodes a tenant's clients are to meet on, unless it has a number of its own: with two, one
/// may go without all of them having to come back at once.
pub const DEFAULT_HOMES: usize = 2;

/// How a tenant is treated, apart from its channels.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TenantDetails {
    /// Which one of the name it is.
    pub incarnation: Incarnation,
    pub sessions: SessionKind,
    /// Nodes that its clients are to meet on, if it has its own number.
    pub homes: Option<NonZeroU8>,
    /// What of the node's limits is otherwise for it.
    pub limits: OwnLimits,
    /// Where pages may be from that use it; empty for anywhere.
    pub origins: Origins,
    /// The cookie that holds its users' tokens, if there is one.
    pub cookie: Option<CookieName>,
    /// Where the keys of its issuer are fetched from.
    pub key_source: Option<KeySource>,
}

impl Tenants {
    /// The tenants of `ring`, each treated as ordinary unless `details` says otherwise.
    pub fn new(
        ring: KeyRing,
        rules: impl Into<LiveRules>,
        details: impl IntoIterator<Item = (Tenant, TenantDetails)>,
    ) -> Self {
        let details = details.into_iter().map(|(tenant, details)| (tenant, Arc::new(details)));
        let details: ByTenant<_> = details.collect();
        let rules = rules.into();
        limit_channels(&rules, &details);
        let fixed = Arc::new(ring.tenants().cloned().collect());
        let (ring, details) = (Live::new(ring), Live::new(details));
        Self { ring, rules, details, fixed, ..Self::default() }
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

    /// Whether there may be tenants of which nothing has been read yet: that one is not known says
    /// nothing then.
    pub fn is_incomplete(&self) -> bool {
        self.is_incomplete.load(Ordering::Relaxed)
    }

    /// There are more tenants, which are still to be read.
    pub fn expect_more(&self) {
        self.is_incomplete.store(true, Ordering::Relaxed);
    }

    /// All tenants have been read.
    pub fn expect_no_more(&self) {
        self.is_incomplete.store(false, Ordering::Relaxed);
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
    /// A tenant of the file stays as it is. Of a key that two tenants have, the one that had it keeps
    /// it, and the other goes without until it is free: one that is wrong harms itself only. Of two
    /// that come for it at once the first by name gets it, in whatever order the changes are.
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) -> Applied {
        let mut robbed = self.robbed.lock();
        let mut ring = (*self.ring.load()).clone();
        let mut rules = (*self.rules.load()).clone();
        let mut details = (*self.details.load()).clone();
        let mut applied = Applied::default();
        let mut set = HashSet::new();
        for change in changes {
            let tenant = change.tenant().clone();
            if self.is_fixed(&tenant) {
                applied.shadowed.push(tenant);
                continue;
            }
            match change {
                Change::Remove(_) => {
                    rules.remove(&tenant);
                    details.remove(&tenant);
                    robbed.remove(&tenant);
                    if ring.remove(&tenant) {
                        applied.removed.push(tenant);
                    }
                }
                Change::Set(definition) => {
                    let Definition { keys, rules: new_rules, details: new_details } = *definition;
                    rules.set(tenant.clone(), new_rules);
                    let limits = new_details.limits.channels(rules.ordinary_limits());
                    rules.set_limits(&tenant, limits);
                    let incarnation = new_details.incarnation;
                    let before = details.set(tenant.clone(), Arc::new(new_details));
                    if before.is_some_and(|before| before.incarnation != incarnation) {
                        applied.replaced.push(tenant.clone());
                    }
                    applied.set += 1;
                    // Nobody is given a key before everybody has given back what is not theirs now.
                    give(&mut ring, &keys, |owner| owner == Some(&tenant));
                    robbed.insert(tenant.clone(), keys);
                    set.insert(tenant);
                }
            }
        }
        robbed.retain(|tenant, keys| {
            !give(&mut ring, keys, |owner| owner.is_none_or(|owner| owner == tenant))
        });
        applied.robbed = robbed.keys().filter(|tenant| set.contains(*tenant)).cloned().collect();
        // The keys come last: who connects with them is treated as the tenant is to be.
        self.rules.replace(rules);
        self.details.replace(details);
        self.ring.replace(ring);
        self.version.fetch_add(1, Ordering::Release);
        applied
    }

    /// Takes the keys that a tenant's issuer has published, instead of those before. Yields whether it
    /// is still the tenant's issuer: otherwise nothing has changed.
    pub fn publish(
        &self,
        tenant: &Tenant,
        issuer: &IssuerName,
        keys: Vec<VerificationKey>,
    ) -> bool {
        let _turn = self.robbed.lock();
        let mut ring = (*self.ring.load()).clone();
        let is_taken = ring.publish(tenant, issuer, keys);
        if is_taken {
            self.ring.replace(ring);
        }
        is_taken
    }

    /// Where the issuers of all tenants that have one publish their keys.
    pub fn key_sources(&self) -> Vec<(Tenant, KeySource)> {
        self.details.read(|details| {
            let source = |(tenant, details): (&Tenant, &Arc<TenantDetails>)| {
                Some((tenant.clone(), details.key_source.clone()?))
            };
            details.iter().filter_map(source).collect()
        })
    }

    /// Another number after each change: for one who keeps what follows from what holds.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.ring.read(|ring| ring.tenants().count())
    }

    /// How a tenant is treated, if it is treated otherwise than most are.
    pub fn details(&self, tenant: &Tenant) -> Option<Arc<TenantDetails>> {
        self.details.read(|details| details.get(tenant).cloned())
    }

    /// Which one of the name a tenant is.
    pub fn incarnation(&self, tenant: &Tenant) -> Incarnation {
        let incarnation = |details: &Arc<TenantDetails>| details.incarnation;
        self.details.read(|details| details.get(tenant).map(incarnation).unwrap_or_default())
    }

    /// How a tenant's sessions are kept.
    pub fn session_kind(&self, tenant: &Tenant) -> SessionKind {
        let kind = |details: &Arc<TenantDetails>| details.sessions;
        self.details.read(|details| details.get(tenant).map(kind).unwrap_or_default())
    }

    /// How many nodes a tenant's clients are to meet on.
    pub fn homes(&self, tenant: &Tenant) -> usize {
        let homes = |details: &Arc<TenantDetails>| details.homes;
        let own = self.details.read(|details| details.get(tenant).and_then(homes));
        own.map_or(DEFAULT_HOMES, |homes| usize::from(homes.get()))
    }

    /// Whether what comes from a page of `origin`, in lower case, may use a tenant. What comes from no page
    /// may.
    pub fn allows_origin(&self, tenant: &Tenant, origin: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        let is_allowed = |details: &Arc<TenantDetails>| {
            details.origins.is_empty() || details.origins.contains(origin)
        };
        self.details.read(|details| details.get(tenant).is_none_or(is_allowed))
    }

    /// Whether pages of `origin`, in lower case, are among those that a tenant names.
    pub fn lists_origin(&self, tenant: &Tenant, origin: &str) -> bool {
        let is_listed = |details: &Arc<TenantDetails>| details.origins.contains(origin);
        self.details.read(|details| details.get(tenant).is_some_and(is_listed))
    }

    /// The cookie that a tenant's pages have their users' tokens in.
    pub fn cookie(&self, tenant: &Tenant) -> Option<CookieName> {
        self.details.read(|details| details.get(tenant)?.cookie.clone())
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

/// Has the channels of tenants that have limits of their own go by them.
fn limit_channels(rules: &LiveRules, details: &ByTenant<Arc<TenantDetails>>) {
    let is_limited = |(_, details): &(_, &Arc<TenantDetails>)| !details.limits.is_empty();
    if details.iter().any(|one| is_limited(&one)) {
        let mut limited = (*rules.load()).clone();
        for (tenant, details) in details.iter().filter(is_limited) {
            let limits = details.limits.channels(limited.ordinary_limits());
            limited.set_limits(tenant, limits);
        }
        rules.replace(limited);
    }
}

/// Leaves a tenant those of its keys, and its issuer, that it may have, by whose each is now. Says whether that is all.
fn give(
    ring: &mut KeyRing,
    wanted: &TenantKeys,
    may_have: impl Fn(Option<&Tenant>) -> bool,
) -> bool {
    let keys = wanted.keys.iter().filter(|key| may_have(ring.owner(key))).cloned().collect();
    let issuer = wanted.issuer.clone();
    let issuer = issuer.filter(|issuer| may_have(ring.tenant_of_issuer(issuer.name.as_str())));
    let given = TenantKeys { keys, issuer, ..wanted.clone() };
    let is_all = given.keys.len() == wanted.keys.len() && given.issuer == wanted.issuer;
    // What does not stand by itself was refused when it was checked.
    ring.set(given).is_ok() && is_all
}

#[cfg(test)]
mod tests {
    use tidewire_auth::{Issuer, KeyId};
    use tidewire_model::{ChannelLimits, ChannelRule, ChannelRules, Filter, Permissions};

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
        TenantKeys { tenant: tenant(name), keys, api_keys: Vec::new(), issuer: None }
    }

    fn set(name: &str, secrets: &[u8]) -> Change {
        let rules = vec![ChannelRule::new(Filter::parse("**").expect("filter"))];
        let (sessions, homes) = (SessionKind::Strict, NonZeroU8::new(7));
        let details = TenantDetails { sessions, homes, ..TenantDetails::default() };
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
        assert_eq!(tenants.homes(&acme), 7);
        assert_eq!(tenants.rules().load().of(&acme).len(), 1);

        let gone = tenants.apply([Change::Remove(acme.clone()), Change::Remove(tenant("nobody"))]);
        assert_eq!(gone, Applied { removed: vec![acme.clone()], ..Applied::default() });
        assert!(!tenants.contains(&acme));
        assert_eq!(tenants.session_kind(&acme), SessionKind::Lazy);
        assert_eq!(tenants.homes(&acme), DEFAULT_HOMES);
        assert!(tenants.rules().load().of(&acme).is_empty());
    }

    #[test]
    fn channels_go_by_the_limits_of_their_tenant_as_long_as_it_has_them() {
        let of_all = ChannelLimits { followed: Some(7), ..ChannelLimits::default() };
        let limits = |channels| OwnLimits { tenant_channels: channels, ..OwnLimits::default() };
        let details = |channels| TenantDetails { limits: limits(channels), ..Default::default() };
        let ring = KeyRing::new([keys("file", &[1])]).expect("ring");
        let rules = ChannelRules::default().with_limits(of_all);
        let tenants = Tenants::new(ring, rules, [(tenant("file"), details(Some(1)))]);
        let followed = |name| tenants.rules().load().limits(&tenant(name)).followed;
        let set_to = |channels| {
            let Change::Set(mut definition) = set("acme", &[2]) else { unreachable!("a set") };
            definition.details = details(channels);
            tenants.apply([Change::Set(definition)]);
        };

        assert_eq!((followed("file"), followed("acme")), (Some(1), Some(7)));
        set_to(Some(3));
        assert_eq!((followed("file"), followed("acme")), (Some(1), Some(3)));
        set_to(None);
        assert_eq!(followed("acme"), Some(7));
        set_to(Some(3));
        tenants.apply([Change::Remove(tenant("acme"))]);
        assert_eq!(followed("acme"), Some(7));
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

    #[test]
    fn a_key_changes_hands_in_one_call_in_any_order() {
        for is_taken_first in [true, false] {
            let tenants = of_file();
            tenants.apply([set("old", &[2]), set("acme", &[3])]);
            let mut changes =
                [set("new", &[2, 3]), Change::Remove(tenant("old")), set("acme", &[4])];
            if !is_taken_first {
                changes.reverse();
            }

            let applied = tenants.apply(changes);

            assert_eq!(applied.robbed, []);
            assert_eq!(owners(&tenants, [2, 3, 4]), ["new", "new", "acme"]);
        }
    }

    #[test]
    fn who_goes_without_a_key_gets_it_once_it_is_free_unless_it_is_gone() {
        let tenants = of_file();
        tenants.apply([set("old", &[2, 3])]);

        // Newest first, as when the old one was changed again after the key had changed hands.
        assert_eq!(tenants.apply([set("new", &[2, 4])]).robbed, [tenant("new")]);
        tenants.apply([set("gone", &[3]), set("other", &[5])]);
        tenants.apply([Change::Remove(tenant("gone"))]);
        assert_eq!(owners(&tenants, [2, 3, 4]), ["old", "old", "new"]);
        let applied = tenants.apply([set("old", &[6])]);

        assert_eq!(applied, Applied { set: 1, ..Applied::default() });
        assert_eq!(owners(&tenants, [2, 3, 4, 6]), ["new", "-", "new", "old"]);
    }

    #[test]
    fn who_has_a_key_keeps_it_though_it_is_changed_together_with_who_wants_it() {
        let tenants = of_file();
        tenants.apply([set("owner", &[2])]);

        let applied = tenants.apply([set("a-thief", &[2]), set("owner", &[2, 3])]);

        assert_eq!(applied.robbed, [tenant("a-thief")]);
        assert_eq!(owners(&tenants, [2, 3]), ["owner", "owner"]);
    }

    #[test]
    fn an_issuer_changes_hands_like_a_key_and_its_keys_do_not_go_with_it() {
        let tenants = of_file();
        let issued = |name, is_issued: bool| {
            let issuer = Issuer {
                name: IssuerName::parse("https://issuer.example").expect("issuer"),
                audience: None,
                permissions: Permissions::default(),
            };
            let issuer = is_issued.then_some(issuer);
            let Change::Set(mut definition) = set(name, &[]) else { unreachable!("a set") };
            definition.keys.issuer = issuer;
            Change::Set(definition)
        };
        let name = IssuerName::parse("https://issuer.example").expect("issuer");
        let owner = || tenants.ring().load().tenant_of_issuer(name.as_str()).cloned();
        tenants.apply([issued("old", true)]);
        assert!(tenants.publish(&tenant("old"), &name, Vec::new()));

        assert_eq!(tenants.apply([issued("new", true)]).robbed, [tenant("new")]);
        assert_eq!(owner(), Some(tenant("old")));
        assert!(!tenants.publish(&tenant("new"), &name, Vec::new()));

        assert_eq!(tenants.apply([issued("old", false)]).robbed, []);
        assert_eq!(owner(), Some(tenant("new")));
        assert!(!tenants.publish(&tenant("old"), &name, Vec::new()));
        assert!(tenants.publish(&tenant("new"), &name, Vec::new()));
    }

    fn owners<const N: usize>(tenants: &Tenants, secrets: [u8; N]) -> [String; N] {
        let ring = tenants.ring().load();
        secrets.map(|secret| {
            let owner = ring.owner(&keys("any", &[secret]).keys[0]);
            owner.map_or("-", Tenant::as_str).to_owned()
        })
    }
}
