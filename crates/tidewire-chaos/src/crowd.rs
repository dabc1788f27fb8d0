//! Clients that publish and listen, and one account of it all.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use parking_lot::Mutex;
use tidewire_client::{
    Came, Channel, ClientError, Codec, Command, Connection, Happening, HistoryQuery, Options,
    Position, ServerEvent,
};
use tidewire_model::Direction;
use tidewire_witness::{Account, Saying, Stamp, Verdict};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{Cluster, NODES, TENANTS};
use crate::wait::until;
use listener::Listener;
use publisher::Publisher;

mod listener;
mod publisher;

/// How large a crowd is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub listeners: u32,
    pub channels: u32,
    /// Publications a second, by all publishers together.
    pub rate: u32,
    /// How long the payload of each is.
    pub bytes: u32,
    /// Clients that come back at once, where a row is about that.
    pub returning: u32,
    /// How long a flood lasts, where a row is about one.
    pub flood: Duration,
    /// How many times as long as is promised things may take: a test run shares its machine with others.
    pub slack: u32,
}

impl Size {
    /// What the failure matrix asks for.
    pub const FULL: Self = Self {
        listeners: 200,
        channels: 40,
        rate: 300,
        bytes: Stamp::BYTES,
        returning: 5_000,
        flood: Duration::from_secs(15),
        slack: 1,
    };
    /// What fits into every test run.
    pub const SMALL: Self = Self {
        listeners: 60,
        channels: 12,
        rate: 100,
        bytes: Stamp::BYTES,
        returning: 600,
        flood: Duration::from_secs(4),
        slack: 3,
    };
}

/// Clients at work on a cluster.
pub struct Crowd {
    shared: Arc<Shared>,
    publishers: JoinSet<()>,
    listeners: JoinSet<()>,
    phase: watch::Sender<Phase>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub verdict: Verdict,
    pub counts: Counts,
    /// From when publishing ended until everybody had heard the last of it.
    pub current_after: Duration,
    pub account: Arc<Mutex<Account>>,
}

/// What happened to the clients, beside what they heard.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Connections lost.
    pub lost: u32,
    /// Connections that took a session up again after a loss.
    pub resumed: u32,
    /// Connections beside another one, as a node that leaves had asked for.
    pub moved: u32,
    /// Connections after the first that had to begin a new session.
    pub begun_anew: u32,
    /// Publications and subscriptions refused for good, and clients that could not go on.
    pub refused: Vec<String>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Phase {
    Gathering,
    Publishing,
    /// One last publication to every channel, so that whoever hears it has heard all.
    Ending,
    Over,
}

struct Shared {
    size: Size,
    /// Of each tenant, so that what crosses over shows.
    runs: [u32; 2],
    origin: Instant,
    account: Arc<Mutex<Account>>,
    counts: Mutex<Counts>,
    last: Mutex<Vec<Saying>>,
    subscribed: watch::Sender<u32>,
}

/// A publisher at each node for each tenant.
const PUBLISHERS: u32 = 6;
const _: () = assert!(PUBLISHERS as usize == NODES * TENANTS.len());
/// After all faults are over everybody is current within this time.
pub(crate) const LIVELINESS: Duration = Duration::from_secs(30);
/// Publications that could not be made during a fault are made after it.
const PATIENCE: Duration = Duration::from_mins(1);

impl Crowd {
    /// Connects everybody, a third at each node, waits until all have subscribed, and lets publishing
    /// begin.
    pub async fn gather(size: Size, cluster: &Cluster) -> Result<Self> {
        let shared = Arc::new(Shared {
            size,
            runs: [1, 2],
            origin: Instant::now(),
            account: Arc::default(),
            counts: Mutex::default(),
            last: Mutex::default(),
            subscribed: watch::channel(0).0,
        });
        let (phase, phases) = watch::channel(Phase::Gathering);
        let (mut publishers, mut listeners) = (JoinSet::new(), JoinSet::new());
        for number in 0..size.listeners {
            let channel = number % size.channels;
            let node = (number / size.channels) as usize;
            let mut options = cluster.options(tenant(channel), &format!("listener-{number}"), node);
            options.codec = codec(number);
            let listener = Listener { number, channel, options, shared: Arc::clone(&shared) };
            listeners.spawn(listener.run(phases.clone()));
        }
        for number in 0..PUBLISHERS {
            let node = number as usize / TENANTS.len();
            let mut options = cluster.options(tenant(number), &format!("publisher-{number}"), node);
            options.codec = codec(number / 2);
            let publisher = Publisher::new(u16::try_from(number)?, options, Arc::clone(&shared));
            publishers.spawn(publisher.run(phases.clone()));
        }
        let mut subscribed = shared.subscribed.subscribe();
        let arrived = timeout(PATIENCE, subscribed.wait_for(|count| *count == size.listeners));
        arrived.await.context("everybody subscribes")??;
        phase.send_replace(Phase::Publishing);
        Ok(Self { shared, publishers, listeners, phase })
    }

    /// Waits until so many more publications have been acknowledged.
    pub async fn progress(&self, count: u64) -> Result<()> {
        let wanted = self.shared.account.lock().acknowledged() + count;
        until("publications go on", PATIENCE, async || {
            self.shared.account.lock().acknowledged() >= wanted
        })
        .await?;
        Ok(())
    }

    /// Lets this much time pass under load.
    pub async fn go_on_for(&self, time: Duration) {
        sleep(time).await;
    }

    /// Nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        self.shared.clock()
    }

    pub fn counts(&self) -> Counts {
        self.shared.counts.lock().clone()
    }

    pub fn account(&self) -> Arc<Mutex<Account>> {
        Arc::clone(&self.shared.account)
    }

    /// Ends publishing, waits until all have heard the last of it, reads what the log has kept, and
    /// judges. To be called when all faults are over.
    ///
    /// # Errors
    ///
    /// If publications are never acknowledged, or somebody is not current in time.
    pub async fn disperse(mut self, cluster: &Cluster) -> Result<Outcome> {
        self.phase.send_replace(Phase::Ending);
        let published = async { while self.publishers.join_next().await.is_some() {} };
        timeout(PATIENCE, published).await.context("publications that are never acknowledged")?;
        let last = self.shared.last.lock().clone();
        let account = self.account();
        let current_after = until("everybody is current", LIVELINESS, async || {
            let account = account.lock();
            last.iter().all(|saying| account.deaf_to(*saying).next().is_none())
        })
        .await;
        self.linger().await;
        self.phase.send_replace(Phase::Over);
        while self.listeners.join_next().await.is_some() {}
        for channel in 0..self.shared.size.channels {
            let kept = self.shared.kept(cluster, channel).await?;
            self.shared.account.lock().keep(channel, kept);
        }
        let (verdict, counts) = (self.shared.account.lock().verdict(), self.counts());
        let current_after = current_after.with_context(|| format!("{verdict}, {counts:?}"))?;
        Ok(Outcome { verdict, counts, current_after, account: Arc::clone(&self.shared.account) })
    }

    /// Whatever would come now would be a duplicate: a moment more shows it.
    async fn linger(&self) {
        sleep(Duration::from_millis(300)).await;
    }
}

impl Outcome {
    /// Fails unless every promise was kept to everybody.
    pub fn check(&self) -> Result<()> {
        ensure!(self.verdict.holds(), "{}", self.verdict);
        self.check_clients()
    }

    /// Fails if a client was turned away.
    pub fn check_clients(&self) -> Result<()> {
        ensure!(self.counts.refused.is_empty(), "refused: {:?}", self.counts.refused);
        Ok(())
    }

    /// Fails if a session was not resumed.
    pub fn check_sessions(&self) -> Result<()> {
        ensure!(self.counts.begun_anew == 0, "sessions were begun anew: {:?}", self.counts);
        Ok(())
    }

    /// The share of a hundred deliveries of what was stored in `times` that took the longest, at
    /// least; zero without any.
    pub fn wait(&self, times: std::ops::Range<u64>, percent: usize) -> Duration {
        let waits = self.account.lock().waits(times);
        let at = (waits.len() * percent / 100).min(waits.len().saturating_sub(1));
        Duration::from_nanos(waits.get(at).copied().unwrap_or(0))
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts { lost, resumed, moved, begun_anew, .. } = &self.counts;
        write!(
            f,
            "{}; {lost} connections lost, {resumed} resumed, {moved} moved, {begun_anew} begun \
             anew; current after {:.1} s",
            self.verdict,
            self.current_after.as_secs_f64()
        )
    }
}

impl Shared {
    fn clock(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn run(&self, channel: u32) -> u32 {
        self.runs[channel as usize % TENANTS.len()]
    }

    fn note(&self, happening: &Happening) {
        let mut counts = self.counts.lock();
        match happening {
            Happening::Connected { came: Came::First, .. } => {}
            Happening::Connected { resumed: false, .. } => counts.begun_anew += 1,
            Happening::Connected { came: Came::Over, .. } => counts.moved += 1,
            Happening::Connected { .. } => counts.resumed += 1,
            Happening::Lost { .. } => counts.lost += 1,
            Happening::Rejected { refusal, .. } | Happening::Refused { refusal, .. } => {
                counts.refused.push(refusal.to_string());
            }
            _ => {}
        }
    }

    fn end(&self, who: &str, error: &ClientError) {
        self.counts.lock().refused.push(format!("{who} ended: {error}"));
    }

    /// What the log has of a channel, oldest first, asked of whichever node answers: one that runs
    /// before one that does not.
    async fn kept(&self, cluster: &Cluster, channel: u32) -> Result<Vec<(Position, Saying)>> {
        let begun = Instant::now();
        let mut attempt = cluster.nodes.iter().position(Option::is_some).unwrap_or(0);
        loop {
            let options = cluster.options(tenant(channel), "historian", attempt);
            match self.try_kept(&options, channel).await {
                Ok(kept) => return Ok(kept),
                Err(error) if begun.elapsed() > LIVELINESS => {
                    return Err(error.context("the history cannot be read"));
                }
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
            attempt += 1;
        }
    }

    async fn try_kept(&self, options: &Options, channel: u32) -> Result<Vec<(Position, Saying)>> {
        let (mut connection, _) = Connection::open(options, 0, None).await?;
        let mut kept = Vec::new();
        let mut from = None;
        loop {
            let query = HistoryQuery { direction: Direction::Forward, from, limit: 1_000 };
            connection.send(Command::History { channel: name(channel), query })?;
            let page = loop {
                match timeout(LIVELINESS, connection.next()).await?? {
                    ServerEvent::History { page, .. } => break page,
                    ServerEvent::Failed { refusal, .. } => return Err(refusal.into()),
                    _ => {}
                }
            };
            for publication in page.publications {
                let stamp = Stamp::read(&publication.payload).context("a stamp in the history")?;
                kept.push((publication.position, Saying::new(channel, &stamp)));
            }
            match page.next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        connection.close().await;
        Ok(kept)
    }
}

fn tenant(number: u32) -> &'static str {
    TENANTS[number as usize % TENANTS.len()]
}

/// The same name in both tenants, so that a mix-up of tenants would show.
fn name(channel: u32) -> Channel {
    let tenants = u32::try_from(TENANTS.len()).expect("two");
    Channel::parse(&format!("chaos/{}", channel / tenants)).expect("a valid name")
}

/// Alternates, so that everything meets both.
fn codec(number: u32) -> Codec {
    if (number / 3).is_multiple_of(2) { Codec::Json } else { Codec::Protobuf }
}
