//! What the server's processes use, to the nanosecond.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::process::{self, Usage};

/// The processes of the server under test.
pub(super) struct Server<'a> {
    pids: &'a [u32],
}

impl<'a> Server<'a> {
    pub(super) fn new(pids: &'a [u32]) -> Self {
        Self { pids }
    }

    /// Processor time and resident memory of all of them so far.
    pub(super) fn usage(&self) -> Result<Usage> {
        let mut sum = Usage::default();
        for pid in self.pids {
            let context = || format!("cannot observe process {pid}");
            sum.cpu += cpu(*pid).with_context(context)?;
            sum.resident += process::resident(*pid).with_context(context)?;
        }
        Ok(sum)
    }

    /// Stops all of them, so that what is sent meanwhile lies there all at once when they go on.
    pub(super) fn stop(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    pub(super) fn go_on(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Whether every task of every process sleeps, for want of anything to do.
    pub(super) fn is_at_rest(&self) -> Result<bool> {
        for pid in self.pids {
            for task in tasks(*pid).with_context(|| format!("cannot observe process {pid}"))? {
                let stat = fs::read_to_string(task.join("stat")).unwrap_or_default();
                if process::parse_state(&stat).is_some_and(|state| state != SLEEPING) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        for pid in self.pids {
            let process = i32::try_from(*pid).ok().and_then(Pid::from_raw);
            kill_process(process.context("no such process")?, signal)
                .with_context(|| format!("cannot signal process {pid}"))?;
        }
        Ok(())
    }
}

/// The first number of each task's schedstat (Linux' Documentation/scheduler/sched-stats.rst): time
/// on the processor in ns. `stat` counts ticks of 10 ms, which is coarse for short runs.
fn cpu(pid: u32) -> Result<Duration> {
    // A task may end between the listing and the reading.
    Ok(tasks(pid)?.iter().filter_map(|task| schedstat(task)).sum())
}

fn tasks(pid: u32) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"))?;
    Ok(entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?)
}

fn schedstat(task: &Path) -> Option<Duration> {
    parse_schedstat(&fs::read_to_string(task.join("schedstat")).ok()?)
}

/// Field 3 of proc(5)'s stat of a task that waits and can be interrupted.
const SLEEPING: char = 'S';

fn parse_schedstat(text: &str) -> Option<Duration> {
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_on_the_processor_comes_first() {
        assert_eq!(parse_schedstat("123456789 42 7\n"), Some(Duration::from_nanos(123_456_789)));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn work_is_seen_in_the_usage_of_its_process() {
        let pids = [std::process::id()];
        let server = Server::new(&pids);
        let before = server.usage().expect("there is /proc");

        // Each pass reads /proc, which is work.
        while server.usage().expect("there is /proc").cpu == before.cpu {}

        assert!(before.resident > 1 << 20);
    }
}
