//! `cargo xtask bench`: what the edge costs, beside the floor and its peers, against the goals.
//!
//! Every figure is processor time or memory of a server process that is pinned to one core, driven by
//! `loadtest swarm` on another. Servers that are compared take turns within one run, and the best of
//! their repeats counts: what disturbs a run only ever adds. [`plan`] lists the goals, [`stage`] runs
//! servers, [`table`] prints what came of it, into docs/benchmarks.md too.

mod cluster;
mod connecting;
mod fairness;
mod fanout;
mod goal;
mod host;
mod inbound;
mod leaving;
mod memory;
mod options;
mod peers;
mod plan;
mod promise;
mod server;
mod services;
mod stage;
mod swarm;
mod table;

use std::path::Path;

use anyhow::Result;

use options::Options;
use peers::Workshop;
use stage::Stage;

pub(crate) use fairness::run as fairness;
pub(crate) use leaving::run as drain;

/// Measures what is asked for. With all goals asked for, the document's table is written anew.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<()> {
    let options = Options::parse(arguments)?;
    let workshop = Workshop::provide(root)?;
    let mut stage = Stage::new(root, options, workshop)?;
    let rows = plan::run(&mut stage);
    let machine = host::describe(&stage);
    let text = table::plain(&rows);
    println!("\n{machine}\n\n{text}");
    if stage.options.is_everything() {
        table::write(root, &machine, &rows)?;
    }
    Ok(())
}
