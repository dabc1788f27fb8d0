//! What it takes to get in, and back in.

use anyhow::{Context as _, Result};

use super::goal::Figure;
use super::peers::Contender;
use super::services::Services;
use super::stage::{Stage, limited};
use super::swarm::{self, Task};

const CONNECTIONS: u32 = 5_000;
const RETURNING: u32 = 10_000;
const MEMORY_MICROSECONDS: f64 = 50.0;
const REDIS_MICROSECONDS: f64 = 90.0;
const RETURNED_SECONDS: f64 = 1.5;

pub(super) fn storm(stage: &mut Stage) {
    let task = Task { channels: 1_000, ..Task::new(CONNECTIONS, "once", 1.0) };
    let results = stage.take_turns(&[Contender::Json, Contender::Protobuf], &task);
    for contender in [Contender::Json, Contender::Protobuf] {
        let what = format!("connect and subscribe, in memory, {}", contender.name());
        let figure = results.figure(contender, "open", |open| open.cpu_per("connections"), "µs");
        stage.add(limited("G13", &what, figure, MEMORY_MICROSECONDS));
    }
    let figure = on_redis(stage);
    stage.add(limited(
        "G13",
        "connect and subscribe, sessions in Redis, JSON",
        figure,
        REDIS_MICROSECONDS,
    ));
    let returning = Task { channels: 1_000, ..Task::new(RETURNING, "drop", 1.0) };
    let results = stage.take_turns(&[Contender::Json], &returning);
    let figure = results.figure(Contender::Json, "drop", |back| back.number("seconds"), "s");
    stage.add(limited(
        "G13",
        "10,000 dropped clients back, in memory, JSON",
        figure,
        RETURNED_SECONDS,
    ));
}

fn on_redis(stage: &Stage) -> Result<Figure> {
    let services = Services::start(&stage.workshop)?;
    let mut costs = Vec::new();
    for repeat in 1..=stage.options.repeats {
        println!("{repeat}: JSON, sessions in Redis");
        let node = services.start_node()?;
        let target = swarm::Target {
            address: node.address,
            publisher_address: node.address,
            dialect: Contender::Json.dialect(),
            access: services.access(),
            pids: vec![node.pid()],
        };
        let task = Task { channels: 1_000, ..Task::new(CONNECTIONS, "idle", MOMENT) };
        let records = swarm::run(&stage.workshop.loadtest, &target, &task)?;
        let open = records.first().context("there is an opening")?;
        costs.push(open.cpu_per("connections"));
    }
    Figure::of(&costs, "µs").context("there is one")
}

/// Seconds: the opening is what is measured, and a phase there has to be.
const MOMENT: f64 = 0.1;
