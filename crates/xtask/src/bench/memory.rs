//! What connections hold while nothing happens.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::goal::{Figure, Row};
use super::peers::Contender;
use super::server::Server;
use super::services::Services;
use super::stage::{Results, Stage, limited};
use super::swarm::{self, Record, Task};

/// Near what a process may have open here.
const CONNECTIONS: u32 = 19_000;
/// Of the process that serves them.
const CONNECTION_BYTES: f64 = 1_024.0;
/// The same, and the session's record in the same process.
const SESSION_BYTES: f64 = 1_536.0;
/// What it may come to after each has received one publication.
const USED: f64 = 1.1;

pub(super) fn idle(stage: &mut Stage) {
    let task = Task::new(CONNECTIONS, "once", stage.options.seconds);
    let mut results = Results::default();
    for contender in [Contender::Json, Contender::Protobuf] {
        println!("{}, {CONNECTIONS} connections", contender.name());
        results.keep(contender, stage.perform(contender, &task).map(|records| grown(&records)));
    }
    for contender in [Contender::Json, Contender::Protobuf] {
        let where_from = format!("sessions in the process, {}", contender.name());
        add_rows(stage, &results, (contender, SESSION_BYTES), &where_from);
    }
    let mut results = Results::default();
    println!("sessions in Redis, {CONNECTIONS} connections");
    results.keep(Contender::Json, with_sessions(stage, &task).map(|records| grown(&records)));
    add_rows(stage, &results, (Contender::Json, CONNECTION_BYTES), "sessions in Redis, JSON");
}

fn add_rows(
    stage: &mut Stage,
    results: &Results,
    (contender, most): (Contender, f64),
    where_from: &str,
) {
    for (phase, what, most) in
        [("open", "idle", most), ("once", "after one publication each", (most * USED).floor())]
    {
        let what = format!("19,000 connections, {where_from}, {what}");
        let figure = results.figure(contender, phase, |record| record.number("each"), "B");
        stage.add(limited("G5", &what, figure, most));
    }
}

/// Each record with the growth since the opening began, for each connection.
fn grown(records: &[Record]) -> Vec<Record> {
    let Some(open) = records.first() else { return Vec::new() };
    records.iter().map(|record| record.with("each", record.memory_since(open))).collect()
}

fn with_sessions(stage: &Stage, task: &Task) -> Result<Vec<Record>> {
    let services = Services::start(&stage.workshop)?;
    let node = services.start_node()?;
    perform(stage, &node, services.access(), task)
}

fn perform(stage: &Stage, node: &Server, access: Vec<String>, task: &Task) -> Result<Vec<Record>> {
    let target = swarm::Target {
        address: node.address,
        publisher_address: node.address,
        dialect: Contender::Json.dialect(),
        access,
        pids: vec![node.pid()],
    };
    swarm::run(&stage.workshop.loadtest, &target, task)
}

/// Processes on either side of the large run.
const PAIRS: usize = 10;
/// One round of pings at the default interval.
const IDLE_SECONDS: f64 = 25.0;
const OPENED_SECONDS: f64 = 60.0;
const IDLE_PERCENT: f64 = 5.0;
/// Kernel and user memory for both ends of each connection, with a margin.
const BYTES_EACH: u64 = 40 * 1_024;

pub(super) fn many(stage: &mut Stage) {
    match open_many(stage) {
        Ok((seconds, percent)) => {
            stage.add(limited(
                "G6",
                "190,000 connections in 10 servers, opened",
                seconds,
                OPENED_SECONDS,
            ));
            stage.add(limited(
                "G6",
                "190,000 connections idle, share of a core",
                percent,
                IDLE_PERCENT,
            ));
        }
        Err(why) => stage.add(Row::not_measured("G6", "190,000 connections", why)),
    }
}

/// How long opening took, and how busy the servers were afterwards in percent of a core.
fn open_many(stage: &Stage) -> Result<(Result<Figure>, Result<Figure>)> {
    let needed = u64::from(CONNECTIONS) * PAIRS as u64 * BYTES_EACH;
    let available = available_memory()?;
    ensure!(available > needed, "it takes {needed} B of memory and {available} B are free");
    let servers: Vec<Server> =
        (0..PAIRS).map(|_| stage.start(Contender::Json)).collect::<Result<_>>()?;
    let gate = stage.workshop.folder.join("gate");
    drop(fs::remove_file(&gate));
    let mut swarms = servers
        .iter()
        .map(|server| Waiting::start(stage, server, &gate))
        .collect::<Result<Vec<_>>>()?;
    let opened = swarms.iter_mut().map(Waiting::record).collect::<Result<Vec<_>>>()?;
    fs::write(&gate, "")?;
    let mut percent = 0.0;
    for swarm in &mut swarms {
        let _gate = swarm.record()?;
        let idle = swarm.record()?;
        percent += idle.cpu_per("seconds") / MICROSECONDS_PER_PERCENT;
    }
    let seconds: Vec<f64> = opened.iter().map(|record| record.number("seconds")).collect();
    let longest = seconds.iter().copied().fold(0.0, f64::max);
    let seconds = Figure::of(&[longest], "s").context("there is one");
    Ok((seconds, Figure::of(&[percent], "%").context("there is one")))
}

/// One percent of a second of a core.
const MICROSECONDS_PER_PERCENT: f64 = 10_000.0;

/// A swarm that has opened its connections and waits for the others.
struct Waiting {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Waiting {
    fn start(stage: &Stage, server: &Server, gate: &std::path::Path) -> Result<Self> {
        let target = swarm::Target {
            address: server.address,
            publisher_address: server.address,
            dialect: Contender::Json.dialect(),
            access: vec!["--dev".to_owned(), server.address.to_string()],
            pids: vec![server.pid()],
        };
        let task = Task::new(CONNECTIONS, "gate,idle", IDLE_SECONDS);
        let mut command = swarm::command(&stage.workshop.loadtest, &target, &task);
        command.arg("--gate").arg(gate).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the swarm")?;
        let stdout = BufReader::new(child.stdout.take().context("standard output is piped")?);
        Ok(Self { child, stdout })
    }

    fn record(&mut self) -> Result<Record> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        ensure!(!line.is_empty(), "a swarm broke off");
        Record::parse(&line)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone then.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Fewer: what a connection holds is far above what rounding could hide.
const ENCRYPTED: u32 = 4_000;
const ENCRYPTED_BYTES: f64 = 12.0 * 1_024.0;

pub(super) fn encrypted(stage: &mut Stage) {
    let figure = with_tls(stage);
    stage.add(limited("G7", "4,000 connections over TLS, idle", figure, ENCRYPTED_BYTES));
}

fn with_tls(stage: &Stage) -> Result<Figure> {
    let services = Services::start(&stage.workshop)?;
    let (certificate, key) = services.make_certificate()?;
    let node = services.start_encrypted_node(&certificate, &key)?;
    let mut access = services.access();
    access.extend(["--ca-file".to_owned(), certificate.display().to_string()]);
    let task = Task::new(ENCRYPTED, "idle", stage.options.seconds);
    let records = perform(stage, &node, access, &task)?;
    let open = records.first().context("there is an opening")?;
    Figure::of(&[open.memory_since(open)], "B").context("there is one")
}

fn available_memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes: u64 = kilobytes.context("no MemAvailable")?.trim().parse()?;
    Ok(kilobytes * 1_024)
}
