//! cargo-deny on `.deny.toml`: the same bans, and licences and sources beside them.

use std::path::Path;

use anyhow::{Context, Result};

use crate::{process, programs};

/// Runs cargo-deny. Advisories are left to a machine that can fetch the database.
///
/// Installing it takes minutes, so this is its own command and not part of `check` or `test`.
pub(crate) fn run(root: &Path) -> Result<()> {
    programs::find("cargo-deny").context(
        "cargo-deny is not installed; install it with `cargo install cargo-deny --locked`",
    )?;
    process::succeed(process::cargo(root).args([
        "deny",
        "--config",
        ".deny.toml",
        "--workspace",
        "check",
        "bans",
        "licenses",
        "sources",
    ]))
}
