use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use crate::invariant::Objection;
use crate::witness::Tally;

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What did not hold; violations first.
    pub objections: Vec<Objection>,
    /// What those saw for whom something did not hold.
    pub story: String,
    /// The same for every run of the same plan.
    pub digest: u64,
    /// Everything that happened, if that was asked for.
    pub trace: String,
    pub counts: Counts,
}

/// What runs have met.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub runs: u64,
    pub(crate) stored: usize,
    pub(crate) acknowledged: usize,
    pub(crate) lost: usize,
    /// Acknowledged, and lost by two faults together.
    pub(crate) excused: usize,
    /// Stored by a deposed primary.
    pub(crate) strays: usize,
    /// How often there was another primary.
    pub(crate) changes: u64,
    pub(crate) duplicates: usize,
    /// Stored again after it had been acknowledged and lost.
    pub(crate) healed: usize,
    /// Sessions that moved.
    pub(crate) claims: usize,
    /// Claims and writes of those whose session had moved on.
    pub(crate) fenced: usize,
    pub(crate) tally: Tally,
    /// How long after the last fault everybody was where they should be.
    pub(crate) slowest: Duration,
}

impl Counts {
    /// What these runs have not met. A checker that never saw a rewind has not checked rewinds.
    pub fn unmet(&self) -> Vec<&'static str> {
        let tally = &self.tally;
        let counts = [
            ("lost publications", self.lost as u64),
            ("duplicates", self.duplicates as u64),
            ("deposed primaries that stored", self.strays as u64),
            ("changes of the primary", self.changes),
            ("healed publications", self.healed as u64),
            ("claims", self.claims as u64),
            ("fenced claims and writes", self.fenced as u64),
            ("publications", tally.publications),
            ("recovered", tally.recovered),
            ("rewound", tally.rewound),
            ("windows", tally.windows),
            ("resets", tally.resets),
            ("lagged", tally.lagged),
            ("slow", tally.slow),
            ("late answers", tally.late),
            ("asked", tally.asked),
            ("pages", tally.pages),
            ("doubles", tally.doubles),
        ];
        counts.into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }
}

impl AddAssign<&Self> for Counts {
    fn add_assign(&mut self, other: &Self) {
        self.runs += other.runs;
        self.stored += other.stored;
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.excused += other.excused;
        self.strays += other.strays;
        self.changes += other.changes;
        self.duplicates += other.duplicates;
        self.healed += other.healed;
        self.claims += other.claims;
        self.fenced += other.fenced;
        self.tally.add(other.tally);
        self.slowest = self.slowest.max(other.slowest);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { publications, recovered, rewound, windows, resets, .. } = self.tally;
        write!(
            f,
            "{} changes of the primary; stored {}, by deposed ones {}, acknowledged {}, healed {}, lost \
             by two faults {}, duplicates {}, delivered {publications}, recovered {recovered}, rewound \
             {rewound}, windows {windows}, resets {resets}, sessions moved {}, fenced {}, settled within \
             {:.2?}",
            self.changes,
            self.stored,
            self.strays,
            self.acknowledged,
            self.healed,
            self.excused,
            self.duplicates,
            self.claims,
            self.fenced,
            self.slowest
        )
    }
}
