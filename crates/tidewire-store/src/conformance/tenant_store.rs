//! What every [`TenantStore`] must do.
#![expect(
    clippy::missing_panics_doc,
    reason = "a behaviour that is not met is a panic: that is what a suite is for"
)]

use async_trait::async_trait;
use tidewire_model::Tenant;

use crate::{Changes, Expects, Seen, TenantStore, TenantWrite, Written};

/// Makes the stores of the suite: each empty, and none sharing anything with another.
#[async_trait]
pub trait TenantStoreFactory {
    type Store: TenantStore + 'static;

    async fn open(&self) -> Self::Store;
}

/// Makes a `#[tokio::test]` of every behaviour of a store of tenants. `$factory` is an expression of
/// a [`TenantStoreFactory`](crate::conformance::TenantStoreFactory), evaluated for each test, and may
/// await.
#[macro_export]
macro_rules! tenant_store_conformance {
    ($factory:expr) => {
        $crate::tenant_store_conformance! { $factory =>
            at_first_there_are_no_tenants
            a_write_is_seen_once_and_in_order
            of_a_tenant_that_changed_again_only_the_newest_is_seen
            a_write_that_expects_another_revision_changes_nothing
            a_write_repeated_under_its_nonce_is_one
            of_two_writers_one_wins
            a_removal_is_seen_by_who_was_away
            a_removed_tenant_can_come_back
            what_is_marked_by_one_tenant_is_refused_to_another_and_free_after_its_removal
            a_mark_that_is_dropped_is_free
            a_page_that_is_cut_goes_on
            a_full_registry_takes_changes_and_no_new_tenant
            what_is_brought_back_does_not_go_over_what_is_newer
            who_comes_from_another_life_begins_anew
            a_document_is_kept_as_it_is
        }
    };
    ($factory:expr => $($behaviour:ident)*) => {
        $(
            #[tokio::test]
            async fn $behaviour() {
                $crate::conformance::tenant_store::$behaviour(&$factory).await;
            }
        )*
    };
}

pub async fn at_first_there_are_no_tenants(factory: &impl TenantStoreFactory) {
    let store = factory.open().await;

    let first = changes(&store, &Seen::default()).await;
    let again = changes(&store, &first.seen).await;

    assert!(first.is_reset && first.entries.is_empty() && !first.more);
    assert!(!again.is_reset && again.entries.is_empty());
}

pub async fn a_write_is_seen_once_and_in_order(factory: &impl TenantStoreFactory) {
    let store = factory.open().await;
    let start = changes(&store, &Seen::default()).await.seen;

    put(&store, "b", 0, "one").await;
    put(&store, "a", 0, "two").await;
    let seen = changes(&store, &start).await;

    assert_eq!(told(&seen), ["b 1 one", "a 1 two"]);
    assert!(!seen.is_reset);
    assert_eq!(told(&changes(&store, &seen.seen).await), [""; 0]);
}

pub async fn of_a_tenant_that_changed_again_only_the_newest_is_seen(
    factory: &impl TenantStoreFactory,
) {
    let store = factory.open().await;

    put(&store, "a", 0, "one").await;
    put(&store, "b", 0, "two").await;
    put(&store, "a", 1, "three").await;

    assert_eq!(told(&all(&store).await), ["b 1 two", "a 2 three"]);
}

pub async fn a_write_that_expects_another_revision_changes_nothing(
    factory: &impl TenantStoreFactory,
) {
    let store = factory.open().await;
    put(&store, "a", 0, "one").await;

    let stale = write(&store, Wish { nonce: 1, ..set("a", 0, "two") }).await;
    let ahead = write(&store, set("a", 5, "two")).await;

    let conflict = Written::Conflict { revision: 1, is_there: true };
    assert_eq!([stale, ahead], [conflict.clone(), conflict]);
    assert_eq!(told(&all(&store).await), ["a 1 one"]);
}

pub async fn a_write_repeated_under_its_nonce_is_one(factory: &impl TenantStoreFactory) {
    let store = factory.open().await;

    let outcomes = [(); 2].map(|()| set("a", 0, "one"));
    for outcome in outcomes {
        assert_eq!(write(&store, outcome).await, Written::Done);
    }

    let seen = all(&store).await;
    assert_eq!(told(&seen), ["a 1 one"]);
    assert_eq!(seen.seen.version, 1);
}

pub async fn of_two_writers_one_wins(factory: &impl TenantStoreFactory) {
    let store = factory.open().await;
    put(&store, "a", 0, "zero").await;

    let one = Wish { nonce: 1, ..set("a", 1, "one") };
    let other = Wish { nonce: 2, ..set("a", 1, "other") };
    let outcomes = [write(&store, one).await, write(&store, other).await];

    let lost = Written::Conflict { revision: 2, is_there: true };
    assert_eq!(outcomes, [Written::Done, lost]);
    assert_eq!(told(&all(&store).await), ["a 2 one"]);
}

pub async fn a_removal_is_seen_by_who_was_away(factory: &impl TenantStoreFactory) {
    let store = factory.open().await;
    put(&store, "a", 0, "one").await;
    put(&store, "b", 0, "two").await;
    let away = all(&store).await.seen;

    assert_eq!(write(&store, remove("a", 1)).await, Written::Done);

    assert_eq!(told(&changes(&store, &away).await), ["a 2 -"]);
    assert_eq!(told(&all(&store).await), ["b 1 two", "a 2 -"]);
}

pub async fn a_removed_tenant_can_come_back(factory: &impl TenantStoreFactory) {
    let store = factory.open().await;
    put(&store, "a", 0, "one").await;
    write(&store, remove("a", 1)).await;

    let new = write(&store, set("a", 0, "again")).await;
    let back = write(&store, set("a", 2, "again")).await;

    assert_eq!(new, Written::Conflict { revision: 2, is_there: false });
    assert_eq!(back, Written::Done);
    assert_eq!(told(&all(&store).await), ["a 3 again"]);
}

pub async fn what_is_marked_by_one_tenant_is_refused_to_another_and_free_after_its_removal(
    factory: &impl TenantStoreFactory,
) {
    let store = factory.open().await;
    let marked = |name, expects| Wish { marks: vec![[7; 16], [8; 16]], ..set(name, expects, "x") };
    write(&store, marked("a", 0)).await;

    let taken = write(&store, Wish { marks: vec![[8; 16]], ..set("b", 0, "x") }).await;
    let own = write(&store, marked("a", 1)).await;
    write(&store, remove("a", 2)).await;
    let free = write(&store, marked("b", 0)).await;

    assert_eq!(taken, Written::Taken { by: tenant("a") });
    assert_eq!([own, free], [Written::Done, Written::Done]);
}

pub async fn a_mark_that_is_dropped_is_free(factory: &impl TenantStoreFactory) {
    let store = factory.open().await;
    write(&store, Wish { marks: vec![[7; 16]], ..set("a", 0, "x") }).await;

    write(&store, Wish { marks: vec![[8; 16]], ..set("a", 1, "y") }).await;
    let dropped = write(&store, Wish { marks: vec![[7; 16]], ..set("b", 0, "x") }).await;
    let kept = write(&store, Wish { marks: vec![[8; 16]], ..set("c", 0, "x") }).await;

    assert_eq!([dropped, kept], [Written::Done, Written::Taken { by: tenant("a") }]);
}

pub async fn a_page_that_is_cut_goes_on(factory: &impl TenantStoreFactory) {
    let store = factory.open().await;
    for number in 0..600 {
        put(&store, &format!("t{number}"), 0, "x").await;
    }

    let (mut seen, mut pages, mut names) = (Seen::default(), 0, Vec::new());
    loop {
        let page = changes(&store, &seen).await;
        names.extend(page.entries.iter().map(|entry| entry.tenant.to_string()));
        (seen, pages) = (page.seen, pages + 1);
        if !page.more {
            break;
        }
    }

    assert!(pages > 1);
    assert_eq!(names, (0..600).map(|number| format!("t{number}")).collect::<Vec<_>>());
}

pub async fn a_full_registry_takes_changes_and_no_new_tenant(factory: &impl TenantStoreFactory) {
    let store = factory.open().await;
    let wish = |name, expects| Wish { most: 2, ..set(name, expects, "x") };
    write(&store, wish("a", 0)).await;
    write(&store, wish("b", 0)).await;

    let third = write(&store, wish("c", 0)).await;
    let changed = write(&store, wish("a", 1)).await;
    write(&store, remove("b", 1)).await;
    let instead = write(&store, wish("c", 0)).await;

    assert_eq!([third, changed, instead], [Written::Full, Written::Done, Written::Done]);
}

pub async fn what_is_brought_back_does_not_go_over_what_is_newer(
    factory: &impl TenantStoreFactory,
) {
    let store = factory.open().await;
    let back =
        |revision, content| Wish { expects: Expects::Older, revision, ..set("a", 0, content) };

    let lost = write(&store, back(4, "four")).await;
    let older = write(&store, back(3, "three")).await;
    let same = write(&store, Wish { nonce: 9, ..back(4, "another four") }).await;

    let conflict = Written::Conflict { revision: 4, is_there: true };
    assert_eq!([lost, older, same], [Written::Done, conflict.clone(), conflict]);
    assert_eq!(told(&all(&store).await), ["a 4 four"]);
}

pub async fn who_comes_from_another_life_begins_anew(factory: &impl TenantStoreFactory) {
    let store = factory.open().await;
    put(&store, "a", 0, "one").await;
    let seen = all(&store).await.seen;

    let foreign = changes(&store, &Seen { life: "another".into(), ..seen.clone() }).await;
    let future = changes(&store, &Seen { version: 99, ..seen }).await;

    for page in [foreign, future] {
        assert!(page.is_reset);
        assert_eq!(told(&page), ["a 1 one"]);
    }
}

pub async fn a_document_is_kept_as_it_is(factory: &impl TenantStoreFactory) {
    let store = factory.open().await;
    let bytes: Vec<u8> = (0..=255).chain([10, 0, 10, 32]).cycle().take(64 * 1024).collect();
    let acme = tenant("acme");

    let outcome = store.write(TenantWrite {
        tenant: &acme,
        expects: Expects::Revision(0),
        revision: 1,
        sealed: Some(&bytes),
        marks: &[],
        nonce: [0; 16],
        most: 10,
    });

    assert_eq!(outcome.await.expect("written"), Written::Done);
    assert_eq!(all(&store).await.entries[0].sealed.as_deref(), Some(&bytes[..]));
}

/// What a test writes.
struct Wish {
    tenant: Tenant,
    expects: Expects,
    revision: u64,
    content: Option<&'static str>,
    marks: Vec<[u8; 16]>,
    nonce: u8,
    most: usize,
}

fn tenant(name: &str) -> Tenant {
    Tenant::parse(name).expect("tenant")
}

fn set(name: &str, expects: u64, content: &'static str) -> Wish {
    Wish {
        tenant: tenant(name),
        expects: Expects::Revision(expects),
        revision: expects + 1,
        content: Some(content),
        marks: Vec::new(),
        nonce: 0,
        most: 10_000,
    }
}

fn remove(name: &str, expects: u64) -> Wish {
    Wish { content: None, ..set(name, expects, "") }
}

async fn write(store: &impl TenantStore, wish: Wish) -> Written {
    let write = TenantWrite {
        tenant: &wish.tenant,
        expects: wish.expects,
        revision: wish.revision,
        sealed: wish.content.map(str::as_bytes),
        marks: &wish.marks,
        nonce: [wish.nonce; 16],
        most: wish.most,
    };
    store.write(write).await.expect("an answer")
}

async fn put(store: &impl TenantStore, name: &str, expects: u64, content: &'static str) {
    assert_eq!(write(store, set(name, expects, content)).await, Written::Done);
}

async fn changes(store: &impl TenantStore, since: &Seen) -> Changes {
    store.changes(since).await.expect("changes")
}

async fn all(store: &impl TenantStore) -> Changes {
    changes(store, &Seen::default()).await
}

fn told(changes: &Changes) -> Vec<String> {
    let entries = changes.entries.iter().map(|entry| {
        let content = entry.sealed.as_deref().map_or("-".into(), String::from_utf8_lossy);
        format!("{} {} {content}", entry.tenant, entry.revision)
    });
    entries.collect()
}
