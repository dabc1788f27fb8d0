//! `cargo xtask chaos`: the rows of the failure matrix, or faults drawn from a seed, on real processes.

use std::path::Path;

use anyhow::Result;

use crate::process::{cargo, succeed};
use crate::programs;

/// Builds what is needed, as it is released unless it says `--debug`, and passes the rest on.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<()> {
    programs::provide()?;
    let profile = if arguments.contains(&"--debug") { None } else { Some("--release") };
    let built = if profile.is_some() { "release" } else { "debug" };
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |folder| root.join(folder));
    succeed(cargo(root).arg("build").args(profile).args(["-p", "tidewire"]))?;
    let mut chaos = cargo(root);
    chaos.arg("run").args(profile).args(["-p", "tidewire-chaos", "--", "--program"]);
    chaos.arg(target.join(built).join("tidewire"));
    succeed(chaos.args(arguments.iter().filter(|word| **word != "--debug")))
}
