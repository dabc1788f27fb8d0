//! `cargo xtask tidy`: the house rules that clippy cannot see.
//!
//! Each rule takes the [`Source`]s and returns what breaks it, as `path:line: what and why`.
//! docs/style.md says the rules in words.

mod layout;
mod numbers;
mod proofs;
mod registries;
mod source;
mod spawns;
mod words;

use std::path::Path;

use anyhow::{Result, bail};

use crate::tree;
use source::Source;

const ARCHITECTURE: &str = "docs/architecture.md";
/// Documents that say which test holds what they promise.
const PROOFS: [&str; 2] = ["docs/guarantees.md", "docs/security.md"];

/// Fails with everything that is not tidy, after printing the numbers worth watching.
pub(crate) fn run(root: &Path) -> Result<()> {
    let files = tree::files(root)?;
    let sources = sources(root, &files)?;
    let mut untidy = layout::check(&sources);
    untidy.extend(words::check(&sources));
    untidy.extend(registries::check(root, &files)?);
    if files.iter().any(|path| path == ARCHITECTURE) {
        untidy.extend(spawns::check(&sources, &tree::read(root, ARCHITECTURE)?));
    } else {
        println!("spawn sites are not checked: there is no {ARCHITECTURE}");
    }
    for document in PROOFS.iter().filter(|document| files.iter().any(|path| path == *document)) {
        untidy.extend(proofs::check(&sources, document, &tree::read(root, document)?));
    }
    numbers::show(&sources);
    if !untidy.is_empty() {
        bail!("not tidy:\n  {}", untidy.join("\n  "));
    }
    Ok(())
}

/// Our Rust, without what a generator wrote.
fn sources(root: &Path, files: &[String]) -> Result<Vec<Source>> {
    files
        .iter()
        .filter(|path| path.starts_with("crates/") || path.starts_with("loadtest/"))
        .filter(|path| tree::has_extension(path, "rs") && !path.contains("/generated/"))
        .map(|path| Ok(Source::new(path, tree::read(root, path)?)))
        .collect()
}
