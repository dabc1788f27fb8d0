//! What a session costs Redis: memory for each, and processor time of the server for each call, beside
//! a plain `PING` in the same run.
//!
//! `cargo run -p tidewire-store-redis --example session_cost`. It starts a `redis-server` of its own.
//! Only the server's time counts, so the client need not be an optimized build; whatever else the
//! machine does costs caches, so run it twice.

#![expect(clippy::print_stdout, reason = "printing is what this program is for")]

mod server;

use std::future::Future;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use redis::aio::MultiplexedConnection;
use tidewire_model::{
    Action, Channel, Epoch, Filter, Generation, Identity, NodeId, Permissions, Position, SessionId,
    SessionNonce, Tenant, UserId,
};
use tidewire_session::{SavedPresence, SavedSubscription, Snapshot};
use tidewire_store::{Claim, ClaimRequest, Saved, SessionKey, SessionStore as _, SessionWrite};
use tidewire_store_redis::{Deployment, RedisConfig, RedisConnection, RedisSessionStore};
use tidewire_testkit::services::RedisServer;

use server::{info, to_f64, used_cpu};

const SESSIONS: usize = 20_000;
/// Calls under way at a time.
const AT_ONCE: usize = 64;
/// Records that are measured one by one.
const SAMPLE: usize = 200;
/// As a connected session has it.
const TTL: Duration = Duration::from_mins(42);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let server = RedisServer::start().await;
    let client = redis::Client::open(server.url()).expect("a valid url");
    let mut operator = client.get_multiplexed_async_connection().await.expect("a connection");
    let config = RedisConfig::new(Deployment::Single { url: server.url() });
    let connection = RedisConnection::new(config).expect("a valid configuration");
    let store = RedisSessionStore::new(connection);
    let version = info(&mut operator, "server", "redis_version").await;
    println!("redis {version}, {SESSIONS} sessions of each kind\n");

    let plain = operator.clone();
    let ping = measure(&mut operator, |_| ping(plain.clone())).await;
    println!("subscriptions      bytes   memory  new, µs save, µs claim, µs");
    for subscriptions in [1, 8, 40] {
        let cost = Bench { store: &store, subscriptions }.run(&mut operator).await;
        let Cost { record, memory, new, save, claim } = cost;
        println!(
            "{subscriptions:<18} {record:>9.0} {memory:>9.0} {new:>8.2} {save:>8.2} {claim:>8.2}"
        );
    }
    println!("\na PING: {ping:.2} µs");
}

/// What one session costs.
struct Cost {
    /// Bytes, by `MEMORY USAGE`.
    record: f64,
    /// Bytes by which the server's memory grew, its index included.
    memory: f64,
    /// Microseconds of the server for the first save.
    new: f64,
    /// The same for any other, a renewal too.
    save: f64,
    claim: f64,
}

/// Sessions as nodes write them.
struct Bench<'a> {
    store: &'a RedisSessionStore,
    subscriptions: usize,
}

impl Bench<'_> {
    async fn run(&self, operator: &mut MultiplexedConnection) -> Cost {
        redis::cmd("FLUSHDB").exec_async(operator).await.expect("it answers");
        let empty = used_memory(operator).await;
        let new = measure(operator, |number| self.save(number)).await;
        let memory = (used_memory(operator).await - empty) / to_f64(SESSIONS);
        let record = sample(operator).await;
        let save = measure(operator, |number| self.save(number)).await;
        let claim = measure(operator, |number| self.claim(number)).await;
        Cost { record, memory, new, save, claim }
    }

    async fn save(&self, number: usize) {
        let (key, owner, snapshot) = (key(number), node("node-a"), self.snapshot(number));
        let write = SessionWrite {
            key: &key,
            generation: Generation(1),
            owner: &owner,
            snapshot: &snapshot,
        };
        let saved = self.store.save(write, TTL).await.expect("the server is there");
        assert_eq!(saved, Saved::Done);
    }

    async fn claim(&self, number: usize) {
        let nonce = SessionNonce::from_bytes([5; 16]);
        let (key, owner) = (key(number), node("node-b"));
        let request = ClaimRequest { key, generation: Generation(1), owner, nonce };
        let claim = self.store.claim(&request, TTL).await.expect("the server is there");
        assert!(matches!(claim, Claim::Granted { .. }));
    }

    fn snapshot(&self, number: usize) -> Snapshot {
        let subscription = |index: usize| SavedSubscription {
            channel: Channel::parse(&format!("chat/rooms/{number:05}-{index:02}")).expect("valid"),
            start: Some(Position::new(Epoch::parse("mfabc12000010002").expect("valid"), 1_234)),
            delta: None,
        };
        let identity = Identity {
            tenant: tenant(),
            user: UserId::parse(&format!("user-{number:08}")).expect("valid"),
            permissions: permissions(number),
            expires_at: Some(1_900_000_000),
            provenance: None,
        };
        Snapshot {
            presence: SavedPresence::default(),
            grants: Vec::new(),
            identity,
            subscriptions: (0..self.subscriptions).map(subscription).collect(),
        }
    }
}

async fn ping(mut connection: MultiplexedConnection) {
    redis::cmd("PING").exec_async(&mut connection).await.expect("the server is there");
}

/// What one call for each session costs the server, in microseconds.
async fn measure<F: Future<Output = ()>>(
    operator: &mut MultiplexedConnection,
    call: impl Fn(usize) -> F,
) -> f64 {
    let before = used_cpu(operator).await;
    let calls = stream::iter(0..SESSIONS).map(call).buffer_unordered(AT_ONCE);
    calls.for_each(|()| async {}).await;
    (used_cpu(operator).await - before) * 1e6 / to_f64(SESSIONS)
}

/// The mean size of some records, in bytes.
async fn sample(operator: &mut MultiplexedConnection) -> f64 {
    let mut all: redis::AsyncIter<'_, String> = redis::cmd("SCAN")
        .cursor_arg(0)
        .arg("TYPE")
        .arg("hash")
        .clone()
        .iter_async(operator)
        .await
        .expect("it answers");
    let mut keys = Vec::new();
    while keys.len() < SAMPLE {
        keys.push(all.next_item().await.expect("there are more").expect("a key"));
    }
    drop(all);
    let mut sum = 0;
    for key in keys {
        let mut usage = redis::cmd("MEMORY");
        usage.arg("USAGE").arg(key).arg("SAMPLES").arg(0);
        sum += usage.query_async::<usize>(operator).await.expect("it answers");
    }
    to_f64(sum) / to_f64(SAMPLE)
}

async fn used_memory(connection: &mut MultiplexedConnection) -> f64 {
    info(connection, "memory", "used_memory").await.parse().expect("bytes")
}

/// As an application grants them: common channels to read, its user's own to write.
fn permissions(number: usize) -> Permissions {
    let filter = |text: &str| Filter::parse(text).expect("valid");
    Permissions::default()
        .grant(filter("chat/**"), [Action::Subscribe, Action::Publish, Action::History])
        .grant(filter("news/*"), [Action::Subscribe])
        .grant(filter(&format!("inbox/user-{number:08}")), [Action::Subscribe, Action::History])
}

fn key(number: usize) -> SessionKey {
    SessionKey { tenant: tenant(), session: SessionId::from_bytes((number as u128).to_be_bytes()) }
}

fn tenant() -> Tenant {
    Tenant::parse("acme").expect("valid")
}

fn node(name: &str) -> NodeId {
    NodeId::parse(name).expect("valid")
}
