//! Plays seeds: `sim --seeds 300`, or one of them again: `sim --seed 17 --keep 3,9`.

#![expect(clippy::print_stdout, reason = "printing is what this program is for")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tidewire_sim::{Counts, Outcome, Plan, play, shrink};
use tokio::time::Instant;

/// The engine of several nodes under faults drawn from a seed.
#[derive(Parser)]
struct Options {
    /// Play so many seeds.
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// On so many threads; as many as there are cores if not given.
    #[arg(long)]
    threads: Option<usize>,
    /// Fail if it takes more seconds than this.
    #[arg(long)]
    within: Option<u64>,
    /// Go on after a seed that breaks something, and list all that do.
    #[arg(long)]
    survey: bool,
    /// Play this seed alone, and show its plan.
    #[arg(long)]
    seed: Option<u64>,
    /// Only these of its faults.
    #[arg(long, value_delimiter = ',', num_args = 0.., requires = "seed")]
    keep: Option<Vec<usize>>,
    /// Write everything that happens to a file.
    #[arg(long, requires = "seed")]
    trace: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.seed {
        Some(seed) => play_one(seed, &options),
        None => play_all(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play_one(seed: u64, options: &Options) -> Result<bool> {
    let plan = Plan::draw(seed);
    let plan = options.keep.as_ref().map_or(plan.clone(), |keep| plan.keeping(keep));
    print!("{plan}");
    let outcome = play(&plan, options.trace.is_some());
    if let Some(path) = &options.trace {
        std::fs::write(path, &outcome.trace).context("cannot write the trace")?;
    }
    println!("digest {:016x}; {}", outcome.digest, outcome.counts);
    show(&outcome);
    Ok(outcome.objections.is_empty())
}

fn show(outcome: &Outcome) {
    for objection in &outcome.objections {
        println!("{objection}");
    }
    if !outcome.objections.is_empty() {
        print!("{}", outcome.story);
    }
}

/// Plays every seed, and shows the first that breaks something with the faults it takes.
fn play_all(options: &Options) -> Result<bool> {
    ensure!(options.seeds > 0, "no seed to play");
    let started = Instant::now();
    let threads =
        options.threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    let played = play_on_threads(options, threads.unwrap_or(1));
    let (mut counts, mut digest) = (Counts::default(), 0_u64);
    for (_, outcome) in &played {
        counts += &outcome.counts;
        digest = digest.rotate_left(1) ^ outcome.digest;
    }
    let broken: Vec<_> =
        played.iter().filter(|(_, outcome)| !outcome.objections.is_empty()).collect();
    for (seed, outcome) in &broken {
        println!("seed {seed}: {}", outcome.objections[0]);
    }
    if let Some((seed, outcome)) = broken.first() {
        show(outcome);
        explain(*seed, outcome);
    }
    println!(
        "{} seeds from {}: {} broken; {counts}, digest {digest:016x}, {:.1} s on {} threads",
        counts.runs,
        options.first,
        broken.len(),
        started.elapsed().as_secs_f64(),
        threads.unwrap_or(1),
    );
    let (passed, failed) = (counts.runs - broken.len() as u64, broken.len());
    println!("test result: {passed} passed; {failed} failed");
    if counts.runs >= ENOUGH {
        let unmet = counts.unmet();
        ensure!(unmet.is_empty(), "these seeds met no {}", unmet.join(", no "));
    }
    if let Some(within) = options.within {
        let within = Duration::from_secs(within);
        ensure!(started.elapsed() < within, "that took longer than {within:?}");
    }
    Ok(broken.is_empty())
}

/// So many seeds meet everything there is.
const ENOUGH: u64 = 200;

/// The outcome of each seed that was played, in the order of seeds.
fn play_on_threads(options: &Options, threads: usize) -> Vec<(u64, Outcome)> {
    let (next, is_over) = (AtomicU64::new(options.first), AtomicBool::new(false));
    let (sender, outcomes) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (sender, next, is_over) = (sender.clone(), &next, &is_over);
            scope.spawn(move || play_in_turn(options, next, is_over, &sender));
        }
    });
    drop(sender);
    let mut played: Vec<_> = outcomes.into_iter().collect();
    played.sort_by_key(|(seed, _)| *seed);
    played
}

/// Plays the next seed that nobody has, until there is none or one has broken something.
fn play_in_turn(
    options: &Options,
    next: &AtomicU64,
    is_over: &AtomicBool,
    outcomes: &mpsc::Sender<(u64, Outcome)>,
) {
    while !is_over.load(Ordering::Relaxed) {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed - options.first >= options.seeds {
            return;
        }
        let outcome = play(&Plan::draw(seed), false);
        if !outcome.objections.is_empty() && !options.survey {
            is_over.store(true, Ordering::Relaxed);
        }
        outcomes.send((seed, outcome)).expect("somebody collects them");
    }
}

/// Prints the fewest faults found that break the same, and how to play them again.
fn explain(seed: u64, outcome: &Outcome) {
    let (plan, invariant) = (Plan::draw(seed), outcome.objections[0].invariant);
    let kept = shrink(&plan, invariant);
    println!(
        "seed {seed} breaks {} with {} of {} faults:",
        invariant.code(),
        kept.len(),
        plan.faults()
    );
    print!("{}", plan.keeping(&kept));
    let list: Vec<_> = kept.iter().map(usize::to_string).collect();
    println!("replay: cargo xtask sim --seed {seed} --keep {}", list.join(","));
}
