//! The program `tidewire`.

use std::process::ExitCode;

use clap::Parser as _;
use tidewire::cli::Cli;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing has chosen a provider before the first line of main");
    tidewire::run(Cli::parse())
}
