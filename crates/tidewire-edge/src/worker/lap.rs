//! Who is to be read again: tenants in turns.

use std::collections::{HashMap, VecDeque};

use tidewire_model::{ConnectionId, Tenant};

/// Connections that have more to be read, or to be done of what was read, than they had a turn for.
///
/// The tenants take turns at it, so that one with thousands of busy connections costs another's what
/// one of them may ask at once. Those of whom it is not known yet whose they are count as one tenant.
#[derive(Debug, Default)]
pub(crate) struct Lap {
    waiting: HashMap<Option<Tenant>, VecDeque<ConnectionId>>,
    /// Those that have somebody waiting, the next first.
    turns: VecDeque<Option<Tenant>>,
    len: usize,
}

impl Lap {
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, tenant: Option<&Tenant>, connection: ConnectionId) {
        let tenant = tenant.cloned();
        let waiting = self.waiting.entry(tenant.clone()).or_default();
        if waiting.is_empty() {
            self.turns.push_back(tenant);
        }
        waiting.push_back(connection);
        self.len += 1;
    }

    /// Whose turn it is next, but for tenants that are held up.
    pub(crate) fn next(&mut self, is_held_up: impl Fn(&Tenant) -> bool) -> Option<ConnectionId> {
        let at = self.turns.iter().position(|tenant| !tenant.as_ref().is_some_and(&is_held_up))?;
        let tenant = self.turns.remove(at)?;
        let waiting = self.waiting.get_mut(&tenant)?;
        let connection = waiting.pop_front()?;
        self.len -= 1;
        if waiting.is_empty() {
            self.waiting.remove(&tenant);
        } else {
            self.turns.push_back(tenant);
        }
        Some(connection)
    }

    /// Whether it is anybody's turn, but for tenants that are held up.
    pub(crate) fn has_work(&self, is_held_up: impl Fn(&Tenant) -> bool) -> bool {
        self.turns.iter().any(|tenant| !tenant.as_ref().is_some_and(&is_held_up))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Tenant {
        Tenant::parse(name).expect("tenant")
    }

    fn order(lap: &mut Lap, is_held_up: impl Fn(&Tenant) -> bool) -> Vec<u64> {
        std::iter::from_fn(|| lap.next(&is_held_up)).map(|connection| connection.0).collect()
    }

    #[test]
    fn tenants_take_turns_however_many_of_theirs_wait() {
        let (acme, umbrella) = (tenant("acme"), tenant("umbrella"));
        let mut lap = Lap::default();
        (0..5).for_each(|id| lap.push(Some(&acme), ConnectionId(id)));
        lap.push(Some(&umbrella), ConnectionId(10));
        lap.push(None, ConnectionId(20));
        lap.push(Some(&umbrella), ConnectionId(11));

        assert_eq!(lap.len(), 8);
        assert_eq!(order(&mut lap, |_| false), [0, 10, 20, 1, 11, 2, 3, 4]);
        assert_eq!((lap.len(), lap.waiting.len()), (0, 0));
    }

    #[test]
    fn who_is_held_up_keeps_its_turn_and_nobody_else() {
        let (acme, umbrella) = (tenant("acme"), tenant("umbrella"));
        let mut lap = Lap::default();
        lap.push(Some(&acme), ConnectionId(1));
        lap.push(Some(&umbrella), ConnectionId(2));

        assert_eq!(order(&mut lap, |one| *one == acme), [2]);

        assert!(lap.has_work(|_| false) && !lap.has_work(|one| *one == acme));
        assert_eq!(order(&mut lap, |_| false), [1]);
    }
}
