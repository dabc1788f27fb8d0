//! Two nodes on NATS and Redis beside one.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::goal::{Figure, Row};
use super::server::Server;
use super::services::{Services, url};
use super::stage::{Stage, limited};
use super::swarm::{self, CLIENT_CORE, Task};

/// Processor time that a publication may take more at each edge, in µs.
const ADDED: f64 = 1.5;
const MEDIAN_MS: f64 = 1.0;
const P99_MS: f64 = 10.0;
const MICROSECONDS_PER_MS: f64 = 1e3;
/// One subscriber, so that what is measured is the way and not the fan-out.
const PHASE: &str = "flood:16";

pub(super) fn two_nodes(stage: &mut Stage) {
    if let Err(why) = measure(stage) {
        stage.add(Row::not_measured("G9", "two nodes beside one", why));
    }
}

fn measure(stage: &mut Stage) -> Result<()> {
    let services = Services::start(&stage.workshop)?;
    let (one, two) = (services.start_node()?, services.start_node()?);
    let mut costs = [Vec::new(), Vec::new()];
    for repeat in 1..=stage.options.repeats {
        println!("{repeat}: one node, two nodes");
        costs[0].push(cost(stage, &services, (&one, &one))?);
        costs[1].push(cost(stage, &services, (&one, &two))?);
    }
    let [alone, across] = costs.map(|costs| Figure::of(&costs, "µs"));
    let (alone, across) = (alone.context("one node")?, across.context("two nodes")?);
    println!("per publication: on one node {alone}, across two {across}");
    let added = Figure::of(&[(across.best - alone.best) / 2.0], "µs").context("there is one");
    stage.add(limited("G9", "added to a publication at each of two nodes", added, ADDED));
    let (median, p99) = latency(stage, &services, (&one, &two))?;
    stage.add(limited("G9", "latency across nodes at half load, p50", Ok(median), MEDIAN_MS));
    stage.add(limited("G9", "latency across nodes at half load, p99", Ok(p99), P99_MS));
    Ok(())
}

/// Processor time of the nodes for a publication made at the first and delivered at the second.
fn cost(stage: &Stage, services: &Services, nodes: (&Server, &Server)) -> Result<f64> {
    let (from, to) = nodes;
    let mut pids = vec![from.pid(), to.pid()];
    pids.dedup();
    let target = swarm::Target {
        address: to.address,
        publisher_address: from.address,
        dialect: "json",
        access: services.access(),
        pids,
    };
    let records =
        swarm::run(&stage.workshop.loadtest, &target, &Task::new(1, PHASE, stage.options.seconds))?;
    let flood = records.last().context("there is a phase")?;
    Ok(flood.cpu_per("published"))
}

/// p50 and p99 in ms from sending to receiving, at half of what was reached without a rate.
fn latency(
    stage: &Stage,
    services: &Services,
    nodes: (&Server, &Server),
) -> Result<(Figure, Figure)> {
    let most = report(stage, services, nodes, "0")?;
    let per_second =
        most["publish"]["measured_per_second"].as_f64().context("the report has a rate")?;
    let half = format!("{:.0}", per_second / 2.0);
    println!("at most {per_second:.0} publications a second, half is {half}");
    let report = report(stage, services, nodes, &half)?;
    let figure = |name: &str| {
        let microseconds = report["deliver"]["latency_from_sent"][name].as_f64();
        let milliseconds = microseconds.context("the report has latencies")? / MICROSECONDS_PER_MS;
        Figure::of(&[milliseconds], "ms").context("there is one")
    };
    Ok((figure("p50_us")?, figure("p99_us")?))
}

fn report(
    stage: &Stage,
    services: &Services,
    nodes: (&Server, &Server),
    rate: &str,
) -> Result<Value> {
    let mut command = Command::new("taskset");
    command.args(["-c", CLIENT_CORE]).arg(&stage.workshop.loadtest);
    command.args(["--json", "--quiet", "--clients", "100", "--publishers", "4", "--rate", rate]);
    command.args(["--duration", "5", "--warmup", "1", "--tenant-key", &services.tenant_key()]);
    command.args(["--url", &url(nodes.0.address), "--url", &url(nodes.1.address)]);
    let output = command.stdin(Stdio::null()).output().context("cannot start loadtest")?;
    ensure!(
        output.status.success(),
        "loadtest found something wrong: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}
