//! Connect everybody, publish, and wait until all of it has come; let a node leave meanwhile, if one
//! is to.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tidewire_witness::{Acknowledged, Findings, Ledger, Random};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval_at, sleep_until, timeout_at};
use tokio_util::task::TaskTracker;

use crate::cli::Load;
use crate::departure::{Departure, verified_tokens};
use crate::pace::Pace;
use crate::phase::{Held, Hold, hold};
use crate::plan::Plan;
use crate::process::Usage;
use crate::progress::{Progress, Second};
use crate::publisher::Publisher;
use crate::report::{DrainReport, Measurements, Report, Sample};
use crate::subscriber::Subscriber;
use crate::tally::{Tally, Window};

pub(super) async fn run(plan: Plan) -> Result<Report> {
    let before = Usage::of(&plan.pids)?;
    let mut fanout = Fanout::new(plan);
    let connect_time = fanout.connect().await?;
    let idle = Usage::of(&fanout.plan.pids)?;
    let verified = fanout.verified_tokens().await?;
    let (opening, closing) = fanout.publish().await?;
    let ledger = fanout.collect_acknowledgements().await;
    let findings = fanout.collect_findings(&ledger).await;
    let auth_calls = fanout.verified_tokens().await? - verified;
    let Fanout { plan, tally, seconds, progress, departure, .. } = fanout;
    let drain = departure.map(|departure| DrainReport::new(&departure, &tally, auth_calls));
    progress.finish();
    Ok(Report::new(
        &plan,
        &tally,
        Measurements {
            connect_time,
            before,
            idle,
            opening,
            closing,
            seconds,
            findings,
            ledger,
            drain,
        },
    ))
}

struct Fanout {
    plan: Plan,
    tally: Arc<Tally>,
    /// Every client's task; their handles below are awaited, those of clients that failed too.
    tracker: TaskTracker,
    progress: Progress,
    seconds: Vec<Second>,
    subscribers: Vec<JoinHandle<Findings>>,
    publishers: Vec<JoinHandle<Acknowledged>>,
    window: watch::Sender<Option<Window>>,
    ledger: watch::Sender<Option<Arc<Ledger>>>,
    /// The node that leaves, if one does.
    departure: Option<Departure>,
    /// Closed once no publisher will publish any more.
    stopped: Held,
}

/// Connections being opened at once; the next ones wait, and the connect rate shows it.
const OPENING: usize = 256;
/// Time to connect beyond what the rate asks for.
const PATIENCE: Duration = Duration::from_mins(1);

impl Fanout {
    fn new(plan: Plan) -> Self {
        let (_, stopped) = hold();
        Self {
            tally: Arc::new(Tally::new(Instant::now())),
            tracker: TaskTracker::new(),
            progress: Progress::new(&plan),
            plan,
            seconds: Vec::new(),
            subscribers: Vec::new(),
            publishers: Vec::new(),
            window: watch::channel(None).0,
            ledger: watch::channel(None).0,
            departure: None,
            stopped,
        }
    }

    /// Connects everybody; says how long the subscribers took.
    async fn connect(&mut self) -> Result<Duration> {
        let (until_ready, mut ready) = hold();
        self.start_publishers(&until_ready)?;
        let begun = Instant::now();
        self.start_subscribers(until_ready).await?;
        let Load { clients, connect_rate, publishers, .. } = self.plan.load;
        let deadline = begun + Duration::from_secs((clients / connect_rate).into()) + PATIENCE;
        let mut ticks = interval_at(begun, Duration::from_millis(100));
        let is_settled = timeout_at(deadline, async {
            loop {
                tokio::select! {
                    _ = ready.recv() => break,
                    _ = ticks.tick() => self.progress.show_connected(&self.tally),
                }
            }
        });
        if is_settled.await.is_err() {
            let ready = self.tally.ready.value();
            bail!("only {ready} of {} clients were ready in time", clients + publishers);
        }
        if self.tally.connected.value() == 0 {
            let problems = self.tally.problems();
            let problem = problems.keys().next().context("nobody connected, for no reason")?;
            bail!("nobody could connect: {problem}");
        }
        Ok(begun.elapsed())
    }

    fn start_publishers(&mut self, until_ready: &Hold) -> Result<()> {
        let (until_stopped, stopped) = hold();
        self.stopped = stopped;
        let Load { publishers, rate, in_flight, payload_bytes, channels, .. } = self.plan.load;
        for number in 0..publishers {
            let publisher = Publisher {
                number: u16::try_from(number).context("too many publishers")?,
                run: self.plan.run,
                options: self.plan.publisher(number)?,
                channels: (0..channels).map(|index| self.plan.channel(number, index)).collect(),
                random: Random::new(self.plan.seed, number),
                pace: Pace::share(rate, number, publishers),
                count: self.plan.share(number),
                in_flight: in_flight as usize,
                payload_bytes: payload_bytes as usize,
                settle: self.plan.settle(),
                tally: Arc::clone(&self.tally),
                window: self.window.subscribe(),
            };
            let task = publisher.run(until_ready.clone(), until_stopped.clone());
            self.publishers.push(self.tracker.spawn(task));
        }
        Ok(())
    }

    /// Starts them at the rate asked for, or as fast as the server lets them in.
    async fn start_subscribers(&mut self, until_ready: Hold) -> Result<()> {
        let begun = Instant::now();
        let opening = Arc::new(Semaphore::new(OPENING));
        let every = Duration::from_secs(1) / self.plan.load.connect_rate;
        for number in 0..self.plan.load.clients {
            let (options, kind) = self.plan.subscriber(number)?;
            let subscriber = Subscriber {
                number,
                run: self.plan.run,
                options,
                kind,
                channels: self.plan.wishes(number).collect(),
                settle: self.plan.settle(),
                tally: Arc::clone(&self.tally),
                ledger: self.ledger.subscribe(),
            };
            sleep_until(begun + every * number).await;
            let permit = Arc::clone(&opening).acquire_owned().await?;
            self.progress.show_connected(&self.tally);
            self.subscribers.push(self.tracker.spawn(subscriber.run(permit, until_ready.clone())));
        }
        self.tracker.close();
        Ok(())
    }

    /// Opens the window and watches until publishing ends; what there was at the end of the warm-up,
    /// and at the end.
    async fn publish(&mut self) -> Result<(Sample, Sample)> {
        const SECOND: Duration = Duration::from_secs(1);

        let window = self.plan.window(Instant::now());
        self.tally.open(window);
        self.window.send_replace(Some(window));
        if let Some(leaving) = &self.plan.leaving {
            self.departure = Some(Departure::new(leaving, window.measured_from)?);
        }
        let mut ticks = interval_at(window.start + SECOND, SECOND);
        let mut opening = None;
        loop {
            tokio::select! {
                biased;
                () = sleep_until(window.measured_from), if opening.is_none() => {
                    opening = Some(self.sample()?);
                }
                () = reached(self.departure.as_ref().and_then(Departure::due)) => self.depart()?,
                _ = ticks.tick() => {
                    if let Some(departure) = &mut self.departure {
                        departure.observe(Usage::of(&self.plan.pids)?, Instant::now());
                    }
                    let second = Second::take(&self.tally, self.seconds.last());
                    self.progress.show(&second, &self.plan.load);
                    self.seconds.push(second);
                }
                _ = self.stopped.recv() => break,
            }
        }
        let closing = self.sample()?;
        Ok((opening.unwrap_or(closing), closing))
    }

    /// Does what is due for the node to leave.
    fn depart(&mut self) -> Result<()> {
        let Some(departure) = &mut self.departure else { return Ok(()) };
        if let Some(told) = departure.step(Instant::now())? {
            self.tally.moves.begin(told);
        }
        Ok(())
    }

    /// Tokens that the nodes that stay have verified so far.
    async fn verified_tokens(&self) -> Result<u64> {
        match &self.plan.leaving {
            Some(leaving) => verified_tokens(&leaving.ops).await,
            None => Ok(0),
        }
    }

    fn sample(&self) -> Result<Sample> {
        Ok(Sample {
            at: Instant::now(),
            published: self.tally.published.value(),
            delivered: self.tally.delivered.value(),
            server: Usage::of(&self.plan.pids)?,
            tester: Usage::of(&[std::process::id()])?,
        })
    }

    async fn collect_acknowledgements(&mut self) -> Arc<Ledger> {
        self.progress.say("waiting for acknowledgements");
        let mut acknowledged = Vec::new();
        for publisher in self.publishers.drain(..) {
            acknowledged.push(publisher.await.expect("a publisher ends by itself"));
        }
        Arc::new(Ledger::new(acknowledged))
    }

    async fn collect_findings(&mut self, ledger: &Arc<Ledger>) -> Findings {
        self.progress.say("waiting for deliveries");
        self.ledger.send_replace(Some(Arc::clone(ledger)));
        let mut findings = Findings::default();
        for subscriber in self.subscribers.drain(..) {
            findings.add(&subscriber.await.expect("a subscriber ends by itself"));
        }
        self.tracker.wait().await;
        findings
    }
}

/// Waits until `at`, or for ever if there is no such time.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
