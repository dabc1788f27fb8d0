//! Processes whose wall clock is wrong.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::cluster::NODES;

/// The wall clock of one process, which jumps whenever it is set.
pub struct Clock {
    ahead: File,
    environment: Vec<(String, OsString)>,
}

/// Those of a cluster.
pub struct Clocks {
    pub nodes: Vec<Clock>,
    pub redis: Vec<Clock>,
}

impl Clock {
    /// A clock that is right. `library` is what [`build`] has made.
    fn new(library: &Path, file: &Path) -> Result<Self> {
        let ahead = File::create(file).with_context(|| file.display().to_string())?;
        let environment = vec![
            ("LD_PRELOAD".to_owned(), library.into()),
            ("CLOCK_AHEAD_FILE".to_owned(), file.into()),
        ];
        let clock = Self { ahead, environment };
        clock.set(0)?;
        Ok(clock)
    }

    /// Has it be so many seconds ahead of what is right, from now on.
    pub fn set(&self, ahead: i64) -> Result<()> {
        // Not truncated first: the process has it mapped.
        Ok(self.ahead.write_all_at(&ahead.to_ne_bytes(), 0)?)
    }

    /// What a process has to be started with.
    pub fn environment(&self) -> &[(String, OsString)] {
        &self.environment
    }
}

impl Clocks {
    /// Clocks for three nodes and a watched pair of Redis servers, whose files are in `directory`.
    pub(crate) fn new(directory: &Path) -> Result<Self> {
        let library = build(directory)?;
        let some = |kind: &str, count: usize| -> Result<Vec<Clock>> {
            let file = |number| directory.join(format!("{kind}-{number}.clock"));
            (0..count).map(|number| Clock::new(&library, &file(number))).collect()
        };
        Ok(Self { nodes: some("node", NODES)?, redis: some("redis", 2)? })
    }
}

/// Makes what is preloaded. libfaketime will not do: it allocates while the allocator of Redis asks it
/// for the time.
fn build(directory: &Path) -> Result<PathBuf> {
    let (source, library) = (directory.join("clock.c"), directory.join("clock.so"));
    std::fs::write(&source, include_str!("clock.c"))?;
    let made = Command::new("c++")
        .args(["-x", "c", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .output()
        .context("c++ cannot be run: install the package g++")?;
    ensure!(made.status.success(), "clock.c: {}", String::from_utf8_lossy(&made.stderr));
    Ok(library)
}

#[cfg(test)]
mod tests {
    use tidewire_testkit::services::{RedisServer, free_port};

    use super::*;

    #[tokio::test]
    async fn a_clock_jumps_while_its_process_runs() {
        let directory = tempfile::tempdir().expect("a directory");
        let clocks = Clocks::new(directory.path()).expect("a compiler");
        let clock = &clocks.redis[0];
        let redis = RedisServer::on_port_with(free_port(), &[], clock.environment()).await;
        let now = async || -> i64 {
            let time = redis.command(&["TIME"]).await.expect("it answers");
            time.lines().next().expect("seconds").parse().expect("a number")
        };

        let right = now().await;
        clock.set(3_600).expect("it is set");
        let ahead = now().await;
        clock.set(-3_600).expect("it is set");
        let behind = now().await;

        assert!((3_600..3_700).contains(&(ahead - right)), "{ahead} after {right}");
        assert!((7_100..=7_200).contains(&(ahead - behind)), "{behind} after {ahead}");
    }
}
