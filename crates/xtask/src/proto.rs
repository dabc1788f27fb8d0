//! The protobuf code of the native protocol: generated here, committed, and checked to be fresh,
//! so that nobody who builds Tidewire needs a generator.

use std::path::Path;

use anyhow::Result;

/// Writes the generated code.
pub(crate) fn generate(root: &Path) -> Result<()> {
    with_generator(root, &[])
}

/// Fails when the committed code is not what the definitions generate.
pub(crate) fn check(root: &Path) -> Result<()> {
    with_generator(root, &["--check"])
}

#[cfg(feature = "proto")]
fn with_generator(root: &Path, options: &[&str]) -> Result<()> {
    if options.is_empty() { generator::write(root) } else { generator::compare(root) }
}

/// Builds this program again with the generator in it, and runs that.
#[cfg(not(feature = "proto"))]
fn with_generator(root: &Path, options: &[&str]) -> Result<()> {
    let mut command = crate::process::cargo(root);
    command.args(["run", "--quiet", "--package", "xtask", "--features", "proto", "--", "proto"]);
    crate::process::succeed(command.args(options))
}

#[cfg(feature = "proto")]
mod generator;
