//! Many clients at once, every delivery checked and timed.
//!
//! Start from [`scenario`]: what is done to the server. [`subscriber`] and [`publisher`] are the two
//! kinds of client, both over `tidewire-client`, one task each. What publishers were acknowledged
//! becomes a ledger, against which a checker per subscription (both of `tidewire-witness`) answers for
//! every offset: none lost, none twice, none out of order, none with other content than was published.
//!
//! [`swarm`] is apart from all that: it measures a server and checks next to nothing.
//!
//! Ends with 0 if all of that holds, with 1 if not, and with 2 if there was nothing to measure.

mod access;
mod cli;
mod departure;
mod latency;
mod moves;
mod pace;
mod phase;
mod plan;
mod process;
mod progress;
mod publisher;
mod report;
mod scenario;
mod subscriber;
mod swarm;
mod tally;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Instrument};
use crate::plan::Plan;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // There is nobody left to tell that standard error cannot be written to.
            drop(writeln!(std::io::stderr().lock(), "loadtest: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// Says whether everything held.
fn run(cli: &Cli) -> anyhow::Result<bool> {
    if let Some(Instrument::Swarm(options)) = &cli.instrument {
        swarm::run(options)?;
        return Ok(true);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let plan = Plan::new(cli).await?;
        scenario::run(cli.scenario, plan).await
    })?;
    let mut stdout = std::io::stdout().lock();
    if cli.output.json {
        serde_json::to_writer_pretty(&mut stdout, &report)?;
        writeln!(stdout)?;
    } else {
        write!(stdout, "{report}")?;
    }
    Ok(report.holds())
}
