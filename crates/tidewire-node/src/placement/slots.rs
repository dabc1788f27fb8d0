use std::sync::atomic::{AtomicU64, Ordering};

use tidewire_model::{NodeId, Tenant};
use tidewire_store::{NodeLease, NodeState};

use super::{Rank, candidate, node_of_each_slot};

/// The slots of the nodes that take clients, as this node knows them: what its tenants' homes follow
/// from.
#[derive(Debug)]
pub(crate) struct Slots {
    /// By slot, with their weights.
    weights: Vec<(String, u32)>,
    rank: Rank,
    /// The place of this node's own slot among them.
    own: Option<u32>,
    /// Another number each time something is otherwise; 0 while nothing is known.
    version: u64,
}

/// Whether a tenant is at home on a node, as was found the last time: asked again, it costs no hash
/// as long as the slots are the same.
#[derive(Debug, Default)]
pub struct AtHome(AtomicU64);

impl Slots {
    /// What is known before the first lease has been read: nothing.
    pub(crate) fn unknown() -> Self {
        Self { weights: Vec::new(), rank: Rank::new([]), own: None, version: 0 }
    }

    /// What follows from `members`, if it is otherwise than what `self` says. A node's load is
    /// nothing that matters here.
    pub(crate) fn after(&self, own: &NodeId, members: &[NodeLease]) -> Option<Self> {
        let mut nodes = node_of_each_slot(members);
        nodes.retain(|_, lease| lease.state == NodeState::Ready);
        let weights: Vec<_> =
            nodes.values().map(|lease| (lease.slot().to_owned(), lease.weight)).collect();
        let own = members.iter().find(|lease| lease.node == *own).map(NodeLease::slot);
        let own = own.and_then(|own| weights.iter().position(|(slot, _)| slot == own));
        let own = own.and_then(|own| u32::try_from(own).ok());
        if self.version > 0 && self.weights == weights && self.own == own {
            return None;
        }
        let rank = Rank::new(nodes.values().map(|lease| candidate(lease)));
        Some(Self { weights, rank, own, version: self.version + 1 })
    }

    /// Whether the own slot is among a tenant's `k` homes. Where no other node takes clients, and
    /// where nothing is known, everybody is at home.
    pub(crate) fn is_home(&self, tenant: &Tenant, k: usize, known: &AtHome) -> bool {
        if self.rank.len() <= k && (self.own.is_some() || self.rank.is_empty()) {
            return true;
        }
        let Some(own) = self.own else { return false };
        let found = known.0.load(Ordering::Relaxed);
        if found >> 1 == self.version {
            return found & 1 == 1;
        }
        let mut best = Vec::with_capacity(k);
        self.rank.top(tenant, k, &mut best);
        let is_home = best.iter().any(|ranked| ranked.index == own);
        known.0.store(self.version << 1 | u64::from(is_home), Ordering::Relaxed);
        is_home
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lease, nodes, tenant};
    use super::*;

    fn own() -> NodeId {
        NodeId::parse("node-0").expect("node")
    }

    fn slots(members: &[NodeLease]) -> Slots {
        Slots::unknown().after(&own(), members).expect("news")
    }

    #[test]
    fn a_tenant_is_at_home_where_its_own_slot_is_among_the_first() {
        let slots = slots(&nodes(4));

        // node-0 is third for acme and first for globex, as the vectors have it.
        let is_home = |name, k| slots.is_home(&tenant(name), k, &AtHome::default());

        assert_eq!([1, 2, 3, 4].map(|k| is_home("acme", k)), [false, false, true, true]);
        assert!(is_home("globex", 1));
    }

    #[test]
    fn alone_or_before_anything_is_known_everybody_is_at_home() {
        let known = AtHome::default();

        assert!(Slots::unknown().is_home(&tenant("acme"), 1, &known));
        assert!(slots(&nodes(1)).is_home(&tenant("acme"), 1, &known));
    }

    #[test]
    fn nobody_is_at_home_on_a_node_that_drains_beside_others() {
        let mut members = nodes(2);
        members[0].state = NodeState::Draining;

        assert!(!slots(&members).is_home(&tenant("acme"), 2, &AtHome::default()));
        assert!(slots(&members[..1]).is_home(&tenant("acme"), 2, &AtHome::default()));
    }

    #[test]
    fn only_slots_weights_and_states_are_news() {
        let members = nodes(3);
        let slots = slots(&members);
        let changed = |change: fn(&mut NodeLease)| {
            let mut members = members.clone();
            change(&mut members[2]);
            slots.after(&own(), &members).is_some()
        };

        assert!(!changed(|lease| lease.connections = 9));
        assert!(!changed(|lease| lease.load.cpu_permille = 9));
        assert!(changed(|lease| lease.weight = 9));
        assert!(changed(|lease| lease.state = NodeState::Draining));
        assert!(changed(|lease| *lease = super::super::tests::lease("other")));
        assert!(slots.after(&own(), &members[..2]).is_some());
    }

    #[test]
    fn a_restart_into_the_same_slot_is_no_news() {
        let with_slot = |node: &str| NodeLease {
            node: NodeId::parse(node).expect("node"),
            started_at_ms: 1,
            ..lease("node-1")
        };
        let slot = tidewire_model::Slot::parse("node-1").expect("slot");
        let again = NodeLease { slot: Some(slot), ..with_slot("node-1-4711") };

        assert!(slots(&nodes(2)).after(&own(), &[lease("node-0"), again]).is_none());
    }

    #[test]
    fn what_is_known_is_not_computed_again_until_the_slots_change() {
        let members = nodes(4);
        let slots = slots(&members);
        let known = AtHome::default();
        slots.is_home(&tenant("globex"), 1, &known);

        // Whoever asks for another tenant with what is known of this one is told of this one.
        assert!(slots.is_home(&tenant("acme"), 1, &known), "it was not looked up");
        let fewer = slots.after(&own(), &members[..3]).expect("news");
        assert!(!fewer.is_home(&tenant("acme"), 1, &known));
    }
}
