//! Where a tenant belongs, computed by anyone from the same inputs.
//!
//! Rendezvous hashing: each (tenant, node) pair has a score, and a tenant's placement is the nodes
//! by descending score. When a node goes, only the tenants it was first for move, each to its own
//! second; when one comes, it takes an equal share from all. Placement is an optimisation: any node
//! serves any tenant correctly.

use tidewire_model::{NodeId, Tenant};
use tidewire_store::{NodeLease, NodeState};
use xxhash_rust::xxh3::xxh3_64;

/// The nodes a tenant maps to, best first. Nodes that drain come last: they keep their place among
/// themselves and take nobody new while another node is there.
pub fn placement(tenant: &Tenant, members: &[NodeLease]) -> Vec<NodeId> {
    let mut ranked: Vec<_> = members
        .iter()
        .map(|lease| (lease.state == NodeState::Draining, score(tenant, lease), &lease.node))
        .collect();
    ranked.sort_by(|(a_drains, a_score, a), (b_drains, b_score, b)| {
        a_drains.cmp(b_drains).then(b_score.total_cmp(a_score)).then(a.cmp(b))
    });
    ranked.into_iter().map(|(_, _, node)| node.clone()).collect()
}

/// `-weight / ln(h)` with `h` in (0, 1): a node of twice the weight is first for twice the tenants
/// (Schindelhauer and Schomaker, "Weighted distributed hash tables").
fn score(tenant: &Tenant, lease: &NodeLease) -> f64 {
    let pair = [tenant.as_str().as_bytes(), b"\0", lease.node.as_str().as_bytes()].concat();
    // 53 bits are what a double holds exactly; the half keeps the result off 0 and 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact in a double")]
    let unit = ((xxh3_64(&pair) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(lease.weight) / unit.ln()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tidewire_store::NodeLoad;

    use super::*;

    #[test]
    fn when_a_node_goes_only_its_own_tenants_move() {
        let all = nodes(5);
        let fewer = &all[..4];
        let gone = &all[4].node;

        for tenant in tenants(1_000) {
            let before = placement(&tenant, &all);
            let after = placement(&tenant, fewer);

            let expected: Vec<_> = before.into_iter().filter(|node| node != gone).collect();
            assert_eq!(after, expected);
        }
    }

    #[test]
    fn tenants_spread_by_weight() {
        let mut members = nodes(3);
        members[0].weight = 200;
        let mut firsts: HashMap<NodeId, u32> = HashMap::new();

        for tenant in tenants(8_000) {
            *firsts.entry(placement(&tenant, &members)[0].clone()).or_default() += 1;
        }

        let share = |index: usize| f64::from(firsts[&members[index].node]) / 8_000.0;
        assert!((share(0) - 0.5).abs() < 0.02, "{}", share(0));
        assert!((share(1) - 0.25).abs() < 0.02, "{}", share(1));
    }

    #[test]
    fn a_draining_node_comes_last() {
        let mut members = nodes(3);
        let tenant = Tenant::parse("acme").expect("tenant");
        let first = placement(&tenant, &members)[0].clone();
        let drained = members.iter_mut().find(|lease| lease.node == first).expect("a member");
        drained.state = NodeState::Draining;

        assert_eq!(placement(&tenant, &members).last(), Some(&first));
    }

    #[test]
    fn placement_is_the_same_in_every_version_and_language() {
        let members = nodes(4);
        let order = |tenant: &str| {
            let tenant = Tenant::parse(tenant).expect("tenant");
            let placed = placement(&tenant, &members);
            placed.iter().map(|node| node.as_str().to_owned()).collect::<Vec<_>>().join(" ")
        };

        assert_eq!(order("acme"), VECTORS[0]);
        assert_eq!(order("globex"), VECTORS[1]);
        assert_eq!(order("initech"), VECTORS[2]);
    }

    /// Computed by another implementation of XXH3.
    const VECTORS: [&str; 3] = [
        "node-3 node-2 node-0 node-1",
        "node-0 node-1 node-2 node-3",
        "node-3 node-1 node-2 node-0",
    ];

    fn nodes(count: usize) -> Vec<NodeLease> {
        (0..count)
            .map(|index| NodeLease {
                node: NodeId::parse(&format!("node-{index}")).expect("node"),
                state: NodeState::Ready,
                weight: 100,
                connections: 0,
                started_at_ms: 0,
                beats: false,
                load: NodeLoad::default(),
                url: None,
            })
            .collect()
    }

    fn tenants(count: usize) -> impl Iterator<Item = Tenant> {
        (0..count).map(|index| Tenant::parse(&format!("t{index}")).expect("tenant"))
    }
}
