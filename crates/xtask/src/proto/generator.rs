//! The generator itself: protox compiles the definitions, prost-build writes Rust, rustfmt lays
//! it out as ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{process, tree};

const DEFINITIONS: &str = "crates/tidewire-protocol-native/proto";
const GENERATED: &str = "crates/tidewire-protocol-native/src/generated";

/// Writes the generated files.
pub(super) fn write(root: &Path) -> Result<()> {
    let folder = root.join(GENERATED);
    fs::create_dir_all(&folder).with_context(|| format!("could not create {GENERATED}"))?;
    for file in generate_into(root, &scratch(root)?)? {
        let name = file.file_name().expect("generated files have names");
        fs::copy(&file, folder.join(name)).context("could not write the generated code")?;
        println!("wrote {GENERATED}/{}", name.to_string_lossy());
    }
    Ok(())
}

/// Fails when a committed file differs from what is generated now.
pub(super) fn compare(root: &Path) -> Result<()> {
    let files = generate_into(root, &scratch(root)?)?;
    for file in &files {
        let name = file.file_name().expect("generated files have names").to_string_lossy();
        let fresh = fs::read_to_string(file).context("could not read the generated code")?;
        let committed = tree::read(root, &format!("{GENERATED}/{name}"))?;
        ensure!(
            fresh == committed,
            "{GENERATED}/{name} is stale: run `cargo xtask proto` and commit it"
        );
    }
    println!("{} generated file(s) are fresh", files.len());
    Ok(())
}

/// An empty folder under `target`.
fn scratch(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target/xtask-proto");
    if folder.exists() {
        fs::remove_dir_all(&folder).context("could not empty target/xtask-proto")?;
    }
    fs::create_dir_all(&folder).context("could not create target/xtask-proto")?;
    Ok(folder)
}

fn generate_into(root: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let definitions = root.join(DEFINITIONS);
    let files: Vec<PathBuf> = tree::files(&definitions)?
        .into_iter()
        .filter(|path| tree::has_extension(path, "proto"))
        .map(|path| definitions.join(path))
        .collect();
    ensure!(!files.is_empty(), "there is no definition in {DEFINITIONS}");

    let compiled = protox::compile(&files, [&definitions])
        .map_err(|error| anyhow::anyhow!("{error:?}"))
        .context("the definitions do not compile")?;
    prost_build::Config::new()
        // A payload is a slice of the frame it came in, never a copy.
        .bytes(["."])
        .out_dir(folder)
        .compile_fds(compiled)
        .context("could not generate code")?;

    let generated: Vec<PathBuf> =
        tree::files(folder)?.into_iter().map(|path| folder.join(path)).collect();
    process::succeed(
        Command::new("rustfmt")
            .args(["--edition", "2024", "--config-path"])
            .arg(root)
            .args(&generated),
    )?;
    Ok(generated)
}
