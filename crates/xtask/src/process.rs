//! Running other programs: loudly, quietly, or counting the tests they report.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::tally::Tally;

/// `cargo`, in the workspace root, free of what `cargo run` set for this program.
///
/// Build scripts may ask to run again when such a variable changes, and would then do so at
/// every switch between `cargo xtask test` and `cargo test`.
pub(crate) fn cargo(root: &Path) -> Command {
    in_root(Command::new(cargo_program()), root)
}

/// The same, ended after `seconds` with all that it has started.
pub(crate) fn cargo_within(seconds: u32, root: &Path) -> Command {
    in_root(within(seconds, cargo_program()), root)
}

/// A program that is ended after `seconds` with all that it has started; it then exits with 124.
pub(crate) fn within(seconds: u32, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.arg(seconds.to_string()).arg(program);
    command
}

fn cargo_program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))
}

fn in_root(mut command: Command, root: &Path) -> Command {
    command.current_dir(root);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs `command` with its output where ours goes.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let shown = line(command);
    let status = command.status().with_context(|| format!("could not start `{shown}`"))?;
    ensure!(status.success(), "`{shown}` failed ({status})");
    Ok(())
}

/// Runs `command` and returns what it wrote to standard output.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let shown = line(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("could not start `{shown}`"))?;
    ensure!(output.status.success(), "`{shown}` failed ({})", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` did not write UTF-8"))
}

/// Runs `command`, passes its standard output on, and adds the tests it reports to `tally`.
///
/// Reporting no test at all is a failure: a suite that was not collected must not look green.
pub(crate) fn count(command: &mut Command, tally: &mut Tally) -> Result<()> {
    let shown = line(command);
    let before = tally.total();
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start `{shown}`"))?;
    let stdout = child.stdout.take().expect("standard output was piped above");
    for text in BufReader::new(stdout).split(b'\n') {
        let text = text.with_context(|| format!("could not read from `{shown}`"))?;
        let text = String::from_utf8_lossy(&text);
        println!("{text}");
        tally.read(&text);
    }
    let status = child.wait().with_context(|| format!("could not wait for `{shown}`"))?;
    ensure!(status.success(), "`{shown}` failed ({status})");
    ensure!(tally.total() > before, "`{shown}` reported no test");
    Ok(())
}

/// The command as a person would type it.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
