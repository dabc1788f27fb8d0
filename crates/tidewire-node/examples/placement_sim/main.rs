//! What placement does to a fleet: balance, movement and blast radius, by the code that ships.
//!
//! `cargo xtask placement-sim [--nodes 100,1000] [--tenants 1000000] [--seed 1] [--within 60] [--full]
//! [--bounds]`; the tables in docs/scaling.md are its output.

#![expect(
    clippy::cast_precision_loss,
    reason = "counts are far below 2^53, and what becomes of them is printed with three digits"
)]
#![expect(clippy::disallowed_methods, reason = "it is measured how long the function takes")]

mod crowd;
mod fleet;
mod judge;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crowd::Crowd;
use judge::Findings;

/// What is asked for.
struct Options {
    nodes: Vec<usize>,
    tenants: usize,
    seed: u64,
    within: Duration,
    /// Also fail when a figure is out of what it has to be.
    has_bounds: bool,
}

const USAGE: &str = "usage: placement_sim [--nodes 100,1000] [--tenants 1000000] [--seed 1] \
                     [--within SECONDS] [--full] [--bounds]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = Options::parse(&arguments).and_then(|options| {
        let report = run(&options)?;
        io::stdout().write_all(report.as_bytes()).map_err(|error| error.to_string())
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Nobody is left to be told if that fails.
            let _ = writeln!(io::stderr(), "{problem}");
            ExitCode::FAILURE
        }
    }
}

/// The report, if everything was placed in time and is within bounds.
fn run(options: &Options) -> Result<String, String> {
    let until = Instant::now() + options.within;
    let mut found = Vec::new();
    for nodes in &options.nodes {
        let crowd = Crowd::draw(options.tenants, *nodes, options.seed);
        found.push(Findings::of(&crowd, *nodes, until)?);
    }
    if options.has_bounds {
        for findings in &found {
            findings.check()?;
        }
    }
    let seed = options.seed;
    let head =
        format!("{} tenants, seed {seed}, {} threads\n\n", options.tenants, fleet::threads());
    Ok(head + &judge::tables(&found))
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            nodes: vec![100, 300, 1_000],
            tenants: 1_000_000,
            seed: 1,
            within: Duration::from_mins(1),
            has_bounds: false,
        };
        let mut rest = arguments.iter();
        while let Some(name) = rest.next() {
            let mut value = || rest.next().ok_or(USAGE);
            match name.as_str() {
                "--nodes" => options.nodes = numbers(value()?)?,
                "--tenants" => options.tenants = number(value()?)?,
                "--seed" => options.seed = number(value()?)? as u64,
                "--within" => options.within = Duration::from_secs(number(value()?)? as u64),
                "--full" => options.nodes = vec![100, 300, 1_000, 3_000, 10_000],
                "--bounds" => options.has_bounds = true,
                _ => return Err(USAGE.into()),
            }
        }
        if options.tenants < 1_000 || options.nodes.iter().any(|nodes| *nodes < 3) {
            return Err("at least 1000 tenants and 3 nodes".into());
        }
        Ok(options)
    }
}

fn numbers(text: &str) -> Result<Vec<usize>, String> {
    text.split(',').map(number).collect()
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("`{text}` is no number; {USAGE}"))
}
