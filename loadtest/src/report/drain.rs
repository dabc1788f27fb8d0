use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::{Shown, float};
use crate::cli::LeaveBy;
use crate::departure::Departure;
use crate::latency::{Percentiles, histogram};
use crate::moves::Sums;
use crate::tally::Tally;

/// What came of it that a node left.
#[derive(Debug, Serialize)]
pub(crate) struct DrainReport {
    left_by: LeaveBy,
    /// Subscribers that moved over two connections.
    moved: u64,
    /// Subscribers that were without a connection, and came back.
    returned: u64,
    /// Subscribers of the node that had not come back to all their channels at the end.
    stranded: u64,
    /// Subscribers nothing happened to.
    stayed: u64,
    /// From the signal to the end of the process; `None` if it did not end.
    exit_after_s: Option<f64>,
    /// From the signal until the last subscriber was current again; `None` if none had to.
    current_after_s: Option<f64>,
    /// Tokens that the nodes that stay verified for it.
    auth_calls: u64,
    /// Latency of deliveries before it, from due.
    before: Percentiles,
    /// What deliveries to subscribers that were moving took beyond the median before it.
    added: Percentiles,
    /// The most of that, of each of them.
    added_at_worst: Percentiles,
    /// Without a connection and all channels, of those that were.
    gap: Percentiles,
    /// Latency of deliveries to subscribers of a node that stays, before it and in the 15 s after.
    bystanders_before: Percentiles,
    bystanders_after: Percentiles,
    /// Processor cores of the processes that stay, by seconds since the signal.
    survivors_cores_mean: f64,
    survivors_cores_max: f64,
}

impl DrainReport {
    pub(crate) fn new(departure: &Departure, tally: &Tally, auth_calls: u64) -> Self {
        let seconds = |time: Duration| time.as_secs_f64();
        let mut report = Self {
            left_by: departure.by(),
            moved: 0,
            returned: 0,
            stranded: 0,
            stayed: 0,
            exit_after_s: departure.took().map(seconds),
            current_after_s: None,
            auth_calls,
            before: Percentiles::from(&histogram()),
            added: Percentiles::from(&histogram()),
            added_at_worst: Percentiles::from(&histogram()),
            gap: Percentiles::from(&histogram()),
            bystanders_before: Percentiles::from(&histogram()),
            bystanders_after: Percentiles::from(&histogram()),
            survivors_cores_mean: 0.0,
            survivors_cores_max: 0.0,
        };
        report.set_cores(departure.cores());
        if let Some((begun, sums)) = tally.moves.sums() {
            report.current_after_s = sums.current.map(|current| seconds(current - begun));
            report.set_sums(&sums);
        }
        report
    }

    /// Whether everybody came back, without being asked who it is.
    pub(super) fn holds(&self) -> bool {
        self.exit_after_s.is_some() && self.stranded == 0 && self.auth_calls == 0
    }

    fn set_cores(&mut self, cores: &[f64]) {
        if !cores.is_empty() {
            self.survivors_cores_mean = cores.iter().sum::<f64>() / float(cores.len() as u64);
            self.survivors_cores_max = cores.iter().copied().fold(0.0, f64::max);
        }
    }

    fn set_sums(&mut self, sums: &Sums) {
        self.moved = sums.moved;
        self.returned = sums.returned;
        self.stranded = sums.stranded;
        self.stayed = sums.stayed;
        self.before = Percentiles::from(&sums.before);
        self.added = Percentiles::from(&sums.moving).beyond(self.before.p50_us);
        self.added_at_worst = Percentiles::from(&sums.worst).beyond(self.before.p50_us);
        self.gap = Percentiles::from(&sums.gaps);
        let [before, after] = &sums.bystanders;
        self.bystanders_before = Percentiles::from(before);
        self.bystanders_after = Percentiles::from(after);
    }
}

impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { moved, returned, stranded, stayed, auth_calls, .. } = self;
        let [exit, current] = [self.exit_after_s, self.current_after_s]
            .map(|seconds| seconds.map_or("never".to_owned(), |time| format!("{time:.1} s")));
        let how = match self.left_by {
            LeaveBy::Term => "drained",
            LeaveBy::Kill => "killed",
        };
        writeln!(
            f,
            "{how:<13}{moved} moved, {returned} returned, {stranded} stranded, {stayed} stayed"
        )?;
        writeln!(
            f,
            "             ended after {exit}, all current after {current}, {auth_calls} tokens verified"
        )?;
        writeln!(f, "  before     {}", Shown(self.before))?;
        writeln!(f, "  added      {}", Shown(self.added))?;
        writeln!(f, "  at worst   {}", Shown(self.added_at_worst))?;
        writeln!(f, "  gap        {}", Shown(self.gap))?;
        if self.bystanders_before.count > 0 {
            writeln!(f, "  bystanders {}", Shown(self.bystanders_before))?;
            writeln!(f, "       after {}", Shown(self.bystanders_after))?;
        }
        let (mean, max) = (self.survivors_cores_mean, self.survivors_cores_max);
        writeln!(f, "  survivors  {mean:.2} cores, {max:.2} in their worst second")
    }
}
