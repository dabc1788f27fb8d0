//! `cargo xtask conformance`: the Autobahn test suite against our end of a WebSocket.
//!
//! The suite is a client of the echo example of `tidewire-transport`. What it found is written to
//! docs/conformance.md, and a case that failed fails the command. It needs Python 2.7, which CI
//! does not: the cases are ported to `crates/tidewire-transport/tests/it/autobahn`.

mod document;
mod python;
mod server;
mod suite;
mod verdict;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::steps::Steps;
use crate::tree;
use python::Python;
use server::EchoServer;
use verdict::{Tally, Verdict};

const DOCUMENT: &str = "docs/conformance.md";

/// Every case the suite has. Fewer verdicts mean that it broke off.
const CASES: usize = 517;

/// Runs every case, writes the document, and fails if a case did.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut steps = Steps::default();
    let outcome = judge(root, &mut steps);
    steps.show_durations();
    outcome
}

fn judge(root: &Path, steps: &mut Steps) -> Result<()> {
    let folder = target(root).join("conformance");
    fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    let mut python = None;
    steps.run("python 2.7 with the suite", |_| {
        python = Some(Python::provide(&folder)?);
        Ok(())
    })?;
    let python = python.expect("a step that failed has returned");
    steps.run("echo server", |_| server::build(root))?;

    let server = EchoServer::start(&target(root))?;
    let mut verdicts = Vec::new();
    for part in &suite::PARTS {
        steps.run(part.name, |_| {
            verdicts.extend(part.run(&python, &folder, server.port())?);
            Ok(())
        })?;
    }
    verdicts.sort_unstable_by(|one, other| one.number.cmp(&other.number));
    steps.run("verdicts", |_| conclude(root, &python, &verdicts))
}

fn conclude(root: &Path, python: &Python, verdicts: &[Verdict]) -> Result<()> {
    let tally = Tally::of(verdicts);
    println!("{tally}");
    for verdict in verdicts.iter().filter(|verdict| !verdict.is_ok()) {
        println!("  {verdict}");
    }
    ensure!(
        verdicts.len() == CASES,
        "the suite gave {} verdicts and has {CASES} cases: its logs are in target/conformance",
        verdicts.len()
    );
    document::write(&root.join(DOCUMENT), &tree::read(root, DOCUMENT)?, python, verdicts)?;
    let failed = verdicts.iter().filter(|verdict| verdict.is_failed()).count();
    ensure!(failed == 0, "{failed} cases failed");
    Ok(())
}

/// Where cargo builds, and where everything of this command is kept.
fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |folder| root.join(folder))
}
