//! `cargo xtask mutants`: takes one rule at a time out of a copy of the tree, and expects the seeds to
//! notice.
//!
//! A rule is a text of the source and what stands there without it, so nothing of this is in what is
//! released. What the seeds do not notice is not proved by them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{cargo, succeed};

/// A rule, and how it is taken out.
struct Rule {
    name: &'static str,
    /// File, text that stands in it once, text instead.
    edits: &'static [(&'static str, &'static str, &'static str)],
}

/// Takes out each rule, or only the one that is named.
pub(crate) fn run(root: &Path, only: Option<&str>) -> Result<()> {
    let copy = root.join("target/mutants");
    make_copy(root, &copy)?;
    ensure!(
        find_break(root, &copy)?.is_none(),
        "the seeds break something with every rule in place"
    );
    println!("| Rule taken out | Noticed as | First seed |\n|---|---|---|");
    let mut survivors = Vec::new();
    for rule in RULES.iter().filter(|rule| only.is_none_or(|name| rule.name == name)) {
        for (file, text, instead) in rule.edits {
            replace_once(&copy.join(file), text, instead)?;
        }
        if let Some((seed, invariant)) = find_break(root, &copy)? {
            println!("| {} | {invariant} | {seed} |", rule.name);
        } else {
            println!("| {} | **not noticed** | |", rule.name);
            survivors.push(rule.name);
        }
        for (file, ..) in rule.edits {
            std::fs::copy(root.join(file), copy.join(file))?;
        }
    }
    ensure!(survivors.is_empty(), "nothing notices the loss of {}", survivors.join(", "));
    Ok(())
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

/// The first seed that breaks something, and what.
fn find_break(root: &Path, copy: &Path) -> Result<Option<(u64, String)>> {
    let target = root.join("target/mutants-build");
    let mut build = cargo(copy);
    build.args(["build", "--quiet", "--profile", "sim", "--package", "tidewire-sim"]);
    // Without a rule, what it used is not used.
    succeed(build.env("RUSTFLAGS", "-Awarnings").arg("--target-dir").arg(&target))?;
    let output = Command::new(target.join("sim/sim")).args(["--seeds", SEEDS]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(None);
    }
    let Some(line) = text.lines().find(|line| line.starts_with("seed ")) else {
        bail!("the seeds did not say what is broken: {text}");
    };
    let words: Vec<&str> = line.split([' ', ':']).filter(|word| !word.is_empty()).collect();
    let seed = words[1].parse().with_context(|| format!("no seed in `{line}`"))?;
    Ok(Some((seed, words[2].to_owned())))
}

/// As many as any rule has needed so far, five times over.
const SEEDS: &str = "2000";

const LUA: &str = "crates/tidewire-store-redis/src/functions.lua";
const FEED: &str = "crates/tidewire-node/src/feed.rs";
const APPEND: &str = "crates/tidewire-node/src/append.rs";

const RULES: &[Rule] = &[
    Rule {
        name: "the fence",
        edits: &[(
            LUA,
            "  if string.sub(stored, 14) == me then",
            "  if stored ~= '000000000000' then",
        )],
    },
    Rule {
        name: "the lineage",
        edits: &[(
            LUA,
            "for index = math.max(1, #eras - MAX_ERAS + 1), #eras do",
            "for index = #eras, #eras do",
        )],
    },
    Rule {
        name: "knowing an id again",
        edits: &[(
            LUA,
            "if redis.call('HSETNX', buckets.current, field, next_position) == 1 then",
            "if true then",
        )],
    },
    Rule {
        name: "knowing an id again after the clock was set back",
        edits: &[(LUA, " or redis.call('HGET', buckets.next, field)", "")],
    },
    Rule {
        name: "searching for what a lost reply was about",
        edits: &[(
            "crates/tidewire-store-redis/src/retry.rs",
            "            may_have_happened: self.may_have_happened,",
            "            may_have_happened: false,",
        )],
    },
    Rule {
        name: "appending again what was lost",
        edits: &[(
            APPEND,
            "if has_forked { self.begin_heal(channel) } else { self.append_next(channel) }",
            "self.append_next(channel)",
        )],
    },
    Rule {
        name: "one batch at a time",
        edits: &[(
            "crates/tidewire-node/src/lane.rs",
            "if !matches!(self.state, State::Idle) || self.waiting.is_empty() {",
            "if self.waiting.is_empty() {",
        )],
    },
    Rule {
        name: "judging by where the feed stands at the merge",
        edits: &[(FEED, "let has_moved = self.asked_at != Some(at);", "let has_moved = false;")],
    },
    Rule {
        name: "finding out that something is missing",
        edits: &[
            (FEED, "self.rechecks = RECHECKS.iter().map(|delay| now + *delay).collect();", ""),
            (
                APPEND,
                "            self.announce_later(channel, newest);",
                "            drop(newest);",
            ),
            (
                "crates/tidewire-node/src/check.rs",
                "        if self.is_checking {\n            return;",
                "        if true {\n            return;",
            ),
        ],
    },
];
