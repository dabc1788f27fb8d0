//! What every [`Membership`] must do.
#![expect(
    clippy::missing_panics_doc,
    reason = "a behaviour that is not met is a panic: that is what a suite is for"
)]

use std::time::Duration;

use async_trait::async_trait;
use tidewire_model::{NodeId, Slot};

use super::{LONG, until};
use crate::{Membership, NodeLease, NodeLoad, NodeState};

/// Makes the memberships of the suite: each empty, and none sharing anything with another.
#[async_trait]
pub trait MembershipFactory {
    type Membership: Membership + 'static;

    async fn open(&self) -> Self::Membership;
}

/// Makes a `#[tokio::test]` of every behaviour of a membership. `$factory` is an expression of a
/// [`MembershipFactory`](crate::conformance::MembershipFactory), evaluated for each test, and may
/// await.
#[macro_export]
macro_rules! membership_conformance {
    ($factory:expr) => {
        $crate::membership_conformance! { $factory =>
            at_first_there_are_no_members
            members_come_in_the_order_of_their_names
            renewing_replaces_the_lease
            every_field_of_a_lease_is_kept
            a_withdrawn_lease_is_gone_at_once
            withdrawing_an_unknown_node_changes_nothing
            a_lease_that_is_not_renewed_runs_out
            a_renewed_lease_outlives_its_first_term
        }
    };
    ($factory:expr => $($behaviour:ident)*) => {
        $(
            #[tokio::test]
            async fn $behaviour() {
                $crate::conformance::membership::$behaviour(&$factory).await;
            }
        )*
    };
}

pub async fn at_first_there_are_no_members(factory: &impl MembershipFactory) {
    let membership = factory.open().await;

    assert_eq!(members(&membership).await, []);
}

pub async fn members_come_in_the_order_of_their_names(factory: &impl MembershipFactory) {
    let membership = factory.open().await;

    for name in ["node-10", "node-2", "A", "node-1"] {
        renew(&membership, &lease(name), LONG).await;
    }

    assert_eq!(members(&membership).await, ["A", "node-1", "node-10", "node-2"].map(lease));
}

pub async fn renewing_replaces_the_lease(factory: &impl MembershipFactory) {
    let membership = factory.open().await;
    let later = NodeLease { state: NodeState::Draining, connections: u64::MAX, ..lease("a") };

    renew(&membership, &lease("a"), LONG).await;
    renew(&membership, &later, LONG).await;

    assert_eq!(members(&membership).await, [later]);
}

pub async fn every_field_of_a_lease_is_kept(factory: &impl MembershipFactory) {
    let membership = factory.open().await;
    let load = NodeLoad {
        cores_milli: 3_500,
        cpu_permille: 1_000,
        resume_us: u32::MAX,
        accept_p99_ms: 1,
        resume_p99_ms: 2_048,
    };
    let url = Some("wss://a.example.com".to_owned());
    let slot = Some(Slot::parse("tidewire-0").expect("a valid slot"));
    let lease = NodeLease { slot, load, url, ..lease("a") };

    renew(&membership, &lease, LONG).await;

    assert_eq!(members(&membership).await, [lease]);
}

pub async fn a_withdrawn_lease_is_gone_at_once(factory: &impl MembershipFactory) {
    let membership = factory.open().await;
    renew(&membership, &lease("a"), LONG).await;
    renew(&membership, &lease("b"), LONG).await;

    membership.withdraw(&lease("a").node).await.expect("withdraw");

    assert_eq!(members(&membership).await, [lease("b")]);
}

pub async fn withdrawing_an_unknown_node_changes_nothing(factory: &impl MembershipFactory) {
    let membership = factory.open().await;
    renew(&membership, &lease("a"), LONG).await;

    membership.withdraw(&lease("b").node).await.expect("withdraw");

    assert_eq!(members(&membership).await, [lease("a")]);
}

pub async fn a_lease_that_is_not_renewed_runs_out(factory: &impl MembershipFactory) {
    let membership = factory.open().await;
    renew(&membership, &lease("a"), LONG).await;
    renew(&membership, &lease("b"), Duration::from_millis(50)).await;

    until(async || members(&membership).await == [lease("a")]).await;
}

pub async fn a_renewed_lease_outlives_its_first_term(factory: &impl MembershipFactory) {
    let membership = factory.open().await;
    let short = Duration::from_millis(100);

    renew(&membership, &lease("a"), short).await;
    renew(&membership, &lease("witness"), short).await;
    renew(&membership, &lease("a"), LONG).await;

    until(async || !members(&membership).await.contains(&lease("witness"))).await;
    assert_eq!(members(&membership).await, [lease("a")]);
}

async fn renew(membership: &impl Membership, lease: &NodeLease, ttl: Duration) {
    membership.renew(lease, ttl).await.expect("renew");
}

async fn members(membership: &impl Membership) -> Vec<NodeLease> {
    membership.members().await.expect("members")
}

fn lease(name: &str) -> NodeLease {
    NodeLease {
        node: NodeId::parse(name).expect("a valid node"),
        slot: None,
        state: NodeState::Ready,
        weight: 100,
        connections: 7,
        started_at_ms: 1_790_000_000_000,
        beats: true,
        load: NodeLoad::default(),
        url: None,
    }
}
