//! Where clients may go that are asked to move.

use tidewire_model::{NodeId, Tenant};
use tidewire_node::placement;
use tidewire_store::{NodeLease, NodeState};

use crate::edge::Shared;

/// Addresses in one hint: whoever can reach none of these needs something else than a fourth.
const MOST: usize = 3;

impl Shared {
    /// Where nodes are reached that take clients and have said where.
    ///
    /// In an order of their own for everybody who asks, so that a node's clients spread over the others:
    /// what leases say of loads is a second old, and a thousand clients move in that.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        let draw = getrandom::u64().unwrap_or_default();
        endpoints(self.node.id(), &self.node.members(), draw)
    }

    /// Where nodes are reached that have less than their share of the clients: homes of a tenant's if any
    /// of them has, and any node if nobody has, as far as leases say. They are older than what this node
    /// knows of itself.
    pub(crate) fn emptier(&self, tenant: &Tenant) -> Vec<String> {
        let (own, members) = (self.node.id(), self.node.members());
        let homes = placement(tenant, &members, self.tenants.homes(tenant)).homes;
        let draw = getrandom::u64().unwrap_or_default();
        let urls =
            [emptier((own, &homes), &members, draw), emptier((own, &members), &members, draw)];
        let found = urls.into_iter().find(|urls| !urls.is_empty());
        found.unwrap_or_else(|| endpoints(own, &members, draw))
    }
}

/// Those of `some` that have less than their share of what all have.
fn emptier((own, some): (&NodeId, &[NodeLease]), all: &[NodeLease], draw: u64) -> Vec<String> {
    let all = || all.iter().filter(|one| one.state == NodeState::Ready);
    let clients: u64 = all().map(|one| one.connections).sum();
    let weights: u64 = all().map(|one| u64::from(one.weight)).sum();
    let is_emptier = |one: &&NodeLease| {
        let has = u128::from(one.connections) * u128::from(weights);
        has < u128::from(clients) * u128::from(one.weight)
    };
    let others = some.iter().filter(|one| one.node != *own && one.state == NodeState::Ready);
    some_of(others.filter(is_emptier).filter_map(|one| one.url.as_deref()).collect(), draw)
}

fn endpoints(own: &NodeId, members: &[NodeLease], draw: u64) -> Vec<String> {
    let others = members.iter().filter(|one| one.node != *own && one.state == NodeState::Ready);
    some_of(others.filter_map(|one| one.url.as_deref()).collect(), draw)
}

/// As many as one hint has, in the order of their drawing.
pub(crate) fn some_of(mut urls: Vec<&str>, mut draw: u64) -> Vec<String> {
    for place in 0..urls.len().min(MOST) {
        let left = (urls.len() - place) as u64;
        let chosen = usize::try_from(draw % left).unwrap_or_default();
        urls.swap(place, place + chosen);
        draw /= left;
    }
    urls.truncate(MOST);
    urls.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tidewire_store::NodeLoad;

    use super::*;

    #[test]
    fn only_others_that_take_clients_and_say_where_are_named() {
        let members = [
            lease("own", NodeState::Ready, Some("ws://own")),
            lease("there", NodeState::Ready, Some("ws://there")),
            lease("leaves", NodeState::Draining, Some("ws://leaves")),
            lease("hidden", NodeState::Ready, None),
        ];

        assert_eq!(endpoints(&node("own"), &members, 7), ["ws://there"]);
    }

    #[test]
    fn of_many_three_are_drawn_and_each_is_first_for_some() {
        let names = ["a", "b", "c", "d", "e"];
        let members = names.map(|name| lease(name, NodeState::Ready, Some(name)));

        let drawn: Vec<_> = (0..60).map(|draw| endpoints(&node("own"), &members, draw)).collect();

        for urls in &drawn {
            assert_eq!(urls.iter().collect::<HashSet<_>>().len(), MOST, "{urls:?}");
        }
        let firsts: HashSet<_> = drawn.iter().map(|urls| urls[0].as_str()).collect();
        assert_eq!(firsts, HashSet::from(names));
    }

    #[test]
    fn who_has_less_than_its_share_is_named_by_its_weight() {
        let with = |name, connections, weight| NodeLease {
            connections,
            weight,
            ..lease(name, NodeState::Ready, Some(name))
        };
        let members = [with("own", 10, 100), with("full", 70, 100), with("even", 40, 100)];
        let members = [&members[..], &[with("large", 70, 200)]].concat();
        let leaving = lease("leaving", NodeState::Draining, Some("leaving"));

        // 190 clients for a weight of 500: 38 for each of 100.
        let of = |some: &[NodeLease]| emptier((&node("own"), some), &members, 3);
        assert_eq!(of(&members), ["large"]);
        assert_eq!(of(&[members[1].clone(), leaving]), [""; 0]);
    }

    fn lease(name: &str, state: NodeState, url: Option<&str>) -> NodeLease {
        NodeLease {
            node: node(name),
            slot: None,
            state,
            weight: 100,
            connections: 0,
            started_at_ms: 0,
            beats: false,
            load: NodeLoad::default(),
            url: url.map(str::to_owned),
        }
    }

    fn node(name: &str) -> NodeId {
        NodeId::parse(name).expect("node")
    }
}
