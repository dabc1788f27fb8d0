//! `cargo xtask check`: everything about the code that is not a test.

use std::path::Path;

use anyhow::Result;

use crate::process::{cargo, succeed};
use crate::steps::Steps;
use crate::{dependencies, proto, tidy};

/// Runs every check, cheapest first.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut steps = Steps::default();
    at_rest(root, &mut steps)?;
    compiled(root, &mut steps)?;
    steps.show_durations();
    Ok(())
}

/// The checks that read files only.
pub(crate) fn at_rest(root: &Path, steps: &mut Steps) -> Result<()> {
    steps.run("formatting", |_| succeed(cargo(root).args(["fmt", "--all", "--check"])))?;
    steps.run("tidy", |_| tidy::run(root))?;
    steps.run("dependency policy", |_| dependencies::check(root))
}

/// The checks that compile.
pub(crate) fn compiled(root: &Path, steps: &mut Steps) -> Result<()> {
    steps.run("generated code is fresh", |_| proto::check(root))?;
    steps.run("clippy", |_| {
        let mut command = cargo(root);
        command.args(["clippy", "--workspace", "--all-targets", "--all-features"]);
        succeed(command.args(["--", "--deny", "warnings"]))
    })?;
    steps.run("documentation", |_| {
        let mut command = cargo(root);
        command.args(["doc", "--workspace", "--no-deps"]);
        succeed(command.env("RUSTDOCFLAGS", "--deny warnings"))
    })
}
