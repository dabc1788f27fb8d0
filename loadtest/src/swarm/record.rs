//! What is printed.

use std::time::Duration;

use serde::Serialize;

use super::poll::Totals;
use crate::process::Usage;

/// One line of output: what happened in a phase, and what it took of the server.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Record {
    pub(super) phase: String,
    pub(super) connections: usize,
    pub(super) seconds: f64,
    /// Publications or commands that were sent.
    pub(super) published: u64,
    /// Publications that arrived, over all connections.
    pub(super) delivered: u64,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// Processor time of the server, in µs.
    pub(super) cpu_us: f64,
    pub(super) resident_before: u64,
    pub(super) resident_after: u64,
}

/// What was there at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) totals: Totals,
    pub(super) usage: Usage,
}

impl Record {
    pub(super) fn opening(connections: usize, took: Duration, before: Usage, after: Usage) -> Self {
        let nothing = Totals::default();
        let (before, after) =
            (Sample { totals: nothing, usage: before }, Sample { totals: nothing, usage: after });
        Self::between("open".to_owned(), connections, took, (before, after))
    }

    pub(super) fn between(
        phase: String,
        connections: usize,
        took: Duration,
        (before, after): (Sample, Sample),
    ) -> Self {
        Self {
            phase,
            connections,
            seconds: took.as_secs_f64(),
            published: 0,
            delivered: after.totals.marks - before.totals.marks,
            messages: after.totals.messages - before.totals.messages,
            bytes: after.totals.bytes - before.totals.bytes,
            cpu_us: after.usage.cpu.saturating_sub(before.usage.cpu).as_secs_f64() * 1e6,
            resident_before: before.usage.resident,
            resident_after: after.usage.resident,
        }
    }
}
