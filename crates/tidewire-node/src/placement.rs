//! Where a tenant belongs, computed by anyone from the same inputs.
//!
//! Rendezvous hashing: each (tenant, slot) pair has a score, and a tenant's placement is the slots by
//! descending score; the first few are its homes. When a slot goes, only the tenants that were at
//! home there move, each to its own next; when one comes, it takes an equal share from all. Placement
//! is an optimisation: any node serves any tenant correctly.

mod rank;
mod slots;

use std::collections::BTreeMap;

use tidewire_model::Tenant;
use tidewire_store::{NodeLease, NodeState};

pub use rank::{Candidate, Rank, Ranked};
pub use slots::AtHome;
pub(crate) use slots::Slots;

/// Where a tenant belongs: one node for each slot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Placement {
    /// How many homes it should have.
    pub k: usize,
    /// Those it has, best first: fewer than it should where fewer nodes take clients.
    pub homes: Vec<NodeLease>,
    /// Where it would go next, in this order; nodes that drain come last.
    pub others: Vec<NodeLease>,
}

/// The homes of one tenant after the other, on the nodes that took clients at one moment.
#[derive(Debug)]
pub struct Homes {
    nodes: Vec<NodeLease>,
    rank: Rank,
    /// Reused.
    best: Vec<Ranked>,
}

impl Homes {
    pub fn among(members: &[NodeLease]) -> Self {
        let nodes = node_of_each_slot(members).into_values();
        Self::on(nodes.filter(|lease| lease.state == NodeState::Ready))
    }

    fn on<'a>(nodes: impl Iterator<Item = &'a NodeLease>) -> Self {
        let nodes: Vec<_> = nodes.cloned().collect();
        let rank = Rank::new(nodes.iter().map(candidate));
        Self { nodes, rank, best: Vec::new() }
    }

    /// The `k` best for a tenant, or all if they are fewer, best first.
    pub fn of(&mut self, tenant: &Tenant, k: usize) -> impl Iterator<Item = &NodeLease> {
        self.rank.top(tenant, k, &mut self.best);
        self.best.iter().map(|ranked| &self.nodes[ranked.index as usize])
    }
}

/// Places a tenant that should have `k` homes on `members`. Nodes that drain are nobody's home, and
/// keep their order among themselves.
pub fn placement(tenant: &Tenant, members: &[NodeLease], k: usize) -> Placement {
    let nodes: Vec<_> = node_of_each_slot(members).into_values().collect();
    let (draining, ready): (Vec<_>, Vec<_>) =
        nodes.into_iter().partition(|lease| lease.state == NodeState::Draining);
    let mut homes = in_rank(tenant, ready);
    let mut others = homes.split_off(k.min(homes.len()));
    others.extend(in_rank(tenant, draining));
    Placement { k, homes, others }
}

/// While a slot changes hands two nodes have it. Whoever takes clients speaks for it, and of several
/// the youngest, which is there to stay.
fn node_of_each_slot(members: &[NodeLease]) -> BTreeMap<&str, &NodeLease> {
    let mut nodes: BTreeMap<&str, &NodeLease> = BTreeMap::new();
    let standing = |lease: &NodeLease| (lease.state == NodeState::Ready, lease.started_at_ms);
    for lease in members {
        let known = nodes.entry(lease.slot()).or_insert(lease);
        if standing(lease) > standing(known) {
            *known = lease;
        }
    }
    nodes
}

fn in_rank(tenant: &Tenant, nodes: Vec<&NodeLease>) -> Vec<NodeLease> {
    let k = nodes.len();
    Homes::on(nodes.into_iter()).of(tenant, k).cloned().collect()
}

fn candidate(lease: &NodeLease) -> Candidate<'_> {
    Candidate { slot: lease.slot(), weight: lease.weight }
}

#[cfg(test)]
mod tests;
