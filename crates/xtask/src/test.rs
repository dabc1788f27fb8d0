//! `cargo xtask test`: every test there is, cheapest first, on services found or installed here.
//!
//! The tests start their own NATS and Redis as children, on free ports of the loopback, so
//! nothing has to run beforehand and nothing is left running.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process::{cargo, count, succeed};
use crate::steps::Steps;
use crate::{check, guard, placement_sim, programs, sim, tree};

/// Crates whose tests need no service and next to nothing compiled.
const FAST: [&str; 7] = [
    "tidewire-model",
    "tidewire-session",
    "tidewire-witness",
    "tidewire-protocol",
    "tidewire-protocol-native",
    "tidewire-hub",
    "xtask",
];

const BROWSER: &str = "deploy/checks/browser";

/// The part that answers within a minute of the first build.
pub(crate) fn fast(root: &Path) -> Result<()> {
    finish(root, fast_steps)
}

/// Everything.
pub(crate) fn everything(root: &Path) -> Result<()> {
    finish(root, |root, steps| {
        fast_steps(root, steps)?;
        steps.run("programs", |_| programs::provide())?;
        check::compiled(root, steps)?;
        rust_steps(root, steps)?;
        steps.run("simulation", |tally| sim::check(root, tally))?;
        steps.run("placement", |_| placement_sim::check(root))?;
        steps.run("instructions of hot paths", |_| guard::check(root))?;
        deploy_steps(root, steps)?;
        steps.run("fuzz targets compile", |_| check_fuzz_targets(root))
    })
}

/// Runs `work` and ends with the line that says how many tests passed, also after a failure.
fn finish(root: &Path, work: impl FnOnce(&Path, &mut Steps) -> Result<()>) -> Result<()> {
    let mut steps = Steps::default();
    let outcome = work(root, &mut steps);
    let tally = steps.tally();
    let outcome = outcome.and_then(|()| {
        ensure!(tally.skipped() == 0, "{} tests were skipped or ignored", tally.skipped());
        Ok(())
    });
    steps.show_durations();
    println!("\n{tally}");
    outcome
}

fn fast_steps(root: &Path, steps: &mut Steps) -> Result<()> {
    check::at_rest(root, steps)?;
    steps.run("tests without I/O", |tally| {
        let mut command = cargo(root);
        command.args(["test", "--no-fail-fast"]);
        command.args(FAST.iter().flat_map(|name| ["--package", name]));
        count(&mut command, tally)
    })
}

fn rust_steps(root: &Path, steps: &mut Steps) -> Result<()> {
    // Programs and tests in one go: built apart, they would differ in the features of what they
    // depend on, and compile it twice.
    steps.run("build", |_| {
        succeed(cargo(root).args(["build", "--workspace", "--bins", "--lib", "--tests"]))
    })?;
    steps.run("tests", |tally| {
        let mut command = cargo(root);
        command.args(["test", "--workspace", "--no-fail-fast"]);
        command.args(FAST.iter().flat_map(|name| ["--exclude", name]));
        count(command.env("PATH", programs::search_path()), tally)
    })
}

/// What deploy/checks/README.md says to run by hand.
fn deploy_steps(root: &Path, steps: &mut Steps) -> Result<()> {
    let environment = root.join(".venv");
    steps.run("python environment", |_| {
        if !environment.join("bin/pip").is_file() {
            succeed(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        }
        let mut pip = Command::new(environment.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]);
        succeed(pip.arg(root.join("deploy/checks/requirements.txt")))
    })?;
    steps.run("workflow schema", |_| {
        let mut schema = Command::new(environment.join("bin/check-jsonschema"));
        schema.args(["--builtin-schema", "vendor.github-workflows"]);
        succeed(schema.arg(root.join(".github/workflows/ci.yml")))
    })?;
    steps.run("deployment", |tally| {
        let mut pytest = Command::new(environment.join("bin/pytest"));
        count(on_built_program(pytest.arg("deploy/checks"), root), tally)
    })?;
    steps.run("browser packages", |_| {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", BROWSER]);
        succeed(npm.current_dir(root))
    })?;
    steps.run("browser", |tally| {
        let mut node = Command::new("node");
        count(on_built_program(node.arg(format!("{BROWSER}/two_tabs.test.mjs")), root), tally)
    })
}

/// Tells a suite where the root is, which `tidewire` to run, and where servers are.
fn on_built_program<'a>(command: &'a mut Command, root: &Path) -> &'a mut Command {
    let built = tree::target(root).join("debug/tidewire");
    command.current_dir(root).env("TIDEWIRE_BIN", built).env("PATH", programs::search_path())
}

/// Compiles each `crates/*/fuzz`, which are workspaces of their own.
fn check_fuzz_targets(root: &Path) -> Result<()> {
    let manifests: Vec<PathBuf> = tree::files(root)?
        .into_iter()
        .filter(|path| path.starts_with("crates/") && path.ends_with("/fuzz/Cargo.toml"))
        .map(|path| root.join(path))
        .collect();
    ensure!(!manifests.is_empty(), "there is no fuzz target in crates/*/fuzz");
    for manifest in manifests {
        let mut command = cargo(root);
        command.args(["check", "--quiet", "--target-dir", "target/fuzz", "--manifest-path"]);
        succeed(command.arg(&manifest))
            .with_context(|| format!("{} does not compile", manifest.display()))?;
        println!("{} compiles", manifest.display());
    }
    Ok(())
}
