use std::collections::HashMap;

use tidewire_auth::Target;
use tidewire_model::Tenant;
use tidewire_store::{Revocation, Seen};

/// What has been read of the store, and what the store may have lost since.
#[derive(Default)]
pub(super) struct Known {
    pub(super) seen: Seen,
    kept: HashMap<(Tenant, String), Times>,
    /// What the store had before it began anew, and has not shown since.
    missed: HashMap<(Tenant, String), Times>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
struct Times {
    before: u64,
    until: u64,
}

impl Known {
    /// Takes note that the store begins anew, and may have lost anything.
    pub(super) fn reset(&mut self) {
        self.missed = self.kept.clone();
    }

    /// Takes what the store has. Whether it says more than what was known.
    pub(super) fn take(&mut self, revocation: &Revocation) -> bool {
        let name = (revocation.tenant.clone(), revocation.about.clone());
        let new = Times { before: revocation.before, until: revocation.until };
        let is_as_late = |times: &Times| new.before >= times.before && new.until >= times.until;
        if self.missed.get(&name).is_some_and(is_as_late) {
            self.missed.remove(&name);
        }
        let known = self.kept.entry(name).or_insert(Times { before: 0, until: 0 });
        let grown =
            Times { before: known.before.max(new.before), until: known.until.max(new.until) };
        let is_new = *known != grown;
        *known = grown;
        is_new
    }

    /// Up to `most` of what the store had once and has not any more.
    pub(super) fn missed(&self, most: usize) -> Vec<Revocation> {
        self.missed.iter().take(most).map(revocation).collect()
    }

    /// The store has these again, or has no room for them.
    pub(super) fn settled(&mut self, revocations: &[Revocation]) {
        for revocation in revocations {
            self.missed.remove(&(revocation.tenant.clone(), revocation.about.clone()));
        }
    }

    pub(super) fn forget(&mut self, now: u64) {
        self.kept.retain(|_, times| times.until > now);
        self.missed.retain(|_, times| times.until > now);
    }

    /// How many there are of a tenant, and in all.
    pub(super) fn count(&self, tenant: &Tenant) -> (usize, usize) {
        let of_tenant = self.kept.keys().filter(|(known, _)| known == tenant).count();
        (of_tenant, self.kept.len())
    }

    pub(super) fn of(&self, tenant: &Tenant) -> Vec<Revocation> {
        let of_tenant = self.kept.iter().filter(|((known, _), _)| known == tenant);
        let mut revocations: Vec<_> = of_tenant.map(revocation).collect();
        revocations.sort_by(|one, other| one.about.cmp(&other.about));
        revocations
    }
}

fn revocation(((tenant, about), times): (&(Tenant, String), &Times)) -> Revocation {
    let Times { before, until } = *times;
    Revocation { tenant: tenant.clone(), about: about.clone(), before, until }
}

/// As the store keeps it.
pub(super) fn stored(revocation: &tidewire_auth::Revocation) -> Revocation {
    let about = revocation.target.to_string();
    let (tenant, before, until) = (revocation.tenant.clone(), revocation.before, revocation.until);
    Revocation { tenant, about, before, until }
}

/// As it takes effect, if this version knows how.
pub(super) fn read(stored: &Revocation) -> Option<tidewire_auth::Revocation> {
    let target = Target::parse(&stored.about)?;
    let (tenant, before, until) = (stored.tenant.clone(), stored.before, stored.until);
    Some(tidewire_auth::Revocation { tenant, target, before, until })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, before: u64) -> Revocation {
        let tenant = Tenant::parse("acme").expect("tenant");
        Revocation { tenant, about: format!("user {name}"), before, until: before + 100 }
    }

    #[test]
    fn what_is_known_already_is_nothing_new() {
        let mut known = Known::default();

        assert!(known.take(&user("ada", 5)));
        assert!(!known.take(&user("ada", 5)));
        assert!(!known.take(&user("ada", 4)));
        assert!(known.take(&user("ada", 6)));
    }

    #[test]
    fn a_store_that_begins_anew_lacks_what_it_does_not_show_or_shows_as_it_was_earlier() {
        let mut known = Known::default();
        for revocation in [user("ada", 5), user("bob", 5), user("cid", 5)] {
            known.take(&revocation);
        }

        known.reset();
        known.take(&user("ada", 5));
        known.take(&user("bob", 4));

        let mut missed: Vec<_> = known.missed(9).into_iter().map(|one| one.about).collect();
        missed.sort();
        assert_eq!(missed, ["user bob", "user cid"]);
        assert_eq!(known.missed(1).len(), 1);
        known.settled(&[user("bob", 5)]);
        known.forget(105);
        assert!(known.missed(9).is_empty());
    }
}
