//! The program: it reads the configuration, chooses the adapters and runs.
//!
//! Start from [`run`], then [`config::Config`], which says what to do. Each subcommand is one module
//! of `commands`. Standard output is for data, standard error for talk.

pub mod cli;
mod commands;
pub mod config;
mod output;
mod server;

use std::process::ExitCode;

/// Does what the command line asks. 0 means done, 1 that it could not be or that a check failed.
pub fn run(cli: cli::Cli) -> ExitCode {
    match commands::dispatch(cli.command) {
        Ok(code) => code,
        Err(error) => {
            output::talk(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
