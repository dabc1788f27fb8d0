//! Many connections at next to no cost, for measuring servers rather than checking them.
//!
//! One thread, one `mio::Poll`, a few dozen bytes a connection. Nothing is decoded: publications are
//! counted by a mark that every payload holds once, so that each kind of server is drained by the
//! same loop. [`Swarm`] holds the connections, [`dialect::Dialect`] knows what to say to which server, and
//! [`phases`] are what is measured: each prints one line of JSON with the processor time that the
//! server's processes took for it.

mod connection;
mod dialect;
mod frames;
mod link;
mod options;
mod pacing;
mod phases;
mod poll;
mod record;
mod server;
mod tokens;

use std::io::Write as _;

use anyhow::Result;

pub(crate) use options::SwarmOptions;
use poll::Swarm;
use record::Record;
use server::Server;

/// Opens the connections, then goes through the phases, printing a line for each.
pub(crate) fn run(options: &SwarmOptions) -> Result<()> {
    let tokens = tokens::collect(options)?;
    let server = Server::new(&options.pid);
    let before = server.usage()?;
    let mut swarm = Swarm::new(options, tokens)?;
    let begun = tokio::time::Instant::now();
    swarm.open_all(options.concurrency)?;
    let opened = begun.elapsed();
    let after = server.usage()?;
    print(&Record::opening(swarm.len(), opened, before, after))?;
    for phase in &options.phases {
        let record = phases::run(*phase, &mut swarm, &server, options)?;
        print(&record)?;
    }
    Ok(())
}

fn print(record: &Record) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    serde_json::to_writer(&mut stdout, record)?;
    writeln!(stdout)?;
    Ok(stdout.flush()?)
}
