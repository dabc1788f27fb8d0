//! `cargo xtask mutants`: takes one rule at a time out of a copy of the tree, and expects the seeds of
//! the simulation to notice, or the test that is there for the rule.
//!
//! A rule is a text of the source and what stands there without it, so nothing of this is in what is
//! released. What nothing notices is not proved.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{cargo, cargo_within, within};

mod rules;

use rules::{Rule, Test, rules};

/// Takes out each rule, or only the one that is named.
pub(crate) fn run(root: &Path, only: Option<&str>) -> Result<()> {
    let copy = root.join("target/mutants");
    make_copy(root, &copy)?;
    ensure!(
        find_break(root, &copy)?.is_none(),
        "the seeds break something with every rule in place"
    );
    let wanted = || rules().filter(|rule| only.is_none_or(|name| rule.name == name));
    for test in wanted().filter_map(|rule| rule.test.as_ref()) {
        ensure!(passes(test, root, &copy)?, "{} fails with every rule in place", test.name);
    }
    println!("| Rule taken out | Noticed by |\n|---|---|");
    let mut survivors = Vec::new();
    for rule in wanted() {
        let noticed = notice(rule, root, &copy)?;
        println!("| {} | {} |", rule.name, noticed.as_deref().unwrap_or("**nothing**"));
        if noticed.is_none() {
            survivors.push(rule.name);
        }
    }
    ensure!(survivors.is_empty(), "nothing notices the loss of {}", survivors.join(", "));
    Ok(())
}

/// What notices that a rule is missing.
fn notice(rule: &Rule, root: &Path, copy: &Path) -> Result<Option<String>> {
    for (file, text, instead) in rule.edits {
        replace_once(&copy.join(file), text, instead)?;
    }
    let noticed = match &rule.test {
        Some(test) => (!passes(test, root, copy)?).then(|| format!("`{}`", test.name)),
        None => find_break(root, copy)?.map(|(seed, what)| format!("{what}, by seed {seed}")),
    };
    for (file, ..) in rule.edits {
        std::fs::copy(root.join(file), copy.join(file))?;
    }
    Ok(noticed)
}

/// Whether a test of the copy passes; one that hangs does not. One that cannot be built or is not there
/// is an error.
fn passes(test: &Test, root: &Path, copy: &Path) -> Result<bool> {
    let mut command = tool(root, copy, "test");
    quietly(command.args(["--package", test.package]).args(test.target).arg("--no-run"))?;
    let mut command = to_build(cargo_within(LONGEST, copy), root, "test");
    command.args(["--package", test.package]).args(test.target);
    let output = command.args(["--", "--exact", test.name]).output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let is_there = printed.contains("running 1 test");
    ensure!(is_there, "there is no test {} in {}", test.name, test.package);
    Ok(output.status.success())
}

/// What git tracks, as it is now.
fn make_copy(root: &Path, copy: &Path) -> Result<()> {
    for file in crate::tree::files(root)? {
        let (from, to) = (root.join(&file), copy.join(&file));
        let folder = to.parent().context("a file is in a folder")?;
        std::fs::create_dir_all(folder)?;
        if std::fs::read(&to).ok() != Some(std::fs::read(&from)?) {
            std::fs::copy(&from, &to)?;
        }
    }
    Ok(())
}

fn replace_once(file: &Path, text: &str, instead: &str) -> Result<()> {
    let source = std::fs::read_to_string(file)?;
    let count = source.matches(text).count();
    ensure!(count == 1, "`{text}` stands {count} times in {}", file.display());
    std::fs::write(file, source.replace(text, instead))?;
    Ok(())
}

/// The first seed that breaks something, and what; or that does not end, since without its rule the
/// engine may try again without a pause, in which no time passes.
fn find_break(root: &Path, copy: &Path) -> Result<Option<(u64, String)>> {
    quietly(tool(root, copy, "build").args(["--package", "tidewire-sim"]))?;
    let program = root.join(BUILT).join("debug/sim");
    for seed in 1..=SEEDS {
        let mut play = within(LONGEST, &program);
        let output = play.args(["--seeds", "1", "--first", &seed.to_string()]).output()?;
        if output.status.success() {
            continue;
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let said = text.lines().find_map(|line| line.strip_prefix(&format!("seed {seed}: ")));
        return match (said.and_then(|line| line.split([' ', ':']).next()), output.status.code()) {
            (Some(broken), _) => Ok(Some((seed, broken.to_owned()))),
            (None, Some(GIVEN_UP)) => Ok(Some((seed, "it does not end".to_owned()))),
            (None, _) => bail!("seed {seed} did not say what is broken: {text}"),
        };
    }
    Ok(None)
}

/// `cargo build` or `test` of the copy. Not optimized: it is compiled more often than it plays.
fn tool(root: &Path, copy: &Path, what: &str) -> Command {
    to_build(cargo(copy), root, what)
}

fn to_build(mut cargo: Command, root: &Path, what: &str) -> Command {
    cargo.args([what, "--quiet", "--target-dir"]).arg(root.join(BUILT));
    cargo
}

/// Without its warnings: what a missing rule used is not used.
fn quietly(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

const BUILT: &str = "target/mutants-build";
/// More than any rule has needed so far that the seeds notice.
const SEEDS: u64 = 30;
/// What a test or a seed may take, in seconds.
const LONGEST: u32 = 60;
/// What `timeout` exits with when the time is over.
const GIVEN_UP: i32 = 124;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_out_stands_in_the_source_once() {
        let root = crate::tree::root();
        for (file, text, _) in rules().flat_map(|rule| rule.edits) {
            let source = std::fs::read_to_string(root.join(file)).expect("it is there");

            assert_eq!(source.matches(text).count(), 1, "`{text}` in {file}");
        }
    }
}
