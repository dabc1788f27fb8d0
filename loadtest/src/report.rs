//! What a run found, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tidewire_witness::{Findings, Ledger};
use tokio::time::Instant;

use crate::cli::Load;
use crate::latency::Percentiles;
use crate::plan::Plan;
use crate::process::Usage;
use crate::progress::{Second, in_ms};
use crate::tally::Tally;

mod drain;

pub(crate) use drain::DrainReport;

/// Everything measured. Times carry their unit in their name.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether every promise was kept and everybody took part.
    holds: bool,
    /// Names the run's channels: `loadtest/{run}/…`.
    run: String,
    seed: u64,
    tenants: usize,
    addresses: usize,
    load: Load,
    connect: Connects,
    publish: Publishes,
    deliver: Deliveries,
    check: Findings,
    connections: Connections,
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<DrainReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Server>,
    /// Processor cores this program used while it measured: near to what there is, the figures are
    /// its own and not the server's.
    tester_cores: f64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    problems: BTreeMap<String, u64>,
    seconds: Vec<Second>,
}

#[derive(Debug, Serialize)]
struct Connects {
    wanted: u32,
    connected: u64,
    /// Connected and, if they subscribe, subscribed to all they want.
    ready: u64,
    /// Of the subscribers, their subscriptions included.
    per_second: f64,
    /// From the start of a connection to the answer to `connect`.
    latency: Percentiles,
}

/// Of the whole run, but for the rate.
#[derive(Debug, Serialize)]
struct Publishes {
    published: u64,
    acknowledged: u64,
    rejected: u64,
    unacknowledged: u64,
    /// Positions that were given to two publications.
    collisions: u64,
    /// Stored after a later one of the same publisher, because they were refused once.
    overtaken: u64,
    measured_per_second: f64,
}

/// In the measured time.
#[derive(Debug, Serialize)]
struct Deliveries {
    measured_seconds: f64,
    measured: u64,
    measured_per_second: f64,
    /// From when the schedule wanted the publication made; that is when it was made, without a rate.
    latency_from_due: Percentiles,
    /// From when it was handed to the publishing client.
    latency_from_sent: Percentiles,
}

#[derive(Debug, Serialize)]
struct Connections {
    lost: u64,
    resumed: u64,
    /// Came back to a session that was gone.
    reopened: u64,
    /// Clients that could not go on.
    ended: u64,
}

/// Of all the server's processes together.
#[derive(Debug, Serialize)]
struct Server {
    cores: f64,
    /// `None` without a delivery.
    cpu_us_per_delivery: Option<f64>,
    resident_bytes_before: u64,
    resident_bytes_connected: u64,
    /// Growth while the clients connected and subscribed, over their number.
    resident_bytes_per_connection: u64,
    resident_bytes_after: u64,
}

/// The state at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) server: Usage,
    pub(crate) tester: Usage,
}

/// What the phases of a run brought.
pub(crate) struct Measurements {
    pub(crate) connect_time: Duration,
    /// The server's, before anybody connected.
    pub(crate) before: Usage,
    /// The server's, with everybody connected.
    pub(crate) idle: Usage,
    /// At the end of the warm-up.
    pub(crate) opening: Sample,
    /// At the end of publishing.
    pub(crate) closing: Sample,
    pub(crate) seconds: Vec<Second>,
    pub(crate) findings: Findings,
    pub(crate) ledger: Arc<Ledger>,
    /// If a node left.
    pub(crate) drain: Option<DrainReport>,
}

impl Report {
    pub(crate) fn new(plan: &Plan, tally: &Tally, measurements: Measurements) -> Self {
        let connect = Connects::new(plan, tally, measurements.connect_time);
        let publish = Publishes::new(tally, &measurements);
        let connections = Connections::new(tally);
        let holds = measurements.findings.hold()
            && connect.ready == u64::from(connect.wanted)
            && publish.hold()
            && connections.ended == 0
            && measurements
                .drain
                .as_ref()
                .is_none_or(|drain| drain.holds() && connections.reopened == 0);
        let elapsed = measurements.elapsed();
        let tester = measurements.closing.tester - measurements.opening.tester;
        Self {
            holds,
            run: format!("{:08x}", plan.run),
            seed: plan.seed,
            tenants: plan.access.tenants(),
            addresses: plan.urls.len(),
            load: plan.load.clone(),
            connect,
            publish,
            deliver: Deliveries::new(tally, &measurements),
            connections,
            server: (!plan.pids.is_empty()).then(|| Server::new(plan, &measurements)),
            drain: measurements.drain,
            tester_cores: per(tester.cpu.as_secs_f64(), elapsed),
            problems: tally.problems(),
            check: measurements.findings,
            seconds: measurements.seconds,
        }
    }

    pub(crate) fn holds(&self) -> bool {
        self.holds
    }
}

impl Measurements {
    fn elapsed(&self) -> f64 {
        (self.closing.at - self.opening.at).as_secs_f64()
    }

    fn delivered(&self) -> u64 {
        self.closing.delivered - self.opening.delivered
    }
}

impl Connects {
    fn new(plan: &Plan, tally: &Tally, took: Duration) -> Self {
        let connected = tally.connected.value();
        let subscribers = connected.saturating_sub(plan.load.publishers.into());
        Self {
            wanted: plan.load.clients + plan.load.publishers,
            connected,
            ready: tally.ready.value(),
            per_second: per(float(subscribers), took.as_secs_f64()),
            latency: Percentiles::from(&tally.connect_times()),
        }
    }
}

impl Publishes {
    fn new(tally: &Tally, measurements: &Measurements) -> Self {
        let (published, acknowledged) = (tally.published.value(), tally.acknowledged.value());
        let rejected = tally.rejected.value();
        let measured = measurements.closing.published - measurements.opening.published;
        Self {
            published,
            acknowledged,
            rejected,
            unacknowledged: published - acknowledged - rejected,
            collisions: measurements.ledger.collisions,
            overtaken: measurements.ledger.overtaken,
            measured_per_second: per(float(measured), measurements.elapsed()),
        }
    }

    fn hold(&self) -> bool {
        (self.rejected, self.unacknowledged, self.collisions) == (0, 0, 0)
    }
}

impl Deliveries {
    fn new(tally: &Tally, measurements: &Measurements) -> Self {
        let latency = tally.latencies.measured();
        let (measured, elapsed) = (measurements.delivered(), measurements.elapsed());
        Self {
            measured_seconds: elapsed,
            measured,
            measured_per_second: per(float(measured), elapsed),
            latency_from_due: Percentiles::from(&latency.from_due),
            latency_from_sent: Percentiles::from(&latency.from_sent),
        }
    }
}

impl Connections {
    fn new(tally: &Tally) -> Self {
        Self {
            lost: tally.lost_connections.value(),
            resumed: tally.resumed.value(),
            reopened: tally.reopened.value(),
            ended: tally.ended.value(),
        }
    }
}

impl Server {
    fn new(plan: &Plan, measurements: &Measurements) -> Self {
        let Measurements { before, idle, opening, closing, .. } = measurements;
        let cpu = (closing.server - opening.server).cpu.as_secs_f64();
        let connections = u64::from(plan.load.clients + plan.load.publishers);
        let delivered = measurements.delivered();
        Self {
            cores: per(cpu, measurements.elapsed()),
            cpu_us_per_delivery: (delivered > 0).then(|| cpu * 1e6 / float(delivered)),
            resident_bytes_before: before.resident,
            resident_bytes_connected: idle.resident,
            resident_bytes_per_connection: (*idle - *before).resident / connections,
            resident_bytes_after: closing.server.resident,
        }
    }
}

/// `count` over `time`; zero where there was no time.
fn per(count: f64, time: f64) -> f64 {
    if time > 0.0 { count / time } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show_load(f)?;
        self.show_figures(f)?;
        if let Some(drain) = &self.drain {
            write!(f, "{drain}")?;
        }
        self.show_check(f)
    }
}

impl Report {
    fn show_load(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { clients, channels, subscriptions_per_client, publishers, .. } = self.load;
        let Load { payload_bytes, codec, rate, .. } = self.load;
        let rate = if rate == 0 { "as fast as acknowledged".into() } else { format!("{rate}/s") };
        writeln!(
            f,
            "load         clients {clients}, subscriptions of each {subscriptions_per_client}, \
             publishers {publishers}",
        )?;
        writeln!(
            f,
            "             tenants {}, channels of each {channels}, addresses {}",
            self.tenants, self.addresses,
        )?;
        writeln!(f, "             payload {payload_bytes} B in {codec:?}, rate {rate}")?;
        writeln!(f, "             run {}, seed {}", self.run, self.seed)
    }

    fn show_figures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connect, publish, deliver, .. } = self;
        let (wanted, ready, per_second) = (connect.wanted, connect.ready, connect.per_second);
        writeln!(f, "connect      {ready} of {wanted} ready, {per_second:.0}/s")?;
        writeln!(f, "             {}", Shown(connect.latency))?;
        let (published, acknowledged) = (publish.published, publish.acknowledged);
        let per_second = publish.measured_per_second;
        writeln!(f, "publish      {published}, {acknowledged} acknowledged, {per_second:.0}/s")?;
        let (measured, seconds) = (deliver.measured, deliver.measured_seconds);
        let per_second = deliver.measured_per_second;
        writeln!(f, "deliver      {per_second:.0}/s, {measured} in {seconds:.1} s")?;
        writeln!(f, "latency      {}", Shown(deliver.latency_from_due))?;
        if self.load.rate > 0 {
            writeln!(f, "  from sent  {}", Shown(deliver.latency_from_sent))?;
        }
        if let Some(server) = &self.server {
            let cpu = server.cpu_us_per_delivery.map_or("-".into(), |cpu| format!("{cpu:.2}"));
            let cores = server.cores;
            writeln!(f, "server       {cores:.2} cores, {cpu} µs of cpu per delivery")?;
            let per_connection = float(server.resident_bytes_per_connection) / 1_024.0;
            let after = float(server.resident_bytes_after) / 1_048_576.0;
            writeln!(
                f,
                "             {per_connection:.1} KiB per connection, {after:.0} MiB in all"
            )?;
        }
        writeln!(f, "tester       {:.2} cores", self.tester_cores)
    }

    fn show_check(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Findings { received, lost, duplicated, reordered, altered, gaps, missed, skipped } =
            self.check;
        let Connections { lost: lost_connections, resumed, reopened, ended } = self.connections;
        let Publishes { rejected, unacknowledged, collisions, overtaken, .. } = self.publish;
        writeln!(
            f,
            "check        {received} received: {lost} lost, {duplicated} duplicated, \
             {reordered} reordered, {altered} altered"
        )?;
        writeln!(
            f,
            "             {gaps} gaps announced, {missed} publications in them, {skipped} skipped"
        )?;
        writeln!(
            f,
            "             {rejected} rejected, {unacknowledged} unacknowledged, {collisions} collided, \
             {overtaken} overtaken"
        )?;
        writeln!(
            f,
            "             {lost_connections} connections lost, {resumed} resumed, {reopened} reopened, \
             {ended} ended"
        )?;
        for (problem, count) in &self.problems {
            writeln!(f, "problem      {count}× {problem}")?;
        }
        let verdict = if self.holds { "everything held" } else { "NOT everything held" };
        writeln!(f, "verdict      {verdict}")
    }
}

/// Percentiles on a line.
struct Shown(Percentiles);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Percentiles { p50_us, p90_us, p99_us, p999_us, max_us, .. } = self.0;
        let [p50, p90, p99, p999, max] = [p50_us, p90_us, p99_us, p999_us, max_us].map(in_ms);
        write!(f, "p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {max}")
    }
}
