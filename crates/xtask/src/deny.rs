//! cargo-deny on `.deny.toml`: the same bans, and licences and sources beside them.

use std::path::Path;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use crate::{process, programs, tree};

/// Runs cargo-deny. Advisories are left to [`advisories`], for a machine that can fetch the database.
///
/// Installing it takes minutes, so this is its own command and not part of `check` or `test`.
pub(crate) fn run(root: &Path) -> Result<()> {
    check(root, &["bans", "licenses", "sources"])
}

/// Holds what we build on against the database of `RustSec`, and fetches that before.
pub(crate) fn advisories(root: &Path) -> Result<()> {
    let unexplained = unexplained(&tree::read(root, ".deny.toml")?)?;
    if !unexplained.is_empty() {
        bail!(".deny.toml passes over advisories without a reason: {}", unexplained.join(", "));
    }
    check(root, &["advisories"])
}

fn check(root: &Path, what: &[&str]) -> Result<()> {
    programs::find("cargo-deny").context(
        "cargo-deny is not installed; install it with `cargo install cargo-deny --locked`",
    )?;
    let mut command = process::cargo(root);
    command.args(["deny", "--config", ".deny.toml", "--workspace", "check"]);
    process::succeed(command.args(what))
}

/// The advisories that a policy passes over without an id and a few words of reason.
fn unexplained(policy: &str) -> Result<Vec<String>> {
    const LEAST_WORDS: usize = 3;
    let policy: Table = policy.parse().context(".deny.toml is not valid TOML")?;
    let ignored = policy
        .get("advisories")
        .and_then(|advisories| advisories.get("ignore")?.as_array())
        .context(".deny.toml has no list `advisories.ignore`")?;
    let says_why = |advisory: &&Value| {
        let reason = advisory.get("reason").and_then(Value::as_str).unwrap_or_default();
        advisory.get("id").is_some() && reason.split_whitespace().count() >= LEAST_WORDS
    };
    Ok(ignored.iter().filter(|advisory| !says_why(advisory)).map(Value::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_advisory_that_is_passed_over_says_why() {
        let policy = tree::read(&tree::root(), ".deny.toml").unwrap();

        assert_eq!(unexplained(&policy).unwrap(), [""; 0]);
    }

    #[test]
    fn an_advisory_without_a_reason_is_named() {
        let policy = |ignored: &str| unexplained(&format!("[advisories]\nignore = [{ignored}]"));
        let explained = r#"{ id = "RUSTSEC-2026-0001", reason = "we never call it" }"#;

        assert_eq!(policy(explained).unwrap(), [""; 0]);
        assert_eq!(policy(r#""RUSTSEC-2026-0001""#).unwrap(), [r#""RUSTSEC-2026-0001""#]);
        assert_eq!(policy(r#"{ id = "RUSTSEC-2026-0001", reason = "ok" }"#).unwrap().len(), 1);
        assert_eq!(policy(r#"{ reason = "we never call it" }"#).unwrap().len(), 1);
        assert!(unexplained("[advisories]").is_err());
    }
}
