//! `cargo xtask sim`: the seeded runs of `tidewire-sim`, in a profile of their own.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::process::{cargo, count, succeed};
use crate::tally::Tally;

/// Passes everything on to the program `sim`.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<()> {
    succeed(program(root).args(arguments))
}

/// What every commit is held to: 300 seeds that break nothing, within a minute.
pub(crate) fn check(root: &Path, tally: &mut Tally) -> Result<()> {
    count(program(root).args(["--seeds", "300", "--within", "60"]), tally)
}

fn program(root: &Path) -> Command {
    let mut command = cargo(root);
    command.args(["run", "--quiet", "--profile", "sim", "--package", "tidewire-sim", "--"]);
    command
}
