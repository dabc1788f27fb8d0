//! What is done once everybody is connected.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::Instant;

use super::options::SwarmOptions;
use super::pacing;
use super::poll::Swarm;
use super::record::{Record, Sample};
use super::server::Server;

/// A phase, with its number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    Burst(u32),
    Flood(u32),
    Paced(u32),
    Ingress(u32),
    Acked(u32),
    Once,
    Idle,
    Gate,
    Drop,
}

/// Commands of one frame, and so of one burst.
const MAX_BURST: u32 = 64;
const MAX_RATE: u32 = 1_000;
/// Bursts that a flood keeps under way, besides the one just made.
const FLOOD_DEPTH: u64 = 4;
/// Connections that come back are opened so many at a time.
const RETURNING: u32 = 256;
const GATE_CHECK: Duration = Duration::from_millis(20);

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, number) = text.split_once(':').unwrap_or((text, "0"));
        let number: u32 = number.parse().map_err(|_| format!("`{number}` is no number"))?;
        let bounded = |most: u32| {
            (1..=most).contains(&number).then_some(number).ok_or(format!("from 1 to {most}"))
        };
        match name {
            "burst" => bounded(MAX_BURST).map(Self::Burst),
            "flood" => bounded(MAX_BURST).map(Self::Flood),
            "paced" => bounded(MAX_RATE).map(Self::Paced),
            "ingress" => bounded(MAX_RATE).map(Self::Ingress),
            "acked" => bounded(MAX_RATE).map(Self::Acked),
            "once" => Ok(Self::Once),
            "idle" => Ok(Self::Idle),
            "gate" => Ok(Self::Gate),
            "drop" => Ok(Self::Drop),
            _ => Err(format!("there is no phase `{name}`")),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Burst(count) => write!(formatter, "burst:{count}"),
            Self::Flood(count) => write!(formatter, "flood:{count}"),
            Self::Paced(rate) => write!(formatter, "paced:{rate}"),
            Self::Ingress(rate) => write!(formatter, "ingress:{rate}"),
            Self::Acked(rate) => write!(formatter, "acked:{rate}"),
            Self::Once => formatter.write_str("once"),
            Self::Idle => formatter.write_str("idle"),
            Self::Gate => formatter.write_str("gate"),
            Self::Drop => formatter.write_str("drop"),
        }
    }
}

/// What is measured, and with what.
pub(super) struct Bench<'a> {
    pub(super) swarm: &'a mut Swarm,
    pub(super) server: &'a Server<'a>,
    pub(super) options: &'a SwarmOptions,
}

impl Bench<'_> {
    pub(super) fn sample(&self) -> Result<Sample> {
        Ok(Sample { totals: self.swarm.totals, usage: self.server.usage()? })
    }

    /// Deliveries so far: marks, or messages where payloads cannot be read.
    pub(super) fn delivered(&self) -> u64 {
        if self.options.dialect.is_deflated() {
            self.swarm.totals.messages
        } else {
            self.swarm.totals.marks
        }
    }

    pub(super) fn await_delivered(&mut self, count: u64) -> Result<()> {
        let is_deflated = self.options.dialect.is_deflated();
        self.swarm.run_until(|totals| {
            let delivered = if is_deflated { totals.messages } else { totals.marks };
            delivered >= count
        })
    }
}

pub(super) fn run(
    phase: Phase,
    swarm: &mut Swarm,
    server: &Server<'_>,
    options: &SwarmOptions,
) -> Result<Record> {
    let mut bench = Bench { swarm, server, options };
    let warmup = Duration::from_secs_f64(options.warmup);
    let seconds = Duration::from_secs_f64(options.seconds);
    let record = match phase {
        Phase::Burst(count) => {
            fan_out(&mut bench, (count, count.into()), warmup)?;
            measure(phase, &mut bench, |bench| fan_out(bench, (count, count.into()), seconds))
        }
        Phase::Flood(count) => {
            let shape = (count, u64::from(count) * FLOOD_DEPTH);
            fan_out(&mut bench, shape, warmup)?;
            measure(phase, &mut bench, |bench| fan_out(bench, shape, seconds))
        }
        Phase::Paced(rate) | Phase::Ingress(rate) | Phase::Acked(rate) => {
            pacing::run(phase, &mut bench, rate, warmup)?;
            measure(phase, &mut bench, |bench| pacing::run(phase, bench, rate, seconds))
        }
        Phase::Once => measure(phase, &mut bench, publish_once),
        Phase::Idle => measure(phase, &mut bench, |bench| wait(bench, seconds)),
        Phase::Gate => measure(phase, &mut bench, wait_for_gate),
        Phase::Drop => measure(phase, &mut bench, drop_all),
    };
    record.with_context(|| format!("phase {phase} failed"))
}

/// Does it and says what it took. `act` returns how much was published.
fn measure(
    phase: Phase,
    bench: &mut Bench<'_>,
    act: impl FnOnce(&mut Bench<'_>) -> Result<u64>,
) -> Result<Record> {
    let before = bench.sample()?;
    let begun = Instant::now();
    let published = act(bench)?;
    let took = begun.elapsed();
    let after = bench.sample()?;
    let connections = bench.swarm.len();
    let mut record = Record::between(phase.to_string(), connections, took, (before, after));
    record.published = published;
    if bench.options.dialect.is_deflated() {
        record.delivered = record.messages;
    }
    Ok(record)
}

/// Publishes bursts of the first number to one channel as long as no more than the second are under
/// way, and ends with none under way.
fn fan_out(bench: &mut Bench<'_>, shape: (u32, u64), time: Duration) -> Result<u64> {
    let (count, in_flight) = shape;
    let subscribers = u64::from(bench.options.connections.div_ceil(bench.options.channels));
    let (begun, start) = (Instant::now(), bench.delivered());
    let mut published = 0;
    while begun.elapsed() < time {
        bench.swarm.publish_burst(count)?;
        published += u64::from(count);
        let done = (published + u64::from(count)).saturating_sub(in_flight);
        bench.await_delivered(start + done * subscribers)?;
    }
    bench.await_delivered(start + published * subscribers)?;
    ensure!(bench.delivered() == start + published * subscribers, "more came than was published");
    Ok(published)
}

/// One publication to each channel, the first connections publishing to theirs.
fn publish_once(bench: &mut Bench<'_>) -> Result<u64> {
    let start = bench.delivered();
    for index in 0..bench.options.channels as usize {
        bench.swarm.publish_own(index, 0)?;
    }
    bench.await_delivered(start + bench.swarm.len() as u64)?;
    Ok(bench.options.channels.into())
}

fn wait(bench: &mut Bench<'_>, time: Duration) -> Result<u64> {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(0);
        }
        bench.swarm.turn(Some(left))?;
    }
}

fn wait_for_gate(bench: &mut Bench<'_>) -> Result<u64> {
    let gate = bench.options.gate.as_ref().context("the phase gate takes --gate")?;
    while !gate.exists() {
        bench.swarm.turn(Some(GATE_CHECK))?;
    }
    Ok(0)
}

fn drop_all(bench: &mut Bench<'_>) -> Result<u64> {
    bench.swarm.cut_all();
    bench.swarm.open_all(RETURNING)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_read_as_it_is_shown() {
        for text in [
            "burst:16",
            "flood:16",
            "paced:2",
            "ingress:20",
            "acked:20",
            "once",
            "idle",
            "gate",
            "drop",
        ] {
            assert_eq!(text.parse::<Phase>().map(|phase| phase.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_phase_is_refused() {
        for text in ["burst", "burst:0", "burst:65", "burst:x", "sleep"] {
            assert!(text.parse::<Phase>().is_err(), "{text}");
        }
    }
}
