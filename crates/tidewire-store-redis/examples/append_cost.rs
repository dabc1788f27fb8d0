//! What an append costs Redis, in processor time of the server, beside a plain `XADD` in the same run.
//!
//! `cargo run -p tidewire-store-redis --example append_cost`. It starts a `redis-server` of its own,
//! and prints microseconds for each publication. Only the server's time counts, so the client need
//! not be an optimized build; whatever else the machine does costs caches, so run it twice.

#![expect(clippy::print_stdout, reason = "printing is what this program is for")]

mod server;

use std::future::Future;

use futures_util::stream::{self, StreamExt as _};
use redis::aio::MultiplexedConnection;
use tidewire_broker::{Draft, Log as _, Retention};
use tidewire_model::{Channel, Payload, PublicationId, Tenant, TenantChannel, UserId};
use tidewire_store_redis::{Deployment, RedisConfig, RedisConnection, RedisLog};
use tidewire_testkit::services::RedisServer;

use server::{info, to_f64, used_cpu};

const PUBLICATIONS: usize = 20_000;
const BODY: usize = 256;
/// Calls under way at a time, each in a channel of its own.
const CHANNELS: usize = 64;
/// For what is scattered: each publication is far from the one before in the same channel.
const MANY_CHANNELS: usize = 10_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let server = RedisServer::start().await;
    let client = redis::Client::open(server.url()).expect("a valid url");
    let mut operator = client.get_multiplexed_async_connection().await.expect("a connection");
    let bench = Bench::new(&server);
    let version = info(&mut operator, "server", "redis_version").await;
    println!(
        "redis {version}, {PUBLICATIONS} publications of {BODY} bytes, µs of redis for each:\n"
    );

    let empty = measure(&mut operator, PUBLICATIONS, |_| bench.empty()).await;
    let plain = operator.clone();
    let xadd = measure(&mut operator, PUBLICATIONS, |number| add(plain.clone(), number)).await;
    println!("{:<34} {empty:>6.2}", "an empty call of a function");
    println!("{:<34} {xadd:>6.2}   1.0 x", "XADD MAXLEN ~ 1000");
    for (channels, place) in [(CHANNELS, "64 channels"), (MANY_CHANNELS, "10,000 channels")] {
        for (batch, with_ids) in
            [(1, false), (1, true), (4, false), (4, true), (16, false), (16, true), (64, true)]
        {
            let append = |call| bench.append(call, Shape { channels, batch, with_ids });
            let cost = measure(&mut operator, PUBLICATIONS / batch, append).await;
            let cost = cost / to_f64(batch);
            let ids = if with_ids { "with ids" } else { "without ids" };
            let name = format!("append {batch} {ids}, {place}");
            println!("{name:<34} {cost:>6.2} {:>5.1} x", cost / xadd);
        }
    }
}

/// Appends as a node makes them.
struct Bench {
    log: RedisLog,
    payload: Payload,
}

#[derive(Clone, Copy)]
struct Shape {
    channels: usize,
    batch: usize,
    with_ids: bool,
}

impl Bench {
    fn new(server: &RedisServer) -> Self {
        let config = RedisConfig::new(Deployment::Single { url: server.url() });
        let connection = RedisConnection::new(config).expect("a valid configuration");
        let log = RedisLog::new(connection, Retention::default());
        Self { log, payload: Payload::binary(vec![b'x'; BODY].into()) }
    }

    async fn empty(&self) {
        self.log.incarnation(&channel(0)).await.expect("the server is there");
    }

    async fn append(&self, call: usize, shape: Shape) {
        let Shape { channels, batch, with_ids } = shape;
        // A prime apart, so that neighbours in time are not neighbours in the channel list.
        let channel = channel(call * 7_919 % channels);
        let draft = |place| Draft {
            id: with_ids.then(|| id(&format!("{channels}-{batch}-{call}-{place}"))),
            publisher: Some(UserId::parse("ann").expect("valid")),
            payload: self.payload.clone(),
        };
        let drafts: Vec<_> = (0..batch).map(draft).collect();
        self.log.append(&channel, &drafts).await.expect("the server is there");
    }
}

async fn add(mut connection: MultiplexedConnection, number: usize) {
    let mut command = redis::cmd("XADD");
    command.arg(format!("plain:{}", number % CHANNELS)).arg("MAXLEN").arg("~").arg(1_000);
    command.arg("*").arg("m").arg(number).arg("p").arg(vec![b'x'; BODY]);
    command.query_async::<()>(&mut connection).await.expect("the server is there");
}

/// What one call costs the server, in microseconds. A tenth is called before, to have made what is
/// made once.
async fn measure<F: Future<Output = ()>>(
    operator: &mut MultiplexedConnection,
    calls: usize,
    call: impl Fn(usize) -> F,
) -> f64 {
    let warm_up = calls / 10;
    run(0..warm_up, &call).await;
    let before = used_cpu(operator).await;
    run(warm_up..warm_up + calls, &call).await;
    (used_cpu(operator).await - before) * 1e6 / to_f64(calls)
}

async fn run<F: Future<Output = ()>>(range: std::ops::Range<usize>, call: impl Fn(usize) -> F) {
    stream::iter(range).map(call).buffer_unordered(CHANNELS).for_each(|()| async {}).await;
}

fn channel(number: usize) -> TenantChannel {
    TenantChannel::new(
        Tenant::parse("acme").expect("valid"),
        Channel::parse(&format!("room:{number}")).expect("valid"),
    )
}

fn id(text: &str) -> PublicationId {
    PublicationId::parse(text).expect("short and printable")
}
