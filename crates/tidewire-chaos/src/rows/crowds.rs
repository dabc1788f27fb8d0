//! Crowds that come at once: those that come back, and those of somebody who keeps to no limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use tidewire_client::{Came, Channel, Client, Connection, Happening, Options, Since};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::flood::Flood;
use crate::cluster::{Cluster, NODES, NOISY, Setup, TENANTS};
use crate::crowd::Size;
use crate::stage::Stage;
use crate::wait::until;

/// Within this time everybody is back, whoever is new included.
const BACK_WITHIN: Duration = Duration::from_mins(1);
/// Sessions that a worker takes up at once, and a node of these has one.
const MOST_CLAIMS: u64 = 256;
/// As many as one of so many may be lost once more: pings are short here, and cores few.
const SECOND_WAVE: u32 = 10;
/// Clients that are new in the middle of it.
const NEW: u32 = 20;
/// How many connect at once before it begins.
const AT_ONCE: usize = 100;

/// Row 34: thousands of clients lose their node and come back to the others at once. These take up as
/// many sessions at a time as they may, everybody is back within a minute, with the session it had, and
/// there is no second wave.
pub(super) async fn returning(setup: Setup, size: Size) -> Result<String> {
    let mut stage = Stage::set(setup, size).await?;
    let herd = Herd::gather(&stage.cluster, size.returning).await?;
    let urls = direct_urls(&stage.cluster)?[1..].to_vec();
    let newcomer = Options { urls, ..stage.cluster.options(TENANTS[0], "new", 1) };

    stage.cluster.kill_node(0)?;
    let begun = Instant::now();
    let (back, new, most) = tokio::join!(
        until("everybody is back", BACK_WITHIN, async || herd.counts.back() >= size.returning),
        newcomers(&newcomer),
        most_claims(&stage.cluster, &herd.counts, size.returning),
    );
    let (back, new, (claiming, waiting)) = (back?, new?, most?);
    ensure!(claiming <= MOST_CLAIMS, "{claiming} sessions were taken up at once by one worker");
    ensure!(begun.elapsed() <= BACK_WITHIN, "it took {:?}", begun.elapsed());

    stage.steady(size).await?;
    until("nobody is away any more", BACK_WITHIN, async || herd.counts.is_complete()).await?;
    let again = herd.end().await.check(size.returning)?;
    stage.cluster.restart_node(0).await?;
    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    outcome.check_sessions()?;
    Ok(format!(
        "{} clients were back in {:.1} s and {NEW} new ones in {:.1} s, at most {claiming} sessions \
         were taken up at once, {waiting} waited, {again} were lost once more; {outcome}",
        size.returning,
        back.as_secs_f64(),
        new.as_secs_f64(),
    ))
}

/// Where clients reach each node without a proxy: thousands would be twice as many for it.
fn direct_urls(cluster: &Cluster) -> Result<Vec<String>> {
    let url = |number| Ok(format!("ws://{}", cluster.node(number)?.clients()));
    (0..NODES).map(url).collect()
}

/// Clients of the first node that wait for it to go.
struct Herd {
    clients: JoinSet<Result<()>>,
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Counts {
    subscribed: AtomicU32,
    lost: AtomicU32,
    resumed: AtomicU32,
    begun_anew: AtomicU32,
}

impl Herd {
    async fn gather(cluster: &Cluster, size: u32) -> Result<Self> {
        let (counts, turns) = (Arc::<Counts>::default(), Arc::new(Semaphore::new(AT_ONCE)));
        let (stop, stopped) = watch::channel(false);
        let mut clients = JoinSet::new();
        for number in 0..size {
            let mut urls = direct_urls(cluster)?;
            urls[1..].rotate_left(number as usize % (NODES - 1));
            let options = cluster.options(TENANTS[0], &format!("returning-{number}"), 0);
            let member = Member {
                options: Options { urls, ..options },
                channel: Channel::parse(&format!("herd/{}", number % 50))?,
                counts: Arc::clone(&counts),
            };
            clients.spawn(Box::pin(member.run(Arc::clone(&turns), stopped.clone())));
        }
        until("a herd that has subscribed", BACK_WITHIN, async || {
            counts.subscribed.load(Ordering::Relaxed) >= size
        })
        .await?;
        Ok(Self { clients, counts, stop })
    }

    async fn end(mut self) -> Arc<Counts> {
        self.stop.send_replace(true);
        while self.clients.join_next().await.is_some() {}
        self.counts
    }
}

struct Member {
    options: Options,
    channel: Channel,
    counts: Arc<Counts>,
}

impl Member {
    async fn run(self, turns: Arc<Semaphore>, mut stop: watch::Receiver<bool>) -> Result<()> {
        let turn = turns.acquire().await?;
        let mut client = Client::connect(self.options).await?;
        drop(turn);
        client.subscribe(self.channel, Since::Now);
        loop {
            let happening = tokio::select! {
                happening = client.next() => happening?,
                _ = stop.changed() => return Ok(()),
            };
            self.counts.note(&happening);
        }
    }
}

impl Counts {
    fn note(&self, happening: &Happening) {
        let count = match happening {
            Happening::Subscribed(_) => &self.subscribed,
            Happening::Lost { .. } => &self.lost,
            Happening::Connected { came: Came::First, .. } => return,
            Happening::Connected { resumed: true, .. } => &self.resumed,
            Happening::Connected { .. } => &self.begun_anew,
            _ => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn back(&self) -> u32 {
        self.resumed.load(Ordering::Relaxed) + self.begun_anew.load(Ordering::Relaxed)
    }

    /// Whether whoever was lost is back.
    fn is_complete(&self) -> bool {
        self.back() == self.lost.load(Ordering::Relaxed)
    }

    /// Everybody had its session again, and hardly anybody was lost more than once; says how many were.
    fn check(&self, size: u32) -> Result<u32> {
        let [lost, anew] =
            [&self.lost, &self.begun_anew].map(|count| count.load(Ordering::Relaxed));
        let again = lost.saturating_sub(size);
        ensure!(anew == 0 && again <= size / SECOND_WAVE, "of {size} clients: {self:?}");
        Ok(again)
    }
}

/// Lets some clients in that have no session; says how long the last of them took.
async fn newcomers(options: &Options) -> Result<Duration> {
    let begun = Instant::now();
    for number in 0..NEW {
        let attempt = number as usize;
        until("somebody new is let in", BACK_WITHIN, async || {
            let opening = Connection::open(options, attempt, None);
            timeout(BACK_WITHIN, opening).await.is_ok_and(|opened| opened.is_ok())
        })
        .await?;
    }
    Ok(begun.elapsed())
}

/// How many sessions were taken up at once by the node that took up most, and how many waited, until
/// everybody is back.
async fn most_claims(cluster: &Cluster, counts: &Counts, size: u32) -> Result<(u64, u64)> {
    let (mut claiming, mut waiting) = (0, 0);
    let begun = Instant::now();
    while counts.back() < size && begun.elapsed() < BACK_WITHIN {
        for node in cluster.running() {
            let count = async |state| node.metric("tidewire_handshakes", state).await;
            claiming = claiming.max(count("claiming").await?);
            waiting = waiting.max(count("waiting").await?);
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok((claiming, waiting))
}

/// What the noisy tenant may: its flood is a hundred times as much.
pub(super) const LIMITS: &str = "connection_publish_rate = 50, tenant_publish_rate = 500, \
                                 tenant_connect_rate = 50, tenant_connections = 100";
const PUBLISH_RATE: f64 = 500.0;
/// How much later a publication of another tenant arrives, for all but the slowest hundredth. The flood
/// and who measures have the same cores as the nodes.
const MOST_DELAY: Duration = Duration::from_secs(1);

/// Row 35: a tenant publishes and connects as fast as it can, over WebSocket and HTTP. It gets what it
/// may, and the others hear what they should, not much later than before.
pub(super) async fn noisy(setup: Setup, size: Size) -> Result<String> {
    let setup = Setup { noisy_limits: Some(LIMITS), ..setup };
    let stage = Stage::set(setup, size).await?;
    let started = stage.crowd.now();
    stage.crowd.go_on_for(size.flood).await;

    let loud_from = stage.crowd.now();
    let flood = Flood::begin(&stage.cluster)?;
    stage.crowd.go_on_for(size.flood).await;
    let noise = flood.end().await?;
    let loud_until = stage.crowd.now();

    let mut limited = 0;
    for node in stage.cluster.running() {
        limited += node.metric("tidewire_limited_total", "").await?;
    }
    stage.steady(size).await?;
    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    outcome.check_sessions()?;
    let quiet = outcome.wait(started..loud_from, 99);
    let loud = outcome.wait(loud_from..loud_until, 99);
    ensure!(loud <= quiet + MOST_DELAY, "p99 was {quiet:?} and is {loud:?} beside {noise}");
    ensure!(limited > 0, "nothing was limited of {noise}");
    // A rate may be exceeded by a tenth, and by what is earned in a second after a rest.
    let most = PUBLISH_RATE * (noise.lasted.as_secs_f64() * 1.1 + 2.0);
    ensure!(f64::from(noise.taken) <= most, "more than {most} were taken of {noise}");
    ensure!(noise.offered > noise.taken * 2, "it was no flood: {noise}");
    Ok(format!("p99 {quiet:.1?} before and {loud:.1?} beside {noise}; {outcome}"))
}

/// How a client of the tenant connects that is there for that row only.
pub(super) fn noisy_options(cluster: &Cluster, user: &str) -> Result<Options> {
    let urls = direct_urls(cluster)?;
    Ok(Options { urls, ..cluster.options(NOISY, user, 0) })
}
