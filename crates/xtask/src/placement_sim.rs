//! `cargo xtask placement-sim`: what placement does to a fleet, by the code that ships.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::process::{cargo, succeed};

/// Passes everything on to the simulation, in the profile of the other one.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<()> {
    succeed(program(root).args(arguments))
}

/// What every commit is held to: figures of a small fleet within what theory allows.
pub(crate) fn check(root: &Path) -> Result<()> {
    let small = ["--nodes", "100", "--tenants", "100000", "--within", "30", "--bounds"];
    succeed(program(root).args(small))
}

fn program(root: &Path) -> Command {
    let mut command = cargo(root);
    command.args(["run", "--quiet", "--profile", "sim", "--package", "tidewire-node"]);
    command.args(["--example", "placement_sim", "--"]);
    command
}
