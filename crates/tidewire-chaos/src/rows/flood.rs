//! A tenant that keeps to no limit.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Method;
use serde_json::{Value, json};
use tidewire_client::{Channel, Command, Connection, Options, Payload, ServerEvent};
use tidewire_model::Publish;
use tidewire_transport::http::request;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::crowds::noisy_options;
use crate::cluster::{Cluster, NODES, NOISY, api_key};

/// Connections that publish, and what each offers: 25,000 a second together.
const PUBLISHERS: usize = 12;
const PUBLISHES_EVERY: Duration = Duration::from_millis(50);
const AT_ONCE: usize = 104;
/// Batches over HTTP: as much again.
const BATCHES_EVERY: Duration = Duration::from_millis(120);
const BATCH: usize = 1_000;
/// Who does nothing but connect, as often as it can, up to 10,000 a second together.
const VISITORS: usize = 200;
const VISITS_EVERY: Duration = Duration::from_millis(20);
/// A node that does not read is not sent more.
const MOST_UNSENT: usize = 256 << 10;
const PATIENCE: Duration = Duration::from_secs(5);

/// Goes on until it is ended, on a thread of its own.
pub(super) struct Flood {
    shared: Arc<Shared>,
    begun: Instant,
    thread: JoinHandle<()>,
}

/// What it came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noise {
    pub(super) lasted: Duration,
    /// Publications.
    pub(super) offered: u32,
    pub(super) taken: u32,
    connects: u32,
    let_in: u32,
}

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    offered: AtomicU32,
    taken: AtomicU32,
    connects: AtomicU32,
    let_in: AtomicU32,
}

impl Flood {
    pub(super) fn begin(cluster: &Cluster) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let options = noisy_options(cluster, "eve")?;
        let nodes: Vec<SocketAddr> =
            (0..NODES).map(|node| Ok(cluster.node(node)?.clients())).collect::<Result<_>>()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (work, begun) = (Arc::clone(&shared), Instant::now());
        let thread = std::thread::spawn(move || runtime.block_on(make_noise(work, options, nodes)));
        Ok(Self { shared, begun, thread })
    }

    pub(super) async fn end(self) -> Result<Noise> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let lasted = self.begun.elapsed();
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await?;
        joined.ok().context("the flood has panicked")?;
        let count = |count: &AtomicU32| count.load(Ordering::Relaxed);
        let Shared { offered, taken, connects, let_in, .. } = &*self.shared;
        let [offered, taken, connects, let_in] = [offered, taken, connects, let_in].map(count);
        Ok(Noise { lasted, offered, taken, connects, let_in })
    }
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.lasted.as_secs_f64();
        let a_second = |count: u32| f64::from(count) / seconds;
        write!(
            f,
            "{:.0} publications a second of which {:.0} were taken, and {:.0} connects a second of \
             which {:.0} were let in",
            a_second(self.offered),
            a_second(self.taken),
            a_second(self.connects),
            a_second(self.let_in)
        )
    }
}

async fn make_noise(shared: Arc<Shared>, options: Options, nodes: Vec<SocketAddr>) {
    let mut tasks = JoinSet::new();
    for number in 0..PUBLISHERS {
        tasks.spawn(publish(Arc::clone(&shared), options.clone(), number));
    }
    for node in nodes {
        tasks.spawn(publish_batches(Arc::clone(&shared), node));
    }
    for number in 0..VISITORS {
        tasks.spawn(visit(Arc::clone(&shared), options.clone(), number));
    }
    while tasks.join_next().await.is_some() {}
}

impl Shared {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

fn add(count: &AtomicU32, more: usize) {
    count.fetch_add(u32::try_from(more).unwrap_or(u32::MAX), Ordering::Relaxed);
}

/// Publishes whatever comes back, over connection after connection.
async fn publish(shared: Arc<Shared>, options: Options, number: usize) {
    while !shared.is_over() {
        let opened = Connection::open(&options, number, None).await;
        match opened {
            Ok((connection, _)) => publish_over(&shared, connection).await,
            Err(_) => sleep(PUBLISHES_EVERY).await,
        }
    }
}

async fn publish_over(shared: &Shared, mut connection: Connection) {
    let mut ticks = interval(PUBLISHES_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !shared.is_over() {
        let event = tokio::select! {
            event = connection.next() => event,
            _ = ticks.tick() => {
                for _ in 0..AT_ONCE {
                    if connection.unsent() < MOST_UNSENT && connection.send(something()).is_ok() {
                        add(&shared.offered, 1);
                    }
                }
                continue;
            }
        };
        match event {
            Ok(ServerEvent::Published { .. }) => add(&shared.taken, 1),
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

fn something() -> Command {
    let channel = Channel::parse("noise").expect("a valid name");
    let payload = Payload::json("\"noise\"".into()).expect("json");
    Command::Publish(Publish { channel, id: None, payload })
}

/// The same over HTTP.
async fn publish_batches(shared: Arc<Shared>, node: SocketAddr) {
    let url = format!("http://{node}/v1/{NOISY}/publications");
    let key = format!("Bearer {}", api_key(NOISY));
    let one = json!({ "channel": "noise", "data": "noise" });
    let body = json!({ "publications": vec![one; BATCH] }).to_string();
    let mut ticks = interval(BATCHES_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !shared.is_over() {
        ticks.tick().await;
        let headers = [("authorization", key.as_str())];
        let asking = request(Method::POST, &url, &headers, body.clone());
        let Ok(Ok(answer)) = timeout(PATIENCE, asking).await else { continue };
        let answer: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let results = answer["results"].as_array().map(Vec::as_slice).unwrap_or_default();
        add(&shared.offered, results.len());
        add(&shared.taken, results.iter().filter(|one| one["offset"].is_number()).count());
    }
}

/// Connects and leaves.
async fn visit(shared: Arc<Shared>, options: Options, number: usize) {
    let mut ticks = interval(VISITS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !shared.is_over() {
        ticks.tick().await;
        add(&shared.connects, 1);
        if let Ok(Ok(_)) = timeout(PATIENCE, Connection::open(&options, number, None)).await {
            add(&shared.let_in, 1);
        }
    }
}
