//! The repository's automation, run as `cargo xtask <command>`.
//!
//! [`mod@test`] is the test command of README.md and what CI runs. Everything a command checks is a
//! step with a name and a duration, and the first step that fails ends the command.

#![expect(clippy::print_stdout, reason = "printing is what this program is for")]

mod bench;
mod chaos;
mod check;
mod conformance;
mod deny;
mod dependencies;
mod graph;
mod guard;
mod mutants;
mod placement_sim;
mod process;
mod programs;
mod proto;
mod sim;
mod steps;
mod tally;
mod test;
mod tidy;
mod tree;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask <command>

  check            formatting, clippy, docs, dependency policy, generated code, tidy
  test             every test, on real services it finds or installs; what CI runs
  test --fast      the part of `test` that needs no services and no adapters
  conformance      the Autobahn suite on our WebSocket server; writes docs/conformance.md
  guard            the instructions that the hot paths take; fails when they grow
  guard --bless    expect from now on what they take now
  bench            the edge's cost beside the floor and its peers; writes docs/benchmarks.md
                   [--only G1,G4] [--repeats 5] [--seconds 2]
  sim              the engine under faults drawn from seeds
                   [--seeds 300] [--first 1] [--survey]
                   [--seed 17 [--keep 3,9] [--trace file]]
  placement-sim    what placing tenants does to a fleet: balance, movement, blast radius
                   [--nodes 100,300,1000] [--tenants 1000000] [--seed 1] [--within 60] [--full]
  chaos            whole clusters under faults, judged by what their clients saw
                   --rows | --row N | [--seed S] --minutes M [--small] [--debug]
  drain            a node with 10,000 clients drains under load; fails when a promise is broken
                   [--clients N] [--bystanders N] [--debug]
  drain --kill     the same with 5,000 clients and SIGKILL
  fairness         what a tenant notices of another's flood; fails when it is more than promised
                   [--subscribers N] [--seconds N] [--repeats N] [--debug]
  mutants          take one rule at a time out, and expect the seeds to notice
                   ['the fence']
  tidy             what clippy cannot see: words, layers, file length, spawn sites
  proto            generate the protobuf code again
  proto --check    fail when the committed protobuf code is stale
  deny             cargo-deny on .deny.toml: bans, licences, sources
  deny --advisories  the same on known weaknesses, which it fetches
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let root = tree::root();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["check"] => check::run(&root),
        ["test"] => test::everything(&root),
        ["test", "--fast"] => test::fast(&root),
        ["conformance"] => conformance::run(&root),
        ["guard"] => guard::check(&root),
        ["guard", "--bless"] => guard::bless(&root),
        ["bench", options @ ..] => bench::run(&root, options),
        ["mutants"] => mutants::run(&root, None),
        ["mutants", rule] => mutants::run(&root, Some(rule)),
        ["sim", options @ ..] => sim::run(&root, options),
        ["placement-sim", options @ ..] => placement_sim::run(&root, options),
        ["chaos", options @ ..] => chaos::run(&root, options),
        ["drain", options @ ..] => bench::drain(&root, options),
        ["fairness", options @ ..] => bench::fairness(&root, options),
        ["tidy"] => tidy::run(&root),
        ["proto"] => proto::generate(&root),
        ["proto", "--check"] => proto::check(&root),
        ["deny"] => deny::run(&root),
        ["deny", "--advisories"] => deny::advisories(&root),
        ["help" | "--help" | "-h"] => show_usage(&root),
        [] => bail!("no command\n\n{USAGE}"),
        unknown => bail!("unknown command `{}`\n\n{USAGE}", unknown.join(" ")),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "every command has the same shape")]
fn show_usage(_root: &Path) -> Result<()> {
    println!("{USAGE}");
    Ok(())
}
