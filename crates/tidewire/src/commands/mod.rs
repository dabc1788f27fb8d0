//! What each subcommand does.

mod config;
mod dev;
mod drain;
mod health;
mod history;
mod placement;
mod presence;
mod publish;
mod remote;
mod serve;
mod subscribe;
mod tenant;
mod token;
mod version;

use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};

use crate::cli::Command;

pub(crate) fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Dev(dev) => dev::run(&dev),
        Command::Serve(serve) => serve::run(&serve),
        Command::Pub(publish) => publish::run(&publish),
        Command::Sub(subscribe) => subscribe::run(&subscribe),
        Command::History(history) => history::run(&history),
        Command::Presence(presence) => presence::run(&presence),
        Command::Health(health) => health::run(&health),
        Command::Drain(drain) => drain::run(&drain),
        Command::Placement(placement) => placement::run(&placement),
        Command::Config(command) => config::run(command),
        Command::Tenant(command) => tenant::run(command),
        Command::Token(command) => token::run(command),
        Command::Version(version) => version::run(&version),
    }
}

/// On the main thread: all there is for one connection, and what a node does beside serving clients.
fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}
