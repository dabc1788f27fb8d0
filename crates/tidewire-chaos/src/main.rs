//! Rows of the failure matrix, or faults drawn from a seed, on whole clusters.

#![expect(clippy::print_stdout, reason = "printing is what this program is for")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use tidewire_chaos::rows::{ROWS, row};
use tidewire_chaos::{Setup, Size, schedule};
use tokio::runtime::Runtime;

/// Break a cluster in every way there is, and judge what its clients saw
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    /// The `tidewire` to run
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    /// Run this row of the failure matrix; may be repeated
    #[arg(long, value_name = "N")]
    row: Vec<u32>,
    /// Run every row there is
    #[arg(long)]
    rows: bool,
    /// Draw faults from this seed instead [default: drawn, and printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How long to go on with that, in rounds of at most five minutes
    #[arg(long, value_name = "N", conflicts_with_all = ["row", "rows"])]
    minutes: Option<u32>,
    /// As small as in the test run
    #[arg(long)]
    small: bool,
}

/// How long faults happen to one cluster and crowd.
const ROUND: Duration = Duration::from_mins(5);

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Says how many rows or rounds failed.
fn run(cli: &Cli) -> Result<usize> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match cli.minutes {
        Some(minutes) => run_rounds(cli, minutes, &runtime),
        None => run_rows(cli, &runtime),
    }
}

fn run_rows(cli: &Cli, runtime: &Runtime) -> Result<usize> {
    let numbers: Vec<u32> =
        if cli.rows { ROWS.iter().map(|row| row.number).collect() } else { cli.row.clone() };
    ensure!(!numbers.is_empty(), "nothing to do: --row N, --rows or --minutes N");
    let mut failed = Vec::new();
    for number in &numbers {
        let row = row(*number).with_context(|| format!("there is no row {number}"))?;
        println!("row {number}: {}", row.what);
        let begun = SystemTime::now();
        let outcome = runtime.block_on(row.run(Setup::new(&cli.program), cli.size()));
        let seconds = begun.elapsed()?.as_secs();
        match outcome {
            Ok(figures) => println!("  kept in {seconds} s: {figures}"),
            Err(error) => {
                failed.push(*number);
                println!("  BROKEN in {seconds} s: {error:#}");
            }
        }
    }
    println!("{} rows, {} broken: {failed:?}", numbers.len(), failed.len());
    Ok(failed.len())
}

fn run_rounds(cli: &Cli, minutes: u32, runtime: &Runtime) -> Result<usize> {
    let seed = match cli.seed {
        Some(seed) => seed,
        None => u64::from(getrandom::u32()?),
    };
    println!("seed {seed}, {minutes} minutes");
    let (mut left, mut broken, mut round) = (Duration::from_mins(minutes.into()), 0, 0);
    while !left.is_zero() {
        let length = left.min(ROUND);
        let faults = schedule::draw(seed, round, length);
        println!("round {round}: {} faults in {} s", faults.len(), length.as_secs());
        let playing = schedule::play(Setup::new(&cli.program), cli.size(), &faults, |line| {
            println!("{line}");
        });
        match runtime.block_on(playing) {
            Ok(outcome) => println!("round {round} kept: {outcome}"),
            Err(error) => {
                broken += 1;
                println!("round {round} BROKEN: {error:#}");
            }
        }
        left -= length;
        round += 1;
    }
    println!("seed {seed}: {round} rounds, {broken} broken");
    Ok(broken)
}

impl Cli {
    fn size(&self) -> Size {
        if self.small { Size::SMALL } else { Size::FULL }
    }
}
