use std::collections::HashMap;

use tidewire_model::{NodeId, Slot};
use tidewire_store::NodeLoad;

use super::*;

#[test]
fn when_a_slot_goes_only_its_own_tenants_move_each_to_its_next() {
    let all = nodes(8);
    for gone in 0..all.len() {
        let mut fewer = all.clone();
        let lost = fewer.remove(gone);

        for tenant in tenants(300) {
            let before = placement(&tenant, &all, 3);
            let after = placement(&tenant, &fewer, 3);

            let mut expected = before.homes.clone();
            expected.extend(before.others.clone());
            expected.retain(|lease| lease.node != lost.node);
            assert_eq!(after.homes, expected[..3]);
            assert_eq!(after.others, expected[3..]);
        }
    }
}

#[test]
fn a_slot_that_comes_takes_no_more_than_its_share() {
    let (fewer, all) = (nodes(9), nodes(10));
    let mut moved = 0;

    for tenant in tenants(4_000) {
        let before = names(&placement(&tenant, &fewer, 2).homes);
        let after = names(&placement(&tenant, &all, 2).homes);
        moved += after.iter().filter(|slot| !before.contains(slot)).count();
        assert!(after.iter().all(|slot| before.contains(slot) || slot == "node-9"));
    }

    // A tenth of 8,000 homes, and three standard deviations more.
    assert!(moved <= 800 + 3 * 27, "{moved}");
}

#[test]
fn one_home_more_leaves_the_others_as_they_are() {
    let members = nodes(6);
    for tenant in tenants(300) {
        let all = names(&placement(&tenant, &members, 6).homes);
        for k in 0..6 {
            assert_eq!(names(&placement(&tenant, &members, k).homes), all[..k]);
        }
    }
}

#[test]
fn the_order_of_members_does_not_matter() {
    let members = weighted();
    let mut turned = members.clone();
    turned.reverse();

    for tenant in tenants(300) {
        assert_eq!(placement(&tenant, &members, 2), placement(&tenant, &turned, 2));
    }
}

#[test]
fn tenants_spread_by_weight() {
    let mut members = nodes(3);
    members[0].weight = 200;
    let mut firsts: HashMap<NodeId, u32> = HashMap::new();

    for tenant in tenants(8_000) {
        let first = placement(&tenant, &members, 1).homes[0].node.clone();
        *firsts.entry(first).or_default() += 1;
    }

    let share = |index: usize| f64::from(firsts[&members[index].node]) / 8_000.0;
    assert!((share(0) - 0.5).abs() < 0.02, "{}", share(0));
    assert!((share(1) - 0.25).abs() < 0.02, "{}", share(1));
}

#[test]
fn a_draining_node_is_nobodys_home_and_comes_last() {
    let mut members = nodes(3);
    let first = placement(&tenant("acme"), &members, 2).homes[0].node.clone();
    let drained = members.iter_mut().find(|lease| lease.node == first).expect("a member");
    drained.state = NodeState::Draining;

    let placed = placement(&tenant("acme"), &members, 3);

    assert_eq!((placed.k, placed.homes.len()), (3, 2));
    assert_eq!(placed.others.last().map(|lease| &lease.node), Some(&first));
}

#[test]
fn a_slot_is_spoken_for_by_who_takes_clients_and_then_by_the_youngest() {
    let in_slot = |node: &str, state, started_at_ms| NodeLease {
        slot: Some(Slot::parse("here").expect("slot")),
        state,
        started_at_ms,
        ..lease(node)
    };
    let speaker = |members: &[NodeLease]| {
        let placed = placement(&tenant("acme"), members, 1);
        let speakers = [placed.homes, placed.others].concat();
        speakers.iter().map(|lease| lease.node.to_string()).collect::<Vec<_>>()
    };
    let (old, new) = (in_slot("old", NodeState::Ready, 1), in_slot("new", NodeState::Ready, 2));
    let leaving = in_slot("leaving", NodeState::Draining, 3);

    assert_eq!(speaker(&[old.clone(), new.clone()]), ["new"]);
    assert_eq!(speaker(&[new, old.clone()]), ["new"]);
    assert_eq!(speaker(&[leaving.clone(), old]), ["old"]);
    assert_eq!(speaker(&[leaving]), ["leaving"]);
}

#[test]
fn a_restart_into_the_same_slot_moves_nobody() {
    let slot = Slot::parse("node-2").expect("slot");
    let again = NodeLease { slot: Some(slot), ..lease("node-2-0badcafe") };
    let before = nodes(4);
    let mut after = before.clone();
    after[2] = again;

    for tenant in tenants(300) {
        let slots = |members: &[NodeLease]| names(&placement(&tenant, members, 4).homes);
        assert_eq!(slots(&before), slots(&after));
    }
}

#[test]
fn placement_is_the_same_in_every_version_and_language() {
    let order = |name: &str, members: &[NodeLease]| {
        names(&placement(&tenant(name), members, members.len()).homes).join(" ")
    };
    let tenants = ["acme", "globex", "initech"];

    assert_eq!(tenants.map(|name| order(name, &nodes(4))), EVEN);
    assert_eq!(tenants.map(|name| order(name, &weighted())), WEIGHTED);
}

/// Of four slots that weigh the same. Computed by another implementation of XXH3.
const EVEN: [&str; 3] =
    ["node-3 node-2 node-0 node-1", "node-0 node-1 node-2 node-3", "node-3 node-1 node-2 node-0"];

/// Of the slots of [`weighted`], likewise.
const WEIGHTED: [&str; 3] = [
    "node-5 node-2 node-3 node-4 node-0 node-1",
    "node-2 node-5 node-1 node-0 node-3 node-4",
    "node-3 node-5 node-2 node-1 node-4 node-0",
];

/// Six slots that weigh 50, 100, 200 and again.
fn weighted() -> Vec<NodeLease> {
    let weights = [50, 100, 200].into_iter().cycle();
    nodes(6).into_iter().zip(weights).map(|(lease, weight)| NodeLease { weight, ..lease }).collect()
}

fn names(leases: &[NodeLease]) -> Vec<String> {
    leases.iter().map(|lease| lease.slot().to_owned()).collect()
}

pub(super) fn nodes(count: usize) -> Vec<NodeLease> {
    (0..count).map(|index| lease(&format!("node-{index}"))).collect()
}

pub(super) fn lease(name: &str) -> NodeLease {
    NodeLease {
        node: NodeId::parse(name).expect("node"),
        slot: None,
        state: NodeState::Ready,
        weight: 100,
        connections: 0,
        started_at_ms: 0,
        beats: false,
        load: NodeLoad::default(),
        url: None,
    }
}

pub(super) fn tenant(name: &str) -> Tenant {
    Tenant::parse(name).expect("tenant")
}

fn tenants(count: usize) -> impl Iterator<Item = Tenant> {
    (0..count).map(|index| tenant(&format!("t{index}")))
}
