//! `cargo xtask fairness`: what a tenant notices of another one that publishes to thousands on the
//! same node.
//!
//! One node on one core, one worker. The *victim* is a small, steady tenant, measured by loadtest
//! while its *neighbour* is there and idle, while that floods, and once it has stopped. Then the
//! neighbour floods a second node on the same core instead: what that raises is the scheduler's and
//! the tester's doing, not the node's. All of it is one run on one machine, so that the figures may be
//! compared even where none of them could be repeated elsewhere.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::peers::{Profile, Workshop};
use super::promise::Promise;
use super::server::Server;
use super::services::{Services, url};
use super::swarm::{CLIENT_CORE, Record, Target, Task, command};

/// What to try.
#[derive(Debug, PartialEq)]
struct Trial {
    /// The neighbour's, in one channel.
    subscribers: u32,
    /// Of each window.
    seconds: u32,
    repeats: u32,
    profile: Profile,
}

/// What the victim notices at most, in milliseconds of the 99th percentile.
const MOST_RAISE_MS: f64 = 5.0;
/// The victim: ten channels with ten subscribers each.
const VICTIM: [&str; 8] =
    ["--clients", "100", "--channels", "10", "--rate", "200", "--publishers", "2"];
const WARMUP_SECONDS: u32 = 1;
/// Longest that the victim takes to connect before a window and to settle behind it.
const AROUND_SECONDS: u32 = 5;
/// The neighbour floods, and rests, in steps of so many seconds; it says what came of each.
const STEP_SECONDS: u32 = 2;
/// Publications of the neighbour in a burst, of which it keeps five under way.
const FLOOD: &str = "flood:16";

/// What the victim saw in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen {
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// Processor cores the node used.
    cores: f64,
}

/// What one repeat came to.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    quiet: Seen,
    flood: Seen,
    after: Seen,
    /// While the neighbour floods another node.
    control: Seen,
    /// The neighbour's deliveries a second in `flood` and in `control`.
    delivered: [f64; 2],
}

/// Fails if something was promised and is not so.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<()> {
    let trial = Trial::parse(arguments)?;
    let workshop = Workshop::ours(root, trial.profile)?;
    let mut rounds = Vec::new();
    println!("{:<9} {:>8} {:>8} {:>9} {:>6}", "window", "p50 ms", "p99 ms", "max ms", "cores");
    for _ in 0..trial.repeats {
        let round = trial.round(&workshop)?;
        println!("{round}");
        rounds.push(round);
    }
    let file = workshop.folder.join("fairness.json");
    let figures: Vec<Value> = rounds.iter().map(Round::as_json).collect();
    fs::write(&file, serde_json::to_string_pretty(&figures)?)?;
    let promise = Promise::new(
        "raised by a neighbour's flood, p99 of deliveries, ms",
        median(rounds.iter().map(Round::raise)),
        MOST_RAISE_MS,
    );
    println!("{promise}\n\nall figures are in {}", file.display());
    ensure!(promise.is_kept(), "the promise is broken");
    Ok(())
}

impl Trial {
    fn parse(arguments: &[&str]) -> Result<Self> {
        let mut trial =
            Self { subscribers: 5_000, seconds: 10, repeats: 3, profile: Profile::Release };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut number = |most: u32| -> Result<u32> {
                let value = words.next().with_context(|| format!("`{word}` takes a value"))?;
                let value = value.parse()?;
                ensure!((1..=most).contains(&value), "{word} is from 1 to {most}");
                Ok(value)
            };
            match *word {
                "--debug" => trial.profile = Profile::Debug,
                "--subscribers" => trial.subscribers = number(15_000)?,
                "--seconds" => trial.seconds = number(60)?,
                "--repeats" => trial.repeats = number(20)?,
                unknown => bail!("unknown option `{unknown}`"),
            }
        }
        Ok(trial)
    }

    /// Goes through all windows once, on services and nodes of their own.
    fn round(&self, workshop: &Workshop) -> Result<Round> {
        let services = Services::start(workshop)?;
        let (node, other) = (services.start_node()?, services.start_node()?);
        let watch = || self.watch(workshop, &services, &node);
        let mut round = Round::default();

        let mut neighbour = Neighbour::start(self, workshop, (&services, &node))?;
        round.quiet = watch()?;
        (round.flood, round.delivered[0]) = neighbour.flood_during(watch)?;
        round.after = watch()?;
        drop(neighbour);

        let mut neighbour = Neighbour::start(self, workshop, (&services, &other))?;
        (round.control, round.delivered[1]) = neighbour.flood_during(watch)?;
        Ok(round)
    }

    /// Measures the victim in one window.
    fn watch(&self, workshop: &Workshop, services: &Services, node: &Server) -> Result<Seen> {
        let mut loadtest = Command::new("taskset");
        loadtest.args(["-c", CLIENT_CORE]).arg(&workshop.loadtest);
        loadtest.args(["fanout", "--json", "--quiet", "--settle", "3"]).args(VICTIM);
        loadtest.args(["--warmup", &WARMUP_SECONDS.to_string()]);
        loadtest.args(["--duration", &self.seconds.to_string()]);
        loadtest.args(["--pid", &node.pid().to_string(), "--url", &url(node.address)]);
        loadtest.args(["--tenant-key", &services.tenant_key()]);
        let output = loadtest.stdin(Stdio::null()).output().context("cannot start loadtest")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        let report = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("loadtest has no report: {}", errors.trim()))?;
        Seen::read(&report)
    }

    fn steps(&self) -> u32 {
        (self.seconds + WARMUP_SECONDS + AROUND_SECONDS).div_ceil(STEP_SECONDS)
    }
}

/// The other tenant: a swarm that lets everybody else on its core go first.
struct Neighbour {
    child: Child,
    stdout: BufReader<ChildStdout>,
    gate: std::path::PathBuf,
    steps: u32,
}

impl Neighbour {
    /// Opens its connections, which then are idle.
    fn start(
        trial: &Trial,
        workshop: &Workshop,
        (services, node): (&Services, &Server),
    ) -> Result<Self> {
        let gate = workshop.folder.join("fairness.gate");
        drop(fs::remove_file(&gate));
        let target = Target {
            address: node.address,
            publisher_address: node.address,
            dialect: "json",
            access: services.neighbours_access(),
            pids: vec![node.pid()],
        };
        let task = Task::new(trial.subscribers, "gate", STEP_SECONDS.into());
        let inner = command(&workshop.loadtest, &target, &task);
        let mut outer = Command::new("nice");
        outer.args(["-n", "19"]).arg(inner.get_program()).args(inner.get_args());
        let steps = trial.steps();
        for phase in [FLOOD, "idle"] {
            for _ in 0..steps {
                outer.args(["--phases", phase]);
            }
        }
        outer.args(["--warmup", "0", "--gate"]).arg(&gate);
        outer.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = outer.spawn().context("cannot start the swarm")?;
        let stdout = BufReader::new(child.stdout.take().context("standard output is piped")?);
        let mut neighbour = Self { child, stdout, gate, steps };
        neighbour.record().context("the neighbour does not connect")?;
        Ok(neighbour)
    }

    /// Has it publish for all of a window; also returns its deliveries a second.
    #[expect(clippy::disallowed_methods, reason = "there is no tokio here, and no test of this")]
    fn flood_during(&mut self, watch: impl FnOnce() -> Result<Seen>) -> Result<(Seen, f64)> {
        fs::write(&self.gate, "")?;
        self.record()?;
        let begun = Instant::now();
        let seen = watch()?;
        let most = self.steps * STEP_SECONDS;
        ensure!(begun.elapsed().as_secs() < most.into(), "the window took longer than the flood");
        Ok((seen, self.rest()?))
    }

    /// Waits until it has published the last; returns its deliveries a second.
    fn rest(&mut self) -> Result<f64> {
        let (mut delivered, mut seconds) = (0.0, 0.0);
        for _ in 0..self.steps {
            let record = self.record()?;
            delivered += record.number("delivered");
            seconds += record.number("seconds");
        }
        Ok(delivered / seconds)
    }

    fn record(&mut self) -> Result<Record> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the neighbour broke off");
        Record::parse(&line)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone then.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Seen {
    /// What loadtest reports, unless the victim was wronged in some other way than by waiting.
    fn read(report: &Value) -> Result<Self> {
        ensure!(report["holds"] == true, "the victim did not get what it was promised: {report}");
        let latency = &report["deliver"]["latency_from_due"];
        let number = |value: &Value| value.as_f64().context("loadtest reports no latencies");
        Ok(Self {
            p50_ms: number(&latency["p50_us"])? / 1e3,
            p99_ms: number(&latency["p99_us"])? / 1e3,
            max_ms: number(&latency["max_us"])? / 1e3,
            cores: number(&report["server"]["cores"])?,
        })
    }

    fn as_json(&self) -> Value {
        json!({
            "p50_ms": self.p50_ms, "p99_ms": self.p99_ms, "max_ms": self.max_ms, "cores": self.cores,
        })
    }
}

impl Round {
    /// By how many milliseconds the flood raised the victim's 99th percentile, beyond the same flood
    /// at another node of the same core.
    fn raise(&self) -> f64 {
        self.flood.p99_ms - self.quiet.p99_ms.max(self.control.p99_ms)
    }

    fn as_json(&self) -> Value {
        json!({
            "quiet": self.quiet.as_json(), "flood": self.flood.as_json(),
            "after": self.after.as_json(), "control": self.control.as_json(),
            "raise_ms": self.raise(), "delivered_per_second": self.delivered,
        })
    }
}

impl std::fmt::Display for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { quiet, flood, after, control, delivered } = self;
        for (name, seen) in
            [("quiet", quiet), ("flood", flood), ("after", after), ("control", control)]
        {
            let Seen { p50_ms, p99_ms, max_ms, cores } = seen;
            writeln!(f, "{name:<9} {p50_ms:>8.2} {p99_ms:>8.2} {max_ms:>9.2} {cores:>6.2}")?;
        }
        writeln!(
            f,
            "p99 {:.1} times that of quiet, {:.1} times that of the control; the neighbour had {:.0} \
             deliveries a second, at the other node {:.0}",
            flood.p99_ms / quiet.p99_ms,
            flood.p99_ms / control.p99_ms,
            delivered[0],
            delivered[1],
        )
    }
}

/// The one in the middle, the lower of two.
fn median(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_is_bounded_in_time() {
        let trial = Trial::parse(&[]).unwrap();
        assert_eq!((trial.subscribers, trial.seconds, trial.repeats), (5_000, 10, 3));
        let small = ["--debug", "--subscribers", "200", "--seconds", "2", "--repeats", "1"];
        assert_eq!(Trial::parse(&small).unwrap().profile, Profile::Debug);
        for wrong in
            [&["--seconds"][..], &["--seconds", "0"], &["--seconds", "61"], &["--clients", "1"]]
        {
            assert!(Trial::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_another_node_would_have_raised_as_well_is_not_held_against_this_one() {
        let with = |p99_ms| Seen { p99_ms, ..Seen::default() };
        let round =
            Round { quiet: with(2.0), flood: with(20.0), control: with(12.0), ..Round::default() };

        assert!((round.raise() - 8.0).abs() < 1e-9);
        let round = Round { control: with(1.0), ..round };
        assert!((round.raise() - 18.0).abs() < 1e-9);
    }

    #[test]
    fn the_middle_of_the_repeats_counts() {
        assert_eq!(median([9.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([].into_iter()), None);
    }

    #[test]
    fn a_victim_that_lost_something_has_no_figure() {
        let mut report = json!({
            "holds": true, "server": { "cores": 0.5 },
            "deliver": { "latency_from_due": { "p50_us": 900, "p99_us": 2_500, "max_us": 9_000 } },
        });
        let seen = Seen { p50_ms: 0.9, p99_ms: 2.5, max_ms: 9.0, cores: 0.5 };
        assert_eq!(Seen::read(&report).unwrap(), seen);

        report["holds"] = json!(false);

        assert!(Seen::read(&report).is_err());
    }
}
