use std::collections::HashMap;
use std::sync::Arc;

use crate::tenancy::Allowance;

/// What a worker holds for clients with a session of messages that are not complete, beside what each
/// of them may have whatever there is: first messages have [a bound of their own](super::FirstFrames).
#[derive(Debug, Default)]
pub(crate) struct Unfinished {
    held: usize,
    by_tenant: HashMap<Usage, usize>,
}

/// Stands for a tenant as long as it has a connection: a key that costs a connection no memory.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Usage(usize);

impl Usage {
    pub(crate) fn of(allowance: &Allowance) -> Self {
        Self(Arc::as_ptr(&allowance.usage).addr())
    }
}

impl Unfinished {
    /// Bytes that everybody has.
    pub(crate) const EVERYBODYS: usize = 8 * 1_024;
    /// Bytes of a worker for who has more.
    const MOST: usize = 64 << 20;

    /// A connection of a tenant's holds `after` bytes, where it held `before`.
    pub(crate) fn change(&mut self, tenant: Usage, before: usize, after: usize) {
        let [before, after] = [before, after].map(|held| held.saturating_sub(Self::EVERYBODYS));
        if before == after {
            return;
        }
        let share = self.by_tenant.entry(tenant).or_default();
        *share = *share + after - before;
        if *share == 0 {
            self.by_tenant.remove(&tenant);
        }
        self.held = self.held + after - before;
    }

    /// Whether a tenant's connections hold no more than is free: one that is alone has half.
    pub(crate) fn has_room(&self, tenant: Usage) -> bool {
        let share = self.by_tenant.get(&tenant).copied().unwrap_or_default();
        share <= Self::MOST.saturating_sub(self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACME: Usage = Usage(1);
    const UMBRELLA: Usage = Usage(2);

    #[test]
    fn a_tenant_has_half_and_leaves_the_others_room() {
        let mut unfinished = Unfinished::default();
        let each = Unfinished::EVERYBODYS + (1 << 20);

        let most = |unfinished: &mut Unfinished, tenant| {
            (0..100).find(|_| {
                unfinished.change(tenant, 0, each);
                !unfinished.has_room(tenant)
            })
        };

        assert_eq!(most(&mut unfinished, ACME), Some(32));
        assert!(unfinished.has_room(UMBRELLA));
        assert_eq!(most(&mut unfinished, UMBRELLA), Some(15));
        for _ in 0..33 {
            unfinished.change(ACME, each, 0);
        }
        assert!(unfinished.has_room(ACME) && unfinished.has_room(UMBRELLA));
        assert_eq!(unfinished.by_tenant.len(), 1);
    }

    #[test]
    fn what_is_everybodys_is_not_counted() {
        let mut unfinished = Unfinished::default();

        for _ in 0..100_000 {
            unfinished.change(ACME, 0, Unfinished::EVERYBODYS);
        }

        assert_eq!((unfinished.held, unfinished.by_tenant.len()), (0, 0));
    }
}
