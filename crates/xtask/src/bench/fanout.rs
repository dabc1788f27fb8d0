//! One channel and many subscribers, and many channels of few.

use anyhow::{Context as _, Result};

use super::goal::{Figure, Row, Target};
use super::peers::Contender;
use super::stage::{Comparison, Results, Stage, limited};
use super::swarm::Task;
use crate::process::{cargo, read};

const OURS: [Contender; 2] = [Contender::Json, Contender::Protobuf];
/// What G4 wants us to be so many times cheaper than.
const SLOWER: [(Contender, f64); 3] =
    [(Contender::SocketIo, 10.0), (Contender::Ws, 10.0), (Contender::Nats, 1.7)];
const TABLE_CHANNELS: &str = "1000000";

pub(super) fn thousand(stage: &mut Stage) {
    let seconds = stage.options.seconds;
    let near = [Contender::Floor, Contender::Json, Contender::Protobuf, Contender::UWebSockets];
    if stage.options.wants(&["G1", "G2", "G3"]) {
        let task = Task::new(1_000, "burst:1,burst:16", seconds);
        let results = stage.take_turns(&near, &task);
        against_floor(stage, &results, "1,000 subscribers");
        against_uwebsockets(stage, &results);
    }
    if stage.options.wants(&["G4"]) {
        let all = [Contender::Json, Contender::SocketIo, Contender::Ws, Contender::Nats];
        let results = stage.take_turns(&all, &Task::new(1_000, "flood:16", seconds));
        for (peer, times) in SLOWER {
            let row = results.compare(
                &Comparison {
                    goal: "G4",
                    what: "maximum rate, 1,000 subscribers, JSON, per delivery",
                    ours: (Contender::Json, "flood:16"),
                    reference: (peer, "flood:16"),
                    target: Target::TimesLess(times),
                },
                "delivered",
            );
            stage.add(row);
        }
    }
}

pub(super) fn ten_thousand(stage: &mut Stage) {
    let task = Task::new(10_000, "burst:1,burst:16", stage.options.seconds);
    let results =
        stage.take_turns(&[Contender::Floor, Contender::Json, Contender::Protobuf], &task);
    against_floor(stage, &results, "10,000 subscribers");
}

fn against_floor(stage: &mut Stage, results: &Results, subscribers: &str) {
    let goals = [("G1", "burst:16", "16 a turn", 1.35), ("G2", "burst:1", "1 a turn", 1.25)];
    for (goal, phase, turn, times) in goals {
        for ours in OURS {
            let what = format!("{subscribers}, {turn}, {}, per delivery", ours.name());
            let row = results.compare(
                &Comparison {
                    goal,
                    what: &what,
                    ours: (ours, phase),
                    reference: (Contender::Floor, phase),
                    target: Target::Times(times),
                },
                "delivered",
            );
            stage.add(row);
        }
    }
}

fn against_uwebsockets(stage: &mut Stage, results: &Results) {
    let goals = [
        ("burst:16", "16 a turn", Target::TimesLess(1.15)),
        ("burst:1", "1 a turn", Target::Times(1.05)),
    ];
    for (phase, turn, target) in goals {
        let what = format!("1,000 subscribers, {turn}, JSON, per delivery");
        let row = results.compare(
            &Comparison {
                goal: "G3",
                what: &what,
                ours: (Contender::Json, phase),
                reference: (Contender::UWebSockets, phase),
                target,
            },
            "delivered",
        );
        stage.add(row);
    }
}

/// 1,000 connections in channels of 10, each publishing twice a second.
pub(super) fn small_channels(stage: &mut Stage) {
    let task = Task { channels: 100, ..Task::new(1_000, "paced:2", stage.options.seconds) };
    let contenders = [Contender::Floor, Contender::Json, Contender::Protobuf, Contender::SocketIo];
    let results = stage.take_turns(&contenders, &task);
    let mut comparisons =
        vec![("G4", Contender::Json, Contender::SocketIo, Target::TimesLess(2.5))];
    comparisons.extend(OURS.map(|ours| ("G12", ours, Contender::Floor, Target::Times(1.15))));
    for (goal, ours, reference, target) in comparisons {
        let what = format!(
            "100 channels of 10, each member publishing twice a second, {}, per delivery",
            ours.name()
        );
        let row = results.compare(
            &Comparison {
                goal,
                what: &what,
                ours: (ours, "paced:2"),
                reference: (reference, "paced:2"),
                target,
            },
            "delivered",
        );
        stage.add(row);
    }
}

pub(super) fn tables_and_compression(stage: &mut Stage) {
    if stage.options.wants(&["G10"]) {
        let figure = routing_table(stage);
        stage.add(limited("G10", "routing table, 1 M channels, per channel", figure, 128.0));
    }
    if stage.options.wants(&["G11"]) {
        compression(stage);
    }
}

/// Runs the example of the hub that fills a table and prints `<n> bytes each`.
fn routing_table(stage: &Stage) -> Result<Figure> {
    let mut command = cargo(&stage.root);
    command.args(["run", "--release", "--quiet", "-p", "tidewire-hub", "--example"]);
    command.args(["routing_memory", "--", "hub", TABLE_CHANNELS]);
    let output = read(&mut command)?;
    let (before, _) = output.split_once(" bytes each").context("it prints bytes")?;
    let number = before.rsplit(' ').next().context("it prints a number")?;
    Figure::of(&[number.parse()?], "B").context("there is one")
}

fn compression(stage: &mut Stage) {
    let task = Task { payload_bytes: 1_024, ..Task::new(1_000, "burst:1", stage.options.seconds) };
    let results = stage.take_turns(&[Contender::Json, Contender::Deflate], &task);
    let row = results.compare(
        &Comparison {
            goal: "G11",
            what: "1 KB JSON to 1,000 subscribers, deflated, per delivery",
            ours: (Contender::Deflate, "burst:1"),
            reference: (Contender::Json, "burst:1"),
            target: Target::Times(1.15),
        },
        "delivered",
    );
    stage.add(row);
    let grown = results.figure(Contender::Deflate, "open", |open| open.memory_since(open), "B");
    let plain = results.figure(Contender::Json, "open", |open| open.memory_since(open), "B");
    let row = match (grown, plain) {
        (Ok(grown), Ok(plain)) => {
            let what = "memory of a connection that compresses, beyond one that does not";
            let beyond = Figure::of(&[(grown.best - plain.best).max(0.0)], "B");
            limited("G11", what, beyond.context("there is one"), SAME_MEMORY)
        }
        (Err(why), _) | (_, Err(why)) => Row::not_measured("G11", "memory of compression", why),
    };
    stage.add(row);
}

/// Growth that is noise with 1,000 connections: one page for sixteen of them.
const SAME_MEMORY: f64 = 256.0;
