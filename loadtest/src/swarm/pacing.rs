//! Every connection publishing at a rate of its own.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use super::phases::{Bench, Phase};

/// How often it is looked whether the server is at rest, and how long that may take.
const LOOK: Duration = Duration::from_millis(1);
const MOST: Duration = Duration::from_secs(30);
/// Of every command: nobody tells the replies apart.
const ID: u32 = 3;

/// Lets each connection publish `rate` times a second; returns how many publications that were.
pub(super) fn run(phase: Phase, bench: &mut Bench<'_>, rate: u32, time: Duration) -> Result<u64> {
    let round = Duration::from_secs(1) / rate;
    let rounds = u32::try_from(time.as_nanos().div_ceil(round.as_nanos()))?;
    let count = u64::from(rounds) * bench.swarm.len() as u64;
    let (delivered, messages) = (bench.delivered(), bench.swarm.totals.messages);
    let begun = Instant::now();
    for number in 0..rounds {
        let start = begun + round * number;
        match phase {
            Phase::Ingress(_) => publish_together(bench, start, 0)?,
            Phase::Acked(_) => publish_together(bench, start, ID)?,
            _ => publish_evenly(bench, start, round)?,
        }
    }
    match phase {
        Phase::Ingress(_) => wait_for_rest(bench)?,
        Phase::Acked(_) => bench.swarm.run_until(|totals| totals.messages >= messages + count)?,
        _ => {
            let subscribers = bench.swarm.len() as u64 / u64::from(bench.options.channels);
            bench.await_delivered(delivered + count * subscribers)?;
        }
    }
    Ok(count)
}

/// Every connection publishes what nobody hears while the server is stopped, which then takes it all
/// in at once: what is measured is the taking in, and not the waking for each.
fn publish_together(bench: &mut Bench<'_>, start: Instant, id: u32) -> Result<()> {
    wait_until(bench, start)?;
    // Or two messages of a connection could be read at once.
    wait_for_rest(bench)?;
    bench.server.stop()?;
    let outcome =
        (0..bench.swarm.len()).try_for_each(|index| bench.swarm.publish_unheard(index, id));
    bench.server.go_on()?;
    outcome
}

/// Every connection publishes to its channel, one after the other over the whole round, as people
/// would.
fn publish_evenly(bench: &mut Bench<'_>, start: Instant, round: Duration) -> Result<()> {
    let connections = bench.swarm.len();
    let share = round / u32::try_from(connections)?;
    for index in 0..connections {
        wait_until(bench, start + share * u32::try_from(index)?)?;
        bench.swarm.publish_own(index, ID)?;
    }
    Ok(())
}

/// Waits until the server has done what it does not reply to.
fn wait_for_rest(bench: &mut Bench<'_>) -> Result<()> {
    let end = Instant::now() + MOST;
    loop {
        wait_until(bench, Instant::now() + LOOK)?;
        if bench.server.is_at_rest()? {
            return Ok(());
        }
        ensure!(Instant::now() < end, "the server does not come to rest");
    }
}

/// Takes what comes in the meantime, and does not sleep through what is due sooner than a sleep
/// could end.
fn wait_until(bench: &mut Bench<'_>, due: Instant) -> Result<()> {
    const MILLISECOND: Duration = Duration::from_millis(1);

    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        // The poll waits in whole milliseconds.
        let timeout = if left > MILLISECOND { MILLISECOND } else { Duration::ZERO };
        bench.swarm.turn(Some(timeout))?;
    }
}
