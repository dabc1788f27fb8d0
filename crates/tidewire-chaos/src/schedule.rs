//! Faults drawn from a seed, one to three at once, on a cluster under load.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidewire_witness::Random;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cluster::{Cluster, FAILOVER, NODES, Setup};
use crate::crowd::{Outcome, Size};
use crate::stage::Stage;

mod faults;

pub use faults::Kind;

/// Something that goes wrong for a while.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fault {
    /// After the beginning of the round.
    pub at: Duration,
    pub length: Duration,
    pub kind: Kind,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, length) = (self.at.as_secs_f64(), self.length.as_secs_f64());
        write!(f, "{at:6.1} s, for {length:4.1} s: {}", self.kind)
    }
}

/// Faults of a failover are this far apart: the deposed primary is back and in step by then.
const FAILOVERS_APART: Duration = Duration::from_secs(40);
/// A failover and the end of a node this close to each other may lose what was acknowledged: two
/// faults, where one is promised to lose nothing.
const TWICE_WITHIN: Duration = Duration::from_secs(35);
/// A node whose memory grows beyond this has a queue without a bound.
const MOST_MEMORY: u64 = 400 << 20;

/// Draws what goes wrong in a round of this length. Everything is drawn before anything happens, so
/// that a seed says all.
pub fn draw(seed: u64, round: u32, length: Duration) -> Vec<Fault> {
    let mut random = Random::new(seed, round);
    let mut faults = Vec::new();
    let mut failover_from = Duration::ZERO;
    let mut at = Duration::from_secs(3);
    loop {
        let count = 1 + random.below(3);
        let mut end = at;
        let mut classes = vec![0, 1, 2, 3];
        for _ in 0..count {
            let class = classes.swap_remove(random.below(classes.len()));
            let mut kind = Kind::draw(class, &mut random);
            let begins = at + millis(&mut random, 0, 3_000);
            let lasts = millis(&mut random, 2_000, 12_000);
            if kind.is_failover() {
                if begins < failover_from {
                    kind = Kind::FunctionsFlushed;
                } else {
                    failover_from = begins + FAILOVERS_APART;
                }
            }
            end = end.max(begins + lasts);
            faults.push(Fault { at: begins, length: lasts, kind });
        }
        if end + Duration::from_secs(5) > length {
            faults.retain(|fault| fault.at + fault.length + Duration::from_secs(5) <= length);
            faults.sort_by_key(|fault| fault.at);
            return faults;
        }
        at = end + millis(&mut random, 2_000, 6_000);
    }
}

fn millis(random: &mut Random, least: usize, most: usize) -> Duration {
    let drawn = least + random.below(most - least + 1);
    Duration::from_millis(u64::try_from(drawn).expect("seconds"))
}

/// What a round came to.
#[derive(Debug)]
pub struct Round {
    pub outcome: Outcome,
    /// The most memory each node had, in bytes.
    pub memory: [u64; NODES],
    /// Whether two faults at once may have lost what was acknowledged.
    pub may_forget: bool,
}

/// Lets faults happen to a cluster of their own, mends what is left, and judges. `say` is told of
/// everything when it happens.
///
/// # Errors
///
/// What was promised and is not so.
pub async fn play(
    setup: Setup,
    size: Size,
    faults: &[Fault],
    mut say: impl FnMut(String),
) -> Result<Round> {
    let mut stage = Stage::set(Setup { down_after: FAILOVER, ..setup }, size).await?;
    let begun = Instant::now();
    let mut memory = [0; NODES];
    for (after, fault, is_end) in moments(faults) {
        watch(&stage.cluster, begun + after, &mut memory).await;
        if is_end {
            fault
                .kind
                .mend(&mut stage.cluster)
                .await
                .with_context(|| format!("mending {fault}"))?;
        } else {
            say(fault.to_string());
            fault.kind.begin(&mut stage.cluster).await.with_context(|| fault.to_string())?;
        }
    }
    stage.cluster.until_ready().await?;
    let primary = stage.cluster.primary().await.context("there is a primary")?;
    stage.cluster.until_followed(primary).await?;
    stage.steady(size).await?;
    watch(&stage.cluster, Instant::now(), &mut memory).await;
    let (_, outcome) = stage.judge().await?;
    let round = Round { outcome, memory, may_forget: may_forget(faults) };
    round.check()?;
    Ok(round)
}

impl Round {
    fn check(&self) -> Result<()> {
        let verdict = &self.outcome.verdict;
        ensure!(verdict.holds() || self.may_forget && verdict.is_loss_only(), "{}", self.outcome);
        self.outcome.check_clients()?;
        let most = self.memory.iter().max().copied().unwrap_or(0);
        ensure!(most <= MOST_MEMORY, "a node has grown to {} MiB", most >> 20);
        Ok(())
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.memory.map(|bytes| (bytes >> 20).to_string()).join(", ");
        write!(f, "{}; at most {memory} MiB", self.outcome)?;
        if self.may_forget {
            write!(f, "; two faults at once might have lost what was acknowledged")?;
        }
        Ok(())
    }
}

/// When each fault begins and ends, in order.
fn moments(faults: &[Fault]) -> Vec<(Duration, Fault, bool)> {
    let mut moments: Vec<(Duration, Fault, bool)> = faults
        .iter()
        .flat_map(|fault| [(fault.at, *fault, false), (fault.at + fault.length, *fault, true)])
        .collect();
    moments.sort_by_key(|(at, ..)| *at);
    moments
}

fn may_forget(faults: &[Fault]) -> bool {
    let close = |one: &Fault, other: &Fault| one.at.abs_diff(other.at) <= TWICE_WITHIN;
    faults.iter().filter(|fault| fault.kind.is_failover()).any(|failover| {
        let mut ends = faults.iter().filter(|fault| fault.kind.ends_a_node());
        ends.any(|end| close(failover, end))
    })
}

/// Waits until then, and sees how much memory the nodes have meanwhile.
async fn watch(cluster: &Cluster, until: Instant, memory: &mut [u64; NODES]) {
    loop {
        for (most, node) in memory.iter_mut().zip(&cluster.nodes) {
            let now = node.as_ref().and_then(crate::NodeProcess::resident);
            *most = (*most).max(now.unwrap_or(0));
        }
        if until.saturating_duration_since(Instant::now()) < Duration::from_secs(1) {
            return sleep_until(until).await;
        }
        sleep(Duration::from_secs(1)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: Duration = Duration::from_mins(5);

    #[test]
    fn a_seed_and_a_round_say_all() {
        assert_eq!(draw(7, 1, ROUND), draw(7, 1, ROUND));
        assert_ne!(draw(7, 1, ROUND), draw(7, 2, ROUND));
        assert_ne!(draw(7, 1, ROUND), draw(8, 1, ROUND));
    }

    #[test]
    fn every_kind_comes_and_every_fault_ends_within_the_round() {
        let faults: Vec<Fault> = (0..50).flat_map(|seed| draw(seed, 0, ROUND)).collect();

        assert!(faults.iter().all(|fault| fault.at + fault.length < ROUND));
        for class in 0..4 {
            for _ in 0..200 {
                let kind = Kind::draw(class, &mut Random::new(1, class));
                let name = std::mem::discriminant(&kind);
                let mut kinds = faults.iter().map(|fault| std::mem::discriminant(&fault.kind));
                assert!(kinds.any(|one| one == name), "{kind}");
            }
        }
        assert!(draw(1, 0, ROUND).len() > 15);
    }

    #[test]
    fn failovers_keep_their_distance() {
        for seed in 0..50 {
            let faults = draw(seed, 0, ROUND);
            let failovers: Vec<Duration> = faults
                .iter()
                .filter(|fault| fault.kind.is_failover())
                .map(|fault| fault.at)
                .collect();

            let distances = failovers.windows(2).map(|two| two[1].abs_diff(two[0]));
            assert!(distances.min().is_none_or(|least| least >= FAILOVERS_APART), "{seed}");
        }
    }

    #[test]
    fn a_failover_and_the_end_of_a_node_close_to_it_are_two_faults() {
        let failover = fault(0, Kind::PrimaryKilled { behind_ms: 300 });

        assert!(!may_forget(&[failover]));
        assert!(!may_forget(&[failover, fault(20, Kind::NodePaused(1))]));
        assert!(may_forget(&[failover, fault(20, Kind::NodeKilled(1))]));
        assert!(!may_forget(&[failover, fault(40, Kind::NodeKilled(1))]));
    }

    #[test]
    fn moments_come_in_order() {
        let faults = [fault(0, Kind::RoutesCut), fault(1, Kind::NodePaused(0))];

        let order: Vec<(u64, bool)> =
            moments(&faults).iter().map(|(at, _, is_end)| (at.as_secs(), *is_end)).collect();

        assert_eq!(order, [(0, false), (1, false), (5, true), (6, true)]);
    }

    fn fault(at: u64, kind: Kind) -> Fault {
        Fault { at: Duration::from_secs(at), length: Duration::from_secs(5), kind }
    }
}
