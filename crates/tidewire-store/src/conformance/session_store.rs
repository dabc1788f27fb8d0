//! What every [`SessionStore`] must do.
#![expect(
    clippy::missing_panics_doc,
    reason = "a behaviour that is not met is a panic: that is what a suite is for"
)]

use std::time::Duration;

use async_trait::async_trait;
use tidewire_model::{
    Channel, Generation, Identity, Incarnation, NodeId, Permissions, Position, SessionId,
    SessionNonce, Tenant, UserId,
};
use tidewire_session::{SavedSubscription, Snapshot};

use super::{LONG, until};
use crate::{Claim, ClaimRequest, Saved, SessionKey, SessionStore};

/// Makes the session stores of the suite: each empty, and none sharing anything with another.
#[async_trait]
pub trait SessionStoreFactory {
    type Store: SessionStore + 'static;

    async fn open(&self) -> Self::Store;
}

/// Makes a `#[tokio::test]` of every behaviour of a session store. `$factory` is an expression of a
/// [`SessionStoreFactory`](crate::conformance::SessionStoreFactory), evaluated for each test, and
/// may await.
#[macro_export]
macro_rules! session_store_conformance {
    ($factory:expr) => {
        $crate::session_store_conformance! { $factory =>
            a_claim_returns_the_session_and_its_previous_owner
            each_claim_raises_the_generation
            a_claim_repeated_with_its_nonce_gets_the_same_answer
            the_owner_is_who_repeated_the_claim_last
            a_claim_with_another_nonce_is_fenced
            a_claim_repeated_after_a_save_is_fenced
            a_claim_under_a_generation_not_reached_yet_is_fenced
            concurrent_claims_have_one_winner
            a_session_that_never_was_is_missing
            a_save_replaces_the_snapshot
            a_save_under_an_old_generation_is_fenced_and_changes_nothing
            a_save_of_a_missing_session_is_fenced_and_makes_none
            a_touch_under_an_old_generation_is_fenced
            a_touch_leaves_a_claim_repeatable
            one_session_id_in_two_tenants_names_two_sessions
            a_session_runs_out
            touching_saving_and_claiming_keep_a_session
            every_field_of_a_snapshot_is_kept
            a_session_store_in_reach_is_healthy
        }
    };
    ($factory:expr => $($behaviour:ident)*) => {
        $(
            #[tokio::test]
            async fn $behaviour() {
                $crate::conformance::session_store::$behaviour(&$factory).await;
            }
        )*
    };
}

pub async fn a_claim_returns_the_session_and_its_previous_owner(
    factory: &impl SessionStoreFactory,
) {
    let store = with_session(factory).await;

    let claim = claim(&store, 1, "node-b", 1).await;

    let snapshot = snapshot("room:1");
    assert_eq!(claim, Claim::Granted { generation: Generation(2), snapshot, previous: node("a") });
}

pub async fn each_claim_raises_the_generation(factory: &impl SessionStoreFactory) {
    let store = with_session(factory).await;

    for generation in 1..=5 {
        let claim = claim(&store, generation, "node-b", generation).await;

        assert_eq!(granted(&claim), Some(generation + 1));
    }
}

pub async fn a_claim_repeated_with_its_nonce_gets_the_same_answer(
    factory: &impl SessionStoreFactory,
) {
    let store = with_session(factory).await;

    let first = claim(&store, 1, "node-b", 1).await;
    let second = claim(&store, 1, "node-b", 1).await;
    let elsewhere = claim(&store, 1, "node-c", 1).await;

    assert_eq!(granted(&first), Some(2));
    assert_eq!(second, first);
    assert_eq!(granted(&elsewhere), Some(2));
}

pub async fn the_owner_is_who_repeated_the_claim_last(factory: &impl SessionStoreFactory) {
    let store = with_session(factory).await;

    claim(&store, 1, "node-b", 1).await;
    claim(&store, 1, "node-c", 1).await;
    let next = claim(&store, 2, "node-d", 2).await;

    let snapshot = snapshot("room:1");
    let previous = node("node-c");
    assert_eq!(next, Claim::Granted { generation: Generation(3), snapshot, previous });
}

pub async fn a_claim_with_another_nonce_is_fenced(factory: &impl SessionStoreFactory) {
    let store = with_session(factory).await;

    claim(&store, 1, "node-b", 1).await;
    let other = claim(&store, 1, "node-c", 2).await;

    assert_eq!(other, Claim::Fenced);
}

pub async fn a_claim_repeated_after_a_save_is_fenced(factory: &impl SessionStoreFactory) {
    let store = with_session(factory).await;

    claim(&store, 1, "node-b", 1).await;
    assert_eq!(save(&store, 2, "room:2").await, Saved::Done);
    let again = claim(&store, 1, "node-b", 1).await;

    assert_eq!(again, Claim::Fenced);
}

pub async fn a_claim_under_a_generation_not_reached_yet_is_fenced(
    factory: &impl SessionStoreFactory,
) {
    let store = with_session(factory).await;

    for generation in [0, 2, u64::MAX - 1] {
        assert_eq!(claim(&store, generation, "node-b", 1).await, Claim::Fenced, "{generation}");
    }
    assert_eq!(granted(&claim(&store, 1, "node-b", 1).await), Some(2));
}

pub async fn concurrent_claims_have_one_winner(factory: &impl SessionStoreFactory) {
    let store = with_session(factory).await;

    let (left, right) = tokio::join!(claim(&store, 1, "node-b", 1), claim(&store, 1, "node-c", 2));

    let winners: Vec<_> = [&left, &right].into_iter().filter_map(granted).collect();
    assert_eq!(winners, [2]);
}

pub async fn a_session_that_never_was_is_missing(factory: &impl SessionStoreFactory) {
    let store = factory.open().await;

    assert_eq!(claim(&store, 1, "node-b", 1).await, Claim::Missing);
}

pub async fn a_save_replaces_the_snapshot(factory: &impl SessionStoreFactory) {
    let store = with_session(factory).await;

    let saved = save(&store, 1, "room:2").await;
    let claim = claim(&store, 1, "node-b", 1).await;

    assert_eq!(saved, Saved::Done);
    assert_eq!(snapshot_of(claim), Some(snapshot("room:2")));
}

pub async fn a_save_under_an_old_generation_is_fenced_and_changes_nothing(
    factory: &impl SessionStoreFactory,
) {
    let store = with_session(factory).await;

    claim(&store, 1, "node-b", 1).await;
    let stale = save(&store, 1, "room:2").await;
    let early = save(&store, 3, "room:2").await;
    let next = claim(&store, 2, "node-c", 2).await;

    assert_eq!([stale, early], [Saved::Fenced; 2]);
    assert_eq!(snapshot_of(next), Some(snapshot("room:1")));
}

pub async fn a_save_of_a_missing_session_is_fenced_and_makes_none(
    factory: &impl SessionStoreFactory,
) {
    let store = factory.open().await;

    assert_eq!(save(&store, 1, "room:2").await, Saved::Fenced);
    assert_eq!(touch(&store, 1).await, Saved::Fenced);
    assert_eq!(claim(&store, 1, "node-b", 1).await, Claim::Missing);
}

pub async fn a_touch_under_an_old_generation_is_fenced(factory: &impl SessionStoreFactory) {
    let store = with_session(factory).await;

    claim(&store, 1, "node-b", 1).await;

    assert_eq!(touch(&store, 1).await, Saved::Fenced);
    assert_eq!(touch(&store, 2).await, Saved::Done);
}

pub async fn a_touch_leaves_a_claim_repeatable(factory: &impl SessionStoreFactory) {
    let store = with_session(factory).await;

    let first = claim(&store, 1, "node-b", 1).await;
    touch(&store, 2).await;

    assert_eq!(claim(&store, 1, "node-b", 1).await, first);
}

pub async fn one_session_id_in_two_tenants_names_two_sessions(factory: &impl SessionStoreFactory) {
    let store = with_session(factory).await;
    let foreign = SessionKey { tenant: tenant("other"), ..key() };

    let request = ClaimRequest { key: foreign.clone(), ..request(1, "node-b", 1) };
    let claimed = store.claim(&request, LONG).await.expect("claim");
    let saved = store.save(&foreign, Generation(1), &snapshot("room:2"), LONG).await.expect("save");

    assert_eq!((claimed, saved), (Claim::Missing, Saved::Fenced));
    assert_eq!(snapshot_of(claim(&store, 1, "node-b", 1).await), Some(snapshot("room:1")));
}

pub async fn a_session_runs_out(factory: &impl SessionStoreFactory) {
    let store = factory.open().await;
    create(&store, Duration::from_millis(50)).await;

    // A claim that is fenced does not keep the session.
    until(async || claim(&store, 7, "node-b", 1).await == Claim::Missing).await;

    assert_eq!(touch(&store, 1).await, Saved::Fenced);
}

pub async fn touching_saving_and_claiming_keep_a_session(factory: &impl SessionStoreFactory) {
    let short = Duration::from_millis(300);
    let store = factory.open().await;

    // Each session is created to run out soon and is then kept by one of the three; a witness that
    // nobody keeps tells when it would have.
    for (id, keep) in [(1, Keep::Touch), (2, Keep::Save), (3, Keep::Claim)] {
        let kept = SessionKey { session: SessionId::from_bytes([id; 16]), ..key() };
        let witness = SessionKey { session: SessionId::from_bytes([id + 100; 16]), ..key() };
        for key in [&kept, &witness] {
            store.create(key, &node("a"), &snapshot("room:1"), short).await.expect("create");
        }
        let generation = keep.apply(&store, &kept).await;
        let witness_request = ClaimRequest { key: witness, ..request(7, "node-b", 1) };
        until(async || store.claim(&witness_request, LONG).await.expect("claim") == Claim::Missing)
            .await;

        assert_eq!(store.touch(&kept, generation, LONG).await.expect("touch"), Saved::Done);
    }
}

pub async fn every_field_of_a_snapshot_is_kept(factory: &impl SessionStoreFactory) {
    let store = factory.open().await;
    let position = Position::new(Incarnation::new(5, 6).epoch(7), Position::MAX_OFFSET);
    let snapshot = Snapshot {
        identity: Identity {
            tenant: tenant("acme"),
            user: UserId::parse("ann \u{e9} \"quoted\"").expect("a valid user"),
            permissions: Permissions::all(),
            expires_at: Some(1_900_000_000),
        },
        subscriptions: (0..200)
            .map(|n| SavedSubscription {
                channel: Channel::parse(&format!("größe/{n}")).expect("a valid channel"),
                start: (n % 2 == 0).then_some(position),
            })
            .collect(),
    };

    store.create(&key(), &node("a"), &snapshot, LONG).await.expect("create");

    assert_eq!(snapshot_of(claim(&store, 1, "node-b", 1).await), Some(snapshot));
}

pub async fn a_session_store_in_reach_is_healthy(factory: &impl SessionStoreFactory) {
    let store = factory.open().await;

    store.health().await.expect("healthy");
}

/// What lengthens the life of a session.
enum Keep {
    Touch,
    Save,
    Claim,
}

impl Keep {
    /// Returns the generation afterwards.
    async fn apply(&self, store: &impl SessionStore, key: &SessionKey) -> Generation {
        let created = Generation(1);
        match self {
            Self::Touch => {
                store.touch(key, created, LONG).await.expect("touch");
                created
            }
            Self::Save => {
                store.save(key, created, &snapshot("room:1"), LONG).await.expect("save");
                created
            }
            Self::Claim => {
                let request = ClaimRequest { key: key.clone(), ..request(1, "node-b", 1) };
                store.claim(&request, LONG).await.expect("claim");
                created.next()
            }
        }
    }
}

async fn with_session<F: SessionStoreFactory>(factory: &F) -> F::Store {
    let store = factory.open().await;
    create(&store, LONG).await;
    store
}

async fn create(store: &impl SessionStore, ttl: Duration) {
    store.create(&key(), &node("a"), &snapshot("room:1"), ttl).await.expect("create");
}

async fn claim(store: &impl SessionStore, generation: u64, owner: &str, nonce: u64) -> Claim {
    store.claim(&request(generation, owner, nonce), LONG).await.expect("claim")
}

async fn save(store: &impl SessionStore, generation: u64, channel: &str) -> Saved {
    store.save(&key(), Generation(generation), &snapshot(channel), LONG).await.expect("save")
}

async fn touch(store: &impl SessionStore, generation: u64) -> Saved {
    store.touch(&key(), Generation(generation), LONG).await.expect("touch")
}

fn request(generation: u64, owner: &str, nonce: u64) -> ClaimRequest {
    ClaimRequest {
        key: key(),
        generation: Generation(generation),
        owner: node(owner),
        nonce: SessionNonce::from_bytes(u128::from(nonce).to_be_bytes()),
    }
}

fn granted(claim: &Claim) -> Option<u64> {
    match claim {
        Claim::Granted { generation, .. } => Some(generation.0),
        Claim::Missing | Claim::Fenced => None,
    }
}

fn snapshot_of(claim: Claim) -> Option<Snapshot> {
    match claim {
        Claim::Granted { snapshot, .. } => Some(snapshot),
        Claim::Missing | Claim::Fenced => None,
    }
}

fn snapshot(channel: &str) -> Snapshot {
    Snapshot {
        identity: Identity {
            tenant: tenant("acme"),
            user: UserId::parse("ann").expect("a valid user"),
            permissions: Permissions::default(),
            expires_at: None,
        },
        subscriptions: vec![SavedSubscription {
            channel: Channel::parse(channel).expect("a valid channel"),
            start: None,
        }],
    }
}

fn key() -> SessionKey {
    SessionKey { tenant: tenant("acme"), session: SessionId::from_bytes([0xa5; 16]) }
}

fn tenant(name: &str) -> Tenant {
    Tenant::parse(name).expect("a valid tenant")
}

fn node(name: &str) -> NodeId {
    NodeId::parse(name).expect("a valid node")
}
