//! What processes of this machine have used, from Linux' `/proc` (proc(5)).

use std::fs;
use std::ops::Sub;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// What processes have used so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Usage {
    /// Processor time, theirs and the kernel's for them, in steps of 10 ms.
    pub(crate) cpu: Duration,
    /// Resident memory, in bytes, pages shared between the processes counted in each.
    pub(crate) resident: u64,
}

impl Usage {
    /// Of several processes together.
    pub(crate) fn of(pids: &[u32]) -> Result<Self> {
        let mut sum = Self::default();
        for pid in pids {
            sum.cpu += cpu(*pid).with_context(|| format!("cannot observe process {pid}"))?;
            sum.resident +=
                resident(*pid).with_context(|| format!("cannot observe process {pid}"))?;
        }
        Ok(sum)
    }
}

impl Sub for Usage {
    type Output = Self;

    /// What was used in between; memory that was given back counts as none.
    fn sub(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            resident: self.resident.saturating_sub(earlier.resident),
        }
    }
}

/// How many files this process may have open; `None` where that cannot be known.
pub(crate) fn open_files_limit() -> Option<u64> {
    parse_limit(&fs::read_to_string("/proc/self/limits").ok()?)
}

fn cpu(pid: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_cpu(&text).context("its stat is not as documented")
}

/// The state in a process' `stat`, as proc(5) names it: it follows the name, which may hold anything.
pub(crate) fn parse_state(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    // The roll-up is exact, where the kernel batches what `status` shows; it may be forbidden.
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    if let Some(bytes) = rollup.ok().and_then(|text| parse_kilobytes(&text, "Rss:")) {
        return Ok(bytes);
    }
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse_kilobytes(&text, "VmRSS:").context("its status is not as documented")
}

/// Fields 14 and 15, utime and stime, counted from behind the name, which may hold anything.
fn parse_cpu(stat: &str) -> Option<Duration> {
    /// `USER_HZ`, part of the kernel's interface, on everything Rust is likely to run on.
    const TICK: Duration = Duration::from_millis(10);

    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(TICK * ticks()? + TICK * ticks()?)
}

/// The bytes of a line `Name:   123 kB`.
fn parse_kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1_024)
}

fn parse_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "4242 (a) b (c) R 1 4242 4242 0 -1 4194304 1000 0 0 0 250 75 0 0 20 0 9 0 12345 \
                    1000000 2000 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0";

        assert_eq!(parse_cpu(stat), Some(Duration::from_millis(3_250)));
        assert_eq!(parse_cpu("4242 (a) R 1"), None);
        assert_eq!(parse_cpu(""), None);
    }

    #[test]
    fn the_state_stands_behind_any_name() {
        assert_eq!(parse_state("42 (a) R b) S 1 42 42"), Some('S'));
        assert_eq!(parse_state(""), None);
    }

    #[test]
    fn memory_is_found_by_name() {
        let rollup = "55d0-7ffd ---p 00000000 00:00 0  [rollup]\nRss:               12345 kB\n\
                      Pss:                9000 kB\n";
        let status = "Name:\ttidewire\nVmHWM:\t   20000 kB\nVmRSS:\t   10000 kB\n";

        assert_eq!(parse_kilobytes(rollup, "Rss:"), Some(12_345 * 1_024));
        assert_eq!(parse_kilobytes(status, "VmRSS:"), Some(10_000 * 1_024));
        assert_eq!(parse_kilobytes(status, "Rss:"), None);
    }

    #[test]
    fn the_soft_limit_of_open_files_is_found() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max processes             95923                95923                processes\n\
                      Max open files            1024                 524288               files\n";

        assert_eq!(parse_limit(limits), Some(1_024));
    }

    #[test]
    fn this_process_can_be_observed_and_one_that_is_not_there_cannot() {
        let usage = Usage::of(&[std::process::id()]).expect("the test runs on Linux");

        assert!(usage.resident > 1 << 20, "{usage:?}");
        // Above the largest pid that Linux gives out.
        assert!(Usage::of(&[1 << 30]).is_err());
    }
}
