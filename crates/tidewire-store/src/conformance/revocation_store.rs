//! What every [`RevocationStore`] must do.
#![expect(
    clippy::missing_panics_doc,
    reason = "a behaviour that is not met is a panic: that is what a suite is for"
)]

use async_trait::async_trait;
use tidewire_model::Tenant;

use crate::{
    Added, FEW_REVOCATIONS_OF_TENANT, MOST_ADDED, MOST_REVOCATIONS_OF_TENANT, Revocation,
    RevocationStore, Revoked, SCARCE_REVOCATIONS, Seen,
};

/// Makes the stores of the suite: each empty, and none sharing anything with another.
#[async_trait]
pub trait RevocationStoreFactory {
    type Store: RevocationStore + 'static;

    async fn open(&self) -> Self::Store;
}

/// Makes a `#[tokio::test]` of every behaviour of a store of revocations. `$factory` is an expression
/// of a [`RevocationStoreFactory`](crate::conformance::RevocationStoreFactory), evaluated for each
/// test, and may await.
#[macro_export]
macro_rules! revocation_store_conformance {
    ($factory:expr) => {
        $crate::revocation_store_conformance! { $factory =>
            at_first_nothing_is_revoked
            what_is_added_is_told_once_to_who_reads_on
            a_later_revocation_wins_and_an_earlier_one_changes_nothing
            the_later_of_each_time_stands
            revocations_of_two_tenants_are_apart
            every_name_survives
            expired_revocations_go
            many_revocations_come_in_pages
            a_version_of_another_life_is_told_everything_anew
            a_tenant_that_is_full_adds_nothing_and_hinders_no_other
            tenants_that_revoke_without_end_leave_room_for_others
        }
    };
    ($factory:expr => $($behaviour:ident)*) => {
        $(
            #[tokio::test]
            async fn $behaviour() {
                $crate::conformance::revocation_store::$behaviour(&$factory).await;
            }
        )*
    };
}

pub async fn at_first_nothing_is_revoked(factory: &impl RevocationStoreFactory) {
    let store = factory.open().await;

    let changes = changes(&store, &Seen::default()).await;

    assert_eq!((changes.revocations.len(), changes.more, changes.is_reset), (0, false, true));
}

pub async fn what_is_added_is_told_once_to_who_reads_on(factory: &impl RevocationStoreFactory) {
    let store = factory.open().await;
    let empty = changes(&store, &Seen::default()).await;
    add(&store, &[void("a", 1), void("b", 2)]).await;

    let first = changes(&store, &empty.seen).await;
    add(&store, &[void("c", 3)]).await;
    let second = changes(&store, &first.seen).await;
    let third = changes(&store, &second.seen).await;

    assert_eq!(first.revocations, [void("a", 1), void("b", 2)]);
    assert_eq!(second.revocations, [void("c", 3)]);
    assert_eq!(third.revocations, []);
    assert!(![first.is_reset, second.is_reset, third.is_reset].contains(&true));
    assert_eq!(changes(&store, &Seen::default()).await.revocations.len(), 3);
}

pub async fn a_later_revocation_wins_and_an_earlier_one_changes_nothing(
    factory: &impl RevocationStoreFactory,
) {
    let store = factory.open().await;
    add(&store, &[void("a", 5), void("b", 5)]).await;
    let read = changes(&store, &Seen::default()).await;

    add(&store, &[void("a", 4), void("b", 6)]).await;

    assert_eq!(changes(&store, &read.seen).await.revocations, [void("b", 6)]);
    assert_eq!(changes(&store, &Seen::default()).await.revocations, [void("a", 5), void("b", 6)]);
}

pub async fn the_later_of_each_time_stands(factory: &impl RevocationStoreFactory) {
    let store = factory.open().await;
    let early = Revocation { until: FAR, ..void("a", 9) };
    let late = Revocation { until: FAR + 1, ..void("a", 8) };

    add(&store, &[early, late]).await;

    let both = Revocation { until: FAR + 1, ..void("a", 9) };
    assert_eq!(changes(&store, &Seen::default()).await.revocations, [both]);
}

pub async fn revocations_of_two_tenants_are_apart(factory: &impl RevocationStoreFactory) {
    let store = factory.open().await;
    let theirs = Revocation { tenant: tenant("globex"), ..void("a", 2) };

    add(&store, &[void("a", 1), theirs.clone()]).await;

    assert_eq!(changes(&store, &Seen::default()).await.revocations, [void("a", 1), theirs]);
}

pub async fn every_name_survives(factory: &impl RevocationStoreFactory) {
    let store = factory.open().await;
    let longest = "ü".repeat(100);
    let names = ["", " ", "user größe 房间", "a  b ", &longest];
    let revocations: Vec<_> = names.iter().map(|name| void(name, 1)).collect();

    add(&store, &revocations).await;

    assert_eq!(changes(&store, &Seen::default()).await.revocations, revocations);
}

pub async fn expired_revocations_go(factory: &impl RevocationStoreFactory) {
    let store = factory.open().await;
    let expired = Revocation { until: 1_000_000_000, ..void("a", 1) };

    add(&store, &[expired, void("b", 1)]).await;

    assert_eq!(changes(&store, &Seen::default()).await.revocations, [void("b", 1)]);
}

pub async fn many_revocations_come_in_pages(factory: &impl RevocationStoreFactory) {
    const COUNT: usize = 2_500;
    let store = factory.open().await;
    let revocations: Vec<_> = (0..COUNT).map(|number| void(&format!("{number:04}"), 1)).collect();
    for some in revocations.chunks(MOST_ADDED) {
        add(&store, some).await;
    }

    let mut read: Vec<Revocation> = Vec::new();
    let mut seen = Seen::default();
    loop {
        let page = changes(&store, &seen).await;
        read.extend(page.revocations);
        seen = page.seen;
        if !page.more {
            break;
        }
    }

    assert_eq!(read, revocations);
}

pub async fn a_version_of_another_life_is_told_everything_anew(
    factory: &impl RevocationStoreFactory,
) {
    let store = factory.open().await;
    add(&store, &[void("a", 1)]).await;
    let known = changes(&store, &Seen::default()).await.seen;

    let other = Seen { life: "another".into(), version: known.version + 10 };
    let changes = changes(&store, &other).await;

    assert_eq!((changes.revocations, changes.is_reset), (vec![void("a", 1)], true));
    assert_eq!(changes.seen, known);
}

pub async fn a_tenant_that_is_full_adds_nothing_and_hinders_no_other(
    factory: &impl RevocationStoreFactory,
) {
    let store = factory.open().await;
    let revocations: Vec<_> =
        (0..MOST_REVOCATIONS_OF_TENANT).map(|number| void(&number.to_string(), 1)).collect();
    for some in revocations.chunks(MOST_ADDED) {
        add(&store, some).await;
    }
    let last = revocations.last().expect("there are some").about.clone();
    let theirs = Revocation { tenant: tenant("globex"), ..void("a", 1) };

    let one_more = store.add(&[void(&last, 2), void("one more", 1)]).await;
    let known = store.add(&[void(&last, 3)]).await;
    let others = store.add(&[theirs]).await;

    let outcomes = [one_more, known, others].map(|outcome| outcome.expect("the store is there"));
    assert_eq!(outcomes, [Added::Full, Added::Done, Added::Done]);
}

pub async fn tenants_that_revoke_without_end_leave_room_for_others(
    factory: &impl RevocationStoreFactory,
) {
    let store = factory.open().await;
    let of = |name: &str, numbers: std::ops::Range<usize>| -> Vec<Revocation> {
        let void = |number: usize| void(&number.to_string(), 1);
        numbers.map(|number| Revocation { tenant: tenant(name), ..void(number) }).collect()
    };
    for greedy in 0..SCARCE_REVOCATIONS / MOST_ADDED {
        let (name, from) = (format!("greedy-{}", greedy % 10), greedy * MOST_ADDED);
        add(&store, &of(&name, from..from + MOST_ADDED)).await;
    }
    let add = async |some: Vec<Revocation>| store.add(&some).await.expect("the store is there");

    assert_eq!(add(of("greedy-0", 0..1)).await, Added::Done, "it is known");
    assert_eq!(add(of("greedy-0", 999_999..1_000_000)).await, Added::Full);
    assert_eq!(add(of("modest", 0..FEW_REVOCATIONS_OF_TENANT)).await, Added::Done);
    let one_more = FEW_REVOCATIONS_OF_TENANT..FEW_REVOCATIONS_OF_TENANT + 1;
    assert_eq!(add(of("modest", one_more)).await, Added::Full);
    assert_eq!(add(of("late", 0..1)).await, Added::Done);
}

/// Far in the future, in seconds since the Unix epoch.
const FAR: u64 = 10_000_000_000;

async fn add(store: &impl RevocationStore, revocations: &[Revocation]) {
    assert_eq!(store.add(revocations).await.expect("the store is there"), Added::Done);
}

async fn changes(store: &impl RevocationStore, since: &Seen) -> Revoked {
    store.changes(since).await.expect("the store is there")
}

fn void(about: &str, before: u64) -> Revocation {
    Revocation { tenant: tenant("acme"), about: about.to_owned(), before, until: FAR }
}

fn tenant(name: &str) -> Tenant {
    Tenant::parse(name).expect("valid")
}
