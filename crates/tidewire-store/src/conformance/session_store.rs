//! What every [`SessionStore`] must do.
#![expect(
    clippy::missing_panics_doc,
    reason = "a behaviour that is not met is a panic: that is what a suite is for"
)]

use std::time::Duration;

use async_trait::async_trait;
use tidewire_model::{
    Channel, DeltaFormat, Generation, Identity, Incarnation, NodeId, Permissions, Position,
    Provenance, SessionId, SessionNonce, Tenant, Trace, UserId,
};
use tidewire_session::{SavedPresence, SavedSubscription, Snapshot};

use super::{LONG, until};
use crate::{Claim, ClaimRequest, Saved, SessionKey, SessionStore, SessionWrite};

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
            a_save_under_a_generation_the_store_has_lost_wins
            a_save_of_a_session_that_was_lost_brings_it_back
            a_save_by_who_lost_a_repeated_claim_is_fenced
            one_session_id_in_two_tenants_names_two_sessions
            a_session_runs_out
            saving_and_claiming_keep_a_session
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
    let next = claim(&store, 2, "node-c", 2).await;

    assert_eq!(stale, Saved::Fenced);
    assert_eq!(snapshot_of(next), Some(snapshot("room:1")));
}

pub async fn a_save_under_a_generation_the_store_has_lost_wins(factory: &impl SessionStoreFactory) {
    let store = with_session(factory).await;

    let rightful = save(&store, 3, "room:2").await;
    let stale = save(&store, 1, "room:3").await;

    assert_eq!((rightful, stale), (Saved::Done, Saved::Fenced));
    assert_eq!(snapshot_of(claim(&store, 3, "node-b", 1).await), Some(snapshot("room:2")));
}

pub async fn a_save_of_a_session_that_was_lost_brings_it_back(factory: &impl SessionStoreFactory) {
    let store = factory.open().await;

    let saved = save(&store, 7, "room:2").await;
    let claim = claim(&store, 7, "node-b", 1).await;

    assert_eq!(saved, Saved::Done);
    assert_eq!(granted(&claim), Some(8));
    assert_eq!(snapshot_of(claim), Some(snapshot("room:2")));
}

pub async fn a_save_by_who_lost_a_repeated_claim_is_fenced(factory: &impl SessionStoreFactory) {
    let store = with_session(factory).await;

    claim(&store, 1, "node-b", 1).await;
    claim(&store, 1, "node-c", 1).await;
    let loser = save_as(&store, "node-b", 2, "room:2").await;
    let winner = save_as(&store, "node-c", 2, "room:3").await;

    assert_eq!((loser, winner), (Saved::Fenced, Saved::Done));
}

pub async fn one_session_id_in_two_tenants_names_two_sessions(factory: &impl SessionStoreFactory) {
    let store = with_session(factory).await;
    let foreign = SessionKey { tenant: tenant("other"), ..key() };

    let request = ClaimRequest { key: foreign.clone(), ..request(1, "node-b", 1) };
    let claimed = store.claim(&request, LONG).await.expect("claim");
    let write = SessionWrite {
        key: &foreign,
        generation: Generation(9),
        owner: &node("a"),
        snapshot: &snapshot("room:2"),
    };
    store.save(write, LONG).await.expect("save");

    assert_eq!(claimed, Claim::Missing);
    assert_eq!(snapshot_of(claim(&store, 1, "node-b", 1).await), Some(snapshot("room:1")));
}

pub async fn a_session_runs_out(factory: &impl SessionStoreFactory) {
    let store = factory.open().await;
    create(&store, Duration::from_millis(50)).await;

    // A claim that is fenced does not keep the session.
    until(async || claim(&store, 7, "node-b", 1).await == Claim::Missing).await;
}

pub async fn saving_and_claiming_keep_a_session(factory: &impl SessionStoreFactory) {
    let short = Duration::from_secs(1);
    let store = factory.open().await;

    // Each session is created to run out soon and is then kept by one of the two; a witness that
    // nobody keeps tells when it would have.
    for (id, keep) in [(1, Keep::Save), (2, Keep::Claim)] {
        let kept = SessionKey { session: SessionId::from_bytes([id; 16]), ..key() };
        let witness = SessionKey { session: SessionId::from_bytes([id + 100; 16]), ..key() };
        for key in [&kept, &witness] {
            store.save(write(key, &node("a"), &snapshot("room:1")), short).await.expect("save");
        }
        keep.apply(&store, &kept).await;
        let witness_request = ClaimRequest { key: witness, ..request(7, "node-b", 1) };
        until(async || store.claim(&witness_request, LONG).await.expect("claim") == Claim::Missing)
            .await;

        let kept_request = ClaimRequest { key: kept, ..request(7, "node-b", 1) };
        assert_eq!(store.claim(&kept_request, LONG).await.expect("claim"), Claim::Fenced);
    }
}

pub async fn every_field_of_a_snapshot_is_kept(factory: &impl SessionStoreFactory) {
    let store = factory.open().await;
    let position = Position::new(Incarnation::new(5, 6).epoch(7), Position::MAX_OFFSET);
    let snapshot = Snapshot {
        presence: SavedPresence::default(),
        grants: Vec::new(),
        identity: Identity {
            tenant: tenant("acme"),
            user: UserId::parse("ann \u{e9} \"quoted\"").expect("a valid user"),
            permissions: Permissions::all(),
            expires_at: Some(1_900_000_000),
            provenance: Some(Provenance {
                key: Trace::from_digest([7; 8]),
                token: Some(Trace::from_digest([255; 8])),
                issued_at: 1_899_999_000,
            }),
        },
        subscriptions: (0..200)
            .map(|n| SavedSubscription {
                channel: Channel::parse(&format!("größe/{n}")).expect("a valid channel"),
                start: (n % 2 == 0).then_some(position),
                delta: (n % 3 == 0).then_some(DeltaFormat::Fossil),
            })
            .collect(),
    };

    store.save(write(&key(), &node("a"), &snapshot), LONG).await.expect("save");

    assert_eq!(snapshot_of(claim(&store, 1, "node-b", 1).await), Some(snapshot));
}

pub async fn a_session_store_in_reach_is_healthy(factory: &impl SessionStoreFactory) {
    let store = factory.open().await;

    store.health().await.expect("healthy");
}

/// What lengthens the life of a session.
enum Keep {
    Save,
    Claim,
}

impl Keep {
    async fn apply(&self, store: &impl SessionStore, key: &SessionKey) {
        match self {
            Self::Save => {
                let (owner, snapshot) = (node("a"), snapshot("room:1"));
                store.save(write(key, &owner, &snapshot), LONG).await.expect("save");
            }
            Self::Claim => {
                let request = ClaimRequest { key: key.clone(), ..request(1, "node-b", 1) };
                store.claim(&request, LONG).await.expect("claim");
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
    let saved = store.save(write(&key(), &node("a"), &snapshot("room:1")), ttl).await;
    assert_eq!(saved.expect("save"), Saved::Done);
}

/// A session as its first owner writes it.
fn write<'a>(key: &'a SessionKey, owner: &'a NodeId, snapshot: &'a Snapshot) -> SessionWrite<'a> {
    SessionWrite { key, generation: Generation(1), owner, snapshot }
}

async fn claim(store: &impl SessionStore, generation: u64, owner: &str, nonce: u64) -> Claim {
    store.claim(&request(generation, owner, nonce), LONG).await.expect("claim")
}

/// As the owner in the life of a session that most tests look at.
async fn save(store: &impl SessionStore, generation: u64, channel: &str) -> Saved {
    let owner = if generation == 1 { "a" } else { "node-b" };
    save_as(store, owner, generation, channel).await
}

async fn save_as(store: &impl SessionStore, owner: &str, generation: u64, channel: &str) -> Saved {
    let (key, owner, snapshot) = (key(), node(owner), snapshot(channel));
    let generation = Generation(generation);
    let write = SessionWrite { key: &key, generation, owner: &owner, snapshot: &snapshot };
    store.save(write, LONG).await.expect("save")
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
        presence: SavedPresence::default(),
        grants: Vec::new(),
        identity: Identity {
            tenant: tenant("acme"),
            user: UserId::parse("ann").expect("a valid user"),
            permissions: Permissions::default(),
            expires_at: None,
            provenance: None,
        },
        subscriptions: vec![SavedSubscription {
            channel: Channel::parse(channel).expect("a valid channel"),
            start: None,
            delta: None,
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
