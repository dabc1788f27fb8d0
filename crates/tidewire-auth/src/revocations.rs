use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tidewire_model::{ByTenant, ChannelGrant, Identity, Live, Provenance, Tenant, Trace, UserId};

use crate::{KeyId, TokenId};

/// What is void of what was issued, of all tenants: a cheap handle, of which all clones show the same.
///
/// Asking takes no lock and a few look-ups, however much is revoked. Nothing is ever taken back: what
/// is added twice, or late, changes nothing, and only times that have passed are forgotten.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    tenants: Live<ByTenant<Arc<Void>>>,
    /// Held by whoever replaces them.
    turn: Arc<Mutex<()>>,
}

/// That something which was issued is void.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revocation {
    pub tenant: Tenant,
    pub target: Target,
    /// Seconds since the Unix epoch: what was issued then or before is void. A token that does not say
    /// when it was issued was issued before. One that is named is void whenever it was.
    pub before: u64,
    /// Seconds since the Unix epoch: when everything that it is about has expired.
    pub until: u64,
}

/// What is revoked.
///
/// It is written as `token ID`, `user NAME`, `key ID` or `all`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Target {
    Token(TokenId),
    /// Every token of a user.
    User(UserId),
    /// Every token that a key has signed.
    Key(KeyId),
    /// Every token of the tenant.
    All,
}

#[derive(Clone, Debug, Default)]
struct Void {
    tokens: HashMap<Trace, Times>,
    users: HashMap<UserId, Times>,
    keys: HashMap<Trace, Times>,
    all: Option<Times>,
}

#[derive(Clone, Copy, Debug)]
struct Times {
    before: u64,
    until: u64,
}

impl Revocations {
    pub fn add<'a>(&self, revocations: impl IntoIterator<Item = &'a Revocation>) {
        let _turn = self.turn.lock();
        let mut tenants = (*self.tenants.load()).clone();
        let mut changed: HashMap<&Tenant, Arc<Void>> = HashMap::new();
        for revocation in revocations {
            let tenant = &revocation.tenant;
            let known = || tenants.get(tenant).cloned().unwrap_or_default();
            let void = changed.entry(tenant).or_insert_with(known);
            Arc::make_mut(void).add(revocation);
        }
        for (tenant, void) in changed {
            tenants.set(tenant.clone(), void);
        }
        self.tenants.replace(tenants);
    }

    /// Forgets what is about nothing any more, where `now` is in seconds since the Unix epoch.
    pub fn forget(&self, now: u64) {
        let _turn = self.turn.lock();
        let mut tenants = (*self.tenants.load()).clone();
        let old = |(_, void): &(&Tenant, &Arc<Void>)| void.has_any(|times| times.until <= now);
        let old: Vec<_> = self.tenants.read(|all| {
            all.iter()
                .filter(old)
                .map(|(tenant, void)| (tenant.clone(), Arc::clone(void)))
                .collect()
        });
        if old.is_empty() {
            return;
        }
        for (tenant, mut void) in old {
            Arc::make_mut(&mut void).retain(|times| times.until > now);
            if void.len() == 0 {
                tenants.remove(&tenant);
            } else {
                tenants.set(tenant, void);
            }
        }
        self.tenants.replace(tenants);
    }

    /// Whether who has this identity has it no more.
    pub fn voids(&self, identity: &Identity) -> bool {
        self.voids_proof(identity, identity.provenance.as_ref())
    }

    /// Whether what else somebody was granted is void, by what it was proved.
    pub fn voids_grant(&self, bearer: &Identity, grant: &ChannelGrant) -> bool {
        self.voids_proof(bearer, Some(&grant.provenance))
    }

    fn voids_proof(&self, bearer: &Identity, proof: Option<&Provenance>) -> bool {
        let Identity { tenant, user, .. } = bearer;
        self.tenants.read(|all| all.get(tenant).is_some_and(|void| void.voids(user, proof)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tenants.read(|all| all.iter().map(|(_, void)| void.len()).sum())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Void {
    fn add(&mut self, revocation: &Revocation) {
        let Revocation { target, before, until, .. } = revocation;
        let times = Times { before: *before, until: *until };
        match target {
            Target::Token(token) => grow(&mut self.tokens, token.trace(), times),
            Target::User(user) => grow(&mut self.users, user.clone(), times),
            Target::Key(key) => grow(&mut self.keys, key.trace(), times),
            Target::All => self.all = Some(self.all.map_or(times, |known| known.later(times))),
        }
    }

    fn voids(&self, user: &UserId, proved: Option<&Provenance>) -> bool {
        let issued_at = proved.map_or(0, |proved| proved.issued_at);
        let reaches = |times: &Times| issued_at <= times.before;
        self.all.as_ref().is_some_and(reaches)
            || self.users.get(user).is_some_and(reaches)
            || proved.is_some_and(|proved| {
                self.keys.get(&proved.key).is_some_and(reaches)
                    || proved.token.is_some_and(|token| self.tokens.contains_key(&token))
            })
    }

    fn has_any(&self, is_so: impl Fn(&Times) -> bool) -> bool {
        let named = self.tokens.values().chain(self.users.values()).chain(self.keys.values());
        named.chain(&self.all).any(is_so)
    }

    fn retain(&mut self, is_so: impl Fn(&Times) -> bool) {
        self.tokens.retain(|_, times| is_so(times));
        self.users.retain(|_, times| is_so(times));
        self.keys.retain(|_, times| is_so(times));
        self.all = self.all.filter(is_so);
    }

    fn len(&self) -> usize {
        self.tokens.len() + self.users.len() + self.keys.len() + usize::from(self.all.is_some())
    }
}

fn grow<K: Eq + Hash>(all: &mut HashMap<K, Times>, name: K, times: Times) {
    let known = all.entry(name).or_insert(times);
    *known = known.later(times);
}

impl Times {
    fn later(self, other: Self) -> Self {
        let (before, until) = (self.before.max(other.before), self.until.max(other.until));
        Self { before, until }
    }
}

impl Target {
    /// What a text is about, as far as this version knows.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "all" {
            return Some(Self::All);
        }
        let (kind, name) = text.split_once(' ')?;
        match kind {
            "token" => TokenId::parse(name).ok().map(Self::Token),
            "user" => UserId::parse(name).ok().map(Self::User),
            "key" => KeyId::parse(name).ok().map(Self::Key),
            _ => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(token) => write!(f, "token {token}"),
            Self::User(user) => write!(f, "user {user}"),
            Self::Key(key) => write!(f, "key {key}"),
            Self::All => f.write_str("all"),
        }
    }
}
