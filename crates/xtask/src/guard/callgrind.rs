use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Counts the instructions of a program, those of the kernel left out.
pub(super) struct Callgrind {
    pub(super) valgrind: PathBuf,
    pub(super) program: PathBuf,
}

impl Callgrind {
    /// What it takes to do `rounds` of a path, and to get there.
    pub(super) fn instructions(&self, path: &str, rounds: u32) -> Result<u64> {
        let mut command = Command::new(&self.valgrind);
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(&self.program);
        let output = command
            .args([path, &rounds.to_string()])
            .output()
            .with_context(|| format!("could not start {}", self.valgrind.display()))?;
        let log = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{path} failed under callgrind:\n{log}");
        collected(&log).with_context(|| format!("callgrind counted nothing for {path}:\n{log}"))
    }
}

/// The number in `==4711== Collected : 123`.
fn collected(log: &str) -> Option<u64> {
    let (_, number) = log.lines().find_map(|line| line.split_once("Collected : "))?;
    number.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::collected;

    #[test]
    fn the_count_is_found_among_what_valgrind_says() {
        let log = "==7== Callgrind\n==7== Events    : Ir\n==7== Collected : 3285811\n==7==\n";

        assert_eq!(collected(log), Some(3_285_811));
        assert_eq!(collected("==7== Callgrind\n"), None);
    }
}
