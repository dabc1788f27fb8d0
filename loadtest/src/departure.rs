//! Making a node leave, and watching it go.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tidewire_transport::http;
use tokio::time::Instant;

use crate::cli::{LeaveBy, Leaving};
use crate::process::{self, Usage};

/// A node that is to leave.
#[derive(Debug)]
pub(crate) struct Departure {
    leaver: Pid,
    by: LeaveBy,
    /// When it is told to.
    at: Instant,
    told: Option<Instant>,
    gone: Option<Instant>,
    /// What those that stay had used when they were looked at last.
    last: Option<(Instant, Usage)>,
    /// Processor cores they used, in each second since it was told to leave.
    cores: Vec<f64>,
}

/// How often it is looked whether the process is there.
const LOOK: Duration = Duration::from_millis(50);

impl Departure {
    /// Fails if there is no such process.
    pub(crate) fn new(leaving: &Leaving, start: Instant) -> Result<Self> {
        let number = leaving.leaver.context("--leaver: which process is to leave?")?;
        let leaver = i32::try_from(number).ok().and_then(Pid::from_raw);
        let leaver = leaver.with_context(|| format!("--leaver: {number} is no process"))?;
        if is_gone(leaver) {
            bail!("--leaver: there is no process {number}");
        }
        let at = start + Duration::from_secs(leaving.leave_after.into());
        let (by, cores) = (leaving.leave_by, Vec::new());
        Ok(Self { leaver, by, at, told: None, gone: None, last: None, cores })
    }

    /// When there is something to do next.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.gone.is_none().then_some(self.at)
    }

    /// Does what is due; says when the node was told to leave, if it is told now.
    pub(crate) fn step(&mut self, now: Instant) -> Result<Option<Instant>> {
        self.at = now + LOOK;
        if self.told.is_none() {
            let signal = match self.by {
                LeaveBy::Term => Signal::TERM,
                LeaveBy::Kill => Signal::KILL,
            };
            kill_process(self.leaver, signal).context("the node cannot be told to leave")?;
            self.told = Some(now);
            return Ok(self.told);
        }
        if is_gone(self.leaver) {
            self.gone = Some(now);
        }
        Ok(None)
    }

    /// Notes what the processes that stay have used; about once a second.
    pub(crate) fn observe(&mut self, usage: Usage, now: Instant) {
        if self.told.is_none() {
            self.last = Some((now, usage));
            return;
        }
        if let Some((then, before)) = self.last.replace((now, usage)) {
            let elapsed = (now - then).as_secs_f64();
            self.cores.push((usage - before).cpu.as_secs_f64() / elapsed);
        }
    }

    /// How long it took to end; `None` if it was there to the end of the run.
    pub(crate) fn took(&self) -> Option<Duration> {
        Some(self.gone? - self.told?)
    }

    pub(crate) fn by(&self) -> LeaveBy {
        self.by
    }

    pub(crate) fn cores(&self) -> &[f64] {
        &self.cores
    }
}

/// Tokens that nodes have verified so far, by their operators' listeners: what somebody has to be
/// asked for, where a session is taken up again without.
pub(crate) async fn verified_tokens(ops: &[String]) -> Result<u64> {
    let mut verified = 0;
    for url in ops {
        let url = format!("{}/metrics", url.trim_end_matches('/'));
        let answer = http::request(::http::Method::GET, &url, &[], "").await.context("--ops")?;
        if !answer.status.is_success() {
            bail!("--ops: {url} answered {}", answer.status);
        }
        verified += parse_verified(&String::from_utf8_lossy(&answer.body));
    }
    Ok(verified)
}

/// The sum of all series of tokens, whatever came of them.
fn parse_verified(metrics: &str) -> u64 {
    metrics
        .lines()
        .filter(|line| line.starts_with("tidewire_auth_total{") && line.contains("\"token\""))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum()
}

/// A process that nobody has waited for yet is gone too.
fn is_gone(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
    stat.map_or(true, |stat| process::parse_state(&stat).is_none_or(|state| state == 'Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tokens_that_were_looked_at_count() {
        let metrics = "# TYPE tidewire_auth_total counter\n\
                       tidewire_auth_total{method=\"token\",result=\"ok\"} 12\n\
                       tidewire_auth_total{method=\"token\",result=\"bad_token\"} 3\n\
                       tidewire_auth_total{method=\"api_key\",result=\"ok\"} 100\n\
                       tidewire_connections{transport=\"ws\"} 7\n";

        assert_eq!(parse_verified(metrics), 15);
        assert_eq!(parse_verified(""), 0);
    }

    #[test]
    fn this_process_is_there_and_one_that_never_was_is_gone() {
        assert!(!is_gone(rustix::process::getpid()));
        // Above the largest pid that Linux gives out.
        assert!(is_gone(Pid::from_raw(1 << 30).expect("a number")));
    }

    #[test]
    fn the_cores_of_those_that_stay_are_counted_from_when_the_node_is_told() {
        let start = Instant::now();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("it runs");
        let leaving = Leaving { leaver: Some(child.id()), leave_by: LeaveBy::Kill, ..leaving() };
        let mut departure = Departure::new(&leaving, start).expect("it is there");

        departure.observe(usage(100), start + Duration::from_secs(1));
        let told = departure.step(start + Duration::from_secs(5)).expect("it can be told");
        departure.observe(usage(2_100), start + Duration::from_secs(5));
        child.wait().expect("it has ended");
        departure.step(start + Duration::from_secs(6)).expect("it can be looked for");

        assert_eq!(told, Some(start + Duration::from_secs(5)));
        assert_eq!(departure.cores(), [0.5]);
        assert_eq!(departure.took(), Some(Duration::from_secs(1)));
        assert_eq!(departure.due(), None);
    }

    fn leaving() -> Leaving {
        let (leave_by, bystanders, ops) = (LeaveBy::Term, 0, Vec::new());
        Leaving { leaver: None, leave_by, leave_after: 5, apart: 10, bystanders, ops }
    }

    fn usage(cpu_ms: u64) -> Usage {
        Usage { cpu: Duration::from_millis(cpu_ms), resident: 0 }
    }
}
