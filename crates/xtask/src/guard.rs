//! `cargo xtask guard`: the instructions that the hot paths take, against what they are known to.
//!
//! Counted and not timed, so that a busy machine says the same as a quiet one: `tidewire-guard` does
//! each path under callgrind for one round and for two, and the difference is what a round takes.
//! crates/tidewire-guard/counts.toml says what is expected.

mod callgrind;
mod counts;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::process::{cargo, read, succeed};
use crate::{programs, tree};
use callgrind::Callgrind;
use counts::{Counts, Judgement};

const EXPECTED: &str = "crates/tidewire-guard/counts.toml";
/// As the manifest of the workspace describes it.
const PROFILE: &str = "guard";

/// A path as the program lists it.
struct HotPath {
    name: String,
    /// How often a round does it.
    times: u64,
}

/// Counts, and fails with every path that takes more than it should.
pub(crate) fn check(root: &Path) -> Result<()> {
    let counted = count(root)?;
    let expected = Counts::parse(&tree::read(root, EXPECTED)?)
        .with_context(|| format!("{EXPECTED} cannot be understood"))?;
    let Judgement { lines, gains, breaches } = counted.judge(&expected);
    println!("{}", lines.join("\n"));
    for gain in gains {
        println!("warning: {gain}");
    }
    ensure!(
        breaches.is_empty(),
        "the hot paths are not what {EXPECTED} says:\n  {}\nMake them as short as they were, or, for \
         a reason that the commit gives, run `cargo xtask guard --bless`",
        breaches.join("\n  ")
    );
    Ok(())
}

/// Counts, and expects from now on what was counted.
pub(crate) fn bless(root: &Path) -> Result<()> {
    let text = count(root)?.to_string();
    fs::write(root.join(EXPECTED), &text).with_context(|| format!("could not write {EXPECTED}"))?;
    println!("{text}");
    Ok(())
}

fn count(root: &Path) -> Result<Counts> {
    let valgrind = programs::find("valgrind").context("install the Debian package `valgrind`")?;
    let callgrind = Callgrind { valgrind, program: build(root)? };
    let paths = list(&callgrind.program)?;
    let compiler = read(Command::new("rustc").current_dir(root).arg("--version"))?;
    let mut instructions = count_all(&callgrind, &paths)?;
    instructions.sort_unstable();
    Ok(Counts { compiler: compiler.trim().to_owned(), instructions })
}

/// The program with the paths.
fn build(root: &Path) -> Result<PathBuf> {
    succeed(cargo(root).args(["build", "--profile", PROFILE, "--package", "tidewire-guard"]))?;
    Ok(tree::target(root).join(PROFILE).join("tidewire-guard"))
}

fn list(program: &Path) -> Result<Vec<HotPath>> {
    let listed = read(&mut Command::new(program))?;
    let path = |line: &str| {
        let (name, times) = line.split_once(' ')?;
        Some(HotPath { name: name.to_owned(), times: times.parse().ok()? })
    };
    let paths: Option<Vec<HotPath>> = listed.lines().map(path).collect();
    paths.filter(|paths| !paths.is_empty()).context("the program lists no paths")
}

/// What each path takes once, on as many threads as there are cores.
fn count_all(callgrind: &Callgrind, paths: &[HotPath]) -> Result<Vec<(String, u64)>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let count_some = |first: usize| -> Result<Vec<(String, u64)>> {
        let some = paths.iter().skip(first).step_by(threads);
        some.map(|path| Ok((path.name.clone(), count_one(callgrind, path)?))).collect()
    };
    thread::scope(|scope| {
        let counting: Vec<_> =
            (0..threads).map(|first| scope.spawn(move || count_some(first))).collect();
        let counted =
            counting.into_iter().map(|some| some.join().expect("counting fails by `Err`"));
        Ok(counted.collect::<Result<Vec<_>>>()?.concat())
    })
}

fn count_one(callgrind: &Callgrind, path: &HotPath) -> Result<u64> {
    let one = callgrind.instructions(&path.name, 1)?;
    let two = callgrind.instructions(&path.name, 2)?;
    let round = two.checked_sub(one).with_context(|| format!("{} does nothing", path.name))?;
    Ok(round.div_ceil(path.times))
}
