//! What every [`QuotaStore`] must do.
#![expect(
    clippy::missing_panics_doc,
    reason = "a behaviour that is not met is a panic: that is what a suite is for"
)]

use std::time::Duration;

use async_trait::async_trait;
use tidewire_model::{NodeId, Quotas, Rates, Tenant};
use tokio::time::Instant;

use super::{LONG, until};
use crate::{Grant, QuotaClaim, QuotaStore};

/// Makes the stores of the suite: each empty, and none sharing anything with another.
#[async_trait]
pub trait QuotaStoreFactory {
    type Store: QuotaStore + 'static;

    async fn open(&self) -> Self::Store;
}

/// Makes a `#[tokio::test]` of every behaviour of a store of quotas. `$factory` is an expression of
/// a [`QuotaStoreFactory`](crate::conformance::QuotaStoreFactory), evaluated for each test, and may
/// await.
#[macro_export]
macro_rules! quota_store_conformance {
    ($factory:expr) => {
        $crate::quota_store_conformance! { $factory =>
            a_node_alone_gets_what_it_wants_up_to_the_quota
            what_has_no_quota_is_not_granted
            nodes_are_never_granted_more_connections_than_the_quota
            what_one_gives_back_is_anothers
            connections_that_are_there_are_not_taken_back
            who_holds_more_than_the_quota_leaves_nothing
            a_part_is_free_once_its_lease_has_ended_and_not_before
            who_withdraws_gives_back_at_once
            a_rate_that_nobody_needs_is_shared_alike
            a_rate_goes_by_need_where_it_is_short
            nodes_are_granted_a_rate_and_a_tenth_at_the_most
            a_newcomer_has_a_part_at_once
            tenants_are_apart
            repeating_a_claim_changes_nothing
            the_largest_numbers_survive
        }
    };
    ($factory:expr => $($behaviour:ident)*) => {
        $(
            #[tokio::test]
            async fn $behaviour() {
                $crate::conformance::quota_store::$behaviour(&$factory).await;
            }
        )*
    };
}

pub async fn a_node_alone_gets_what_it_wants_up_to_the_quota(factory: &impl QuotaStoreFactory) {
    let store = factory.open().await;

    let some = settle(&store, "a", connections(100, 3, 20)).await;
    let all = settle(&store, "a", connections(100, 20, 500)).await;

    assert_eq!((some.nodes, some.connections), (1, Some(20)));
    assert_eq!((all.nodes, all.connections), (1, Some(100)));
}

pub async fn what_has_no_quota_is_not_granted(factory: &impl QuotaStoreFactory) {
    let store = factory.open().await;

    let none = settle(&store, "a", claim(Quotas::default(), (5, 9), [7, 7, 7])).await;
    let one = Quotas { rates: [None, Some(10), None].into(), ..Quotas::default() };
    let one = settle(&store, "a", claim(one, (5, 9), [7, 7, 7])).await;

    assert_eq!((none.connections, none.rates), (None, Rates::default()));
    assert_eq!((one.connections, one.rates), (None, [None, Some(10), None].into()));
}

pub async fn nodes_are_never_granted_more_connections_than_the_quota(
    factory: &impl QuotaStoreFactory,
) {
    const NODES: usize = 5;
    let store = factory.open().await;
    let mut granted = [0_u32; NODES];
    let mut seed = 7_u32;
    for _ in 0..200 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (node, held, more) = (seed >> 16, seed >> 20, seed >> 24);
        let node = node as usize % NODES;
        let held = held % (granted[node] + 1);
        let wanted = held + more % 60;
        let grant = settle(&store, &format!("n{node}"), connections(100, held, wanted)).await;
        granted[node] = grant.connections.expect("there is a quota");

        assert!(granted.iter().sum::<u32>() <= 100, "{granted:?}");
        assert!((held..=wanted).contains(&granted[node]));
    }
}

pub async fn what_one_gives_back_is_anothers(factory: &impl QuotaStoreFactory) {
    let store = factory.open().await;
    settle(&store, "a", connections(100, 0, 90)).await;

    let before = settle(&store, "b", connections(100, 0, 50)).await;
    settle(&store, "a", connections(100, 30, 40)).await;
    let after = settle(&store, "b", connections(100, 10, 80)).await;

    assert_eq!((before.connections, after.connections), (Some(10), Some(60)));
}

pub async fn connections_that_are_there_are_not_taken_back(factory: &impl QuotaStoreFactory) {
    let store = factory.open().await;
    settle(&store, "a", connections(100, 70, 80)).await;

    let lowered = settle(&store, "a", connections(50, 70, 80)).await;
    let newcomer = settle(&store, "b", connections(50, 0, 16)).await;
    let returned = settle(&store, "b", connections(50, 5, 21)).await;

    assert_eq!(lowered.connections, Some(70));
    assert_eq!(newcomer.connections, Some(0));
    assert_eq!(returned.connections, Some(5));
}

pub async fn who_holds_more_than_the_quota_leaves_nothing(factory: &impl QuotaStoreFactory) {
    let store = factory.open().await;
    settle(&store, "a", connections(10, 4_000, 4_016)).await;

    let other = settle(&store, "b", connections(10, 0, 1)).await;

    assert_eq!(other.connections, Some(0));
}

pub async fn a_part_is_free_once_its_lease_has_ended_and_not_before(
    factory: &impl QuotaStoreFactory,
) {
    const TTL: Duration = Duration::from_millis(400);
    let store = factory.open().await;
    let asked_at = Instant::now();
    let dead = connections(100, 90, 100);
    store.settle(&node("a"), &dead, TTL).await.expect("the store is there");

    until(async || settle(&store, "b", connections(100, 0, 30)).await.connections == Some(30))
        .await;

    assert!(asked_at.elapsed() >= TTL, "{:?}", asked_at.elapsed());
    assert_eq!(settle(&store, "b", connections(100, 0, 30)).await.nodes, 1);
}

pub async fn who_withdraws_gives_back_at_once(factory: &impl QuotaStoreFactory) {
    let store = factory.open().await;
    settle(&store, "a", connections(100, 90, 100)).await;

    store.withdraw(&node("a"), &tenant("acme")).await.expect("the store is there");
    store.withdraw(&node("nobody"), &tenant("acme")).await.expect("the store is there");

    let other = settle(&store, "b", connections(100, 0, 100)).await;
    assert_eq!((other.nodes, other.connections), (1, Some(100)));
}

pub async fn a_rate_that_nobody_needs_is_shared_alike(factory: &impl QuotaStoreFactory) {
    let store = factory.open().await;
    let mut last = Vec::new();
    for _ in 0..2 {
        last.clear();
        for name in ["a", "b", "c", "d"] {
            last.push(settle(&store, name, rate(1_000, 0)).await.rates.publications);
        }
    }

    let once_more = settle(&store, "a", rate(1_000, 0)).await;

    assert_eq!(once_more.rates.publications, Some(250));
    assert_eq!(last[1..], [Some(250); 3]);
}

pub async fn a_rate_goes_by_need_where_it_is_short(factory: &impl QuotaStoreFactory) {
    let store = factory.open().await;
    let mut shares = [None; 2];
    for _ in 0..3 {
        for (share, (name, demand)) in shares.iter_mut().zip([("a", 9_000), ("b", 1_000)]) {
            *share = settle(&store, name, rate(1_000, demand)).await.rates.publications;
        }
    }

    assert_eq!(shares, [Some(860), Some(140)]);
}

pub async fn nodes_are_granted_a_rate_and_a_tenth_at_the_most(factory: &impl QuotaStoreFactory) {
    const NODES: usize = 5;
    let store = factory.open().await;
    let mut granted = [0_u32; NODES];
    let mut seed = 3_u32;
    for _ in 0..200 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (node, demand) = ((seed >> 16) as usize % NODES, (seed >> 20) % 2_000);
        let grant = settle(&store, &format!("n{node}"), rate(1_000, demand)).await;
        granted[node] = grant.rates.publications.expect("there is a quota");

        assert!(granted.iter().sum::<u32>() <= 1_100, "{granted:?}");
    }
}

pub async fn a_newcomer_has_a_part_at_once(factory: &impl QuotaStoreFactory) {
    let store = factory.open().await;
    settle(&store, "a", rate(1_000, 5_000)).await;

    let newcomer = settle(&store, "b", rate(1_000, 0)).await;
    let of_little = settle(&store, "c", rate(2, 0)).await;

    assert_eq!(newcomer.rates.publications, Some(50));
    assert_eq!(of_little.rates.publications, Some(1));
}

pub async fn tenants_are_apart(factory: &impl QuotaStoreFactory) {
    let store = factory.open().await;
    settle(&store, "a", connections(100, 100, 100)).await;

    let theirs = QuotaClaim { tenant: tenant("globex"), ..connections(100, 0, 100) };
    let theirs = settle(&store, "b", theirs).await;

    assert_eq!((theirs.nodes, theirs.connections), (1, Some(100)));
}

pub async fn repeating_a_claim_changes_nothing(factory: &impl QuotaStoreFactory) {
    let store = factory.open().await;
    let all = Quotas { connections: Some(100), rates: [Some(1_000), Some(2_000), Some(3)].into() };
    settle(&store, "a", claim(all, (5, 60), [900, 10, 3])).await;
    let claim = claim(all, (5, 60), [300, 4_000, 0]);

    let first = settle(&store, "b", claim.clone()).await;
    let second = settle(&store, "b", claim).await;

    assert_eq!(first, second);
    assert_eq!(first.connections, Some(40));
}

pub async fn the_largest_numbers_survive(factory: &impl QuotaStoreFactory) {
    const MOST: u32 = 4_000_000_000;
    let store = factory.open().await;
    let all = Quotas { connections: Some(MOST), rates: [Some(MOST); 3].into() };
    let most = || claim(all, (MOST, MOST), [MOST; 3]);
    settle(&store, "a", most()).await;
    settle(&store, "b", claim(all, (0, 0), [0; 3])).await;

    let grant = settle(&store, "a", most()).await;

    assert_eq!(grant.connections, Some(MOST));
    assert_eq!(grant.rates, [Some(MOST / 20 * 19); 3].into());
}

async fn settle(store: &impl QuotaStore, name: &str, claim: QuotaClaim) -> Grant {
    store.settle(&node(name), &claim, LONG).await.expect("the store is there")
}

fn connections(limit: u32, held: u32, wanted: u32) -> QuotaClaim {
    claim(Quotas { connections: Some(limit), ..Quotas::default() }, (held, wanted), [0; 3])
}

fn rate(limit: u32, demand: u32) -> QuotaClaim {
    let rates = [Some(limit), None, None].into();
    claim(Quotas { rates, ..Quotas::default() }, (0, 0), [demand, 0, 0])
}

fn claim(quotas: Quotas, (held, wanted): (u32, u32), demand: [u32; 3]) -> QuotaClaim {
    QuotaClaim { tenant: tenant("acme"), quotas, held, wanted, demand: demand.into() }
}

fn tenant(name: &str) -> Tenant {
    Tenant::parse(name).expect("valid")
}

fn node(name: &str) -> NodeId {
    NodeId::parse(name).expect("valid")
}
