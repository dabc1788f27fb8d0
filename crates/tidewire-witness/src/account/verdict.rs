use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use serde::Serialize;
use tidewire_model::Position;

use super::{Account, Saying};

/// What a run came to. All counts but the first two, `gaps` and `overtaken` break a promise.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Verdict {
    pub acknowledged: u64,
    /// Publications passed on to listeners.
    pub delivered: u64,
    /// Publications that the log kept, and that a listener was neither sent nor told of.
    pub lost: u64,
    /// Publications passed on to the same listener again.
    pub duplicated: u64,
    /// Publications passed on where another one had to follow.
    pub reordered: u64,
    /// Positions at which two were seen to stand, and publications acknowledged at two positions.
    pub disagreements: u64,
    /// Acknowledged, and not in the log at the end.
    pub forgotten: u64,
    /// In the log under two offsets.
    pub stored_twice: u64,
    /// Subscriptions said to be recovered that had missed something.
    pub falsely_recovered: u64,
    /// Rewinds of listeners that were not beyond the place they were set back to.
    pub needlessly_rewound: u64,
    /// Publications of somebody else.
    pub strangers: u64,
    /// In the log after a later one of the same publisher, because they were refused once.
    pub overtaken: u64,
    /// What listeners were told of publications that do not come, or come again: how often for each
    /// reason.
    pub gaps: BTreeMap<&'static str, u64>,
    /// The first of what is wrong, in words.
    pub examples: Vec<String>,
}

/// Examples that are kept.
const MOST_EXAMPLES: usize = 8;

impl Verdict {
    /// Whether every promise was kept; what listeners were told of breaks none.
    pub fn holds(&self) -> bool {
        self.is_loss_only() && self.forgotten == 0
    }

    /// Whether every promise was kept but the one that what was acknowledged is kept.
    pub fn is_loss_only(&self) -> bool {
        let wrong = [
            self.lost,
            self.duplicated,
            self.reordered,
            self.disagreements,
            self.stored_twice,
            self.falsely_recovered,
            self.needlessly_rewound,
            self.strangers,
        ];
        wrong == [0; 8]
    }

    pub fn gaps(&self, reason: &str) -> u64 {
        self.gaps.get(reason).copied().unwrap_or(0)
    }

    pub(super) fn tell(&mut self, reason: &'static str) {
        *self.gaps.entry(reason).or_default() += 1;
    }

    pub(super) fn lose(&mut self, count: u64, what: impl FnOnce() -> String) {
        self.lost += count;
        if count > 0 {
            self.note(&what());
        }
    }

    pub(super) fn duplicate(&mut self, what: &str) {
        self.duplicated += 1;
        self.note(what);
    }

    pub(super) fn disorder(&mut self, what: &str) {
        self.reordered += 1;
        self.note(what);
    }

    pub(super) fn disagree(&mut self, what: &str) {
        self.disagreements += 1;
        self.note(what);
    }

    pub(super) fn overhear(&mut self, what: &str) {
        self.strangers += 1;
        self.note(what);
    }

    pub(super) fn doubt_recovery(&mut self, what: &str) {
        self.falsely_recovered += 1;
        self.note(what);
    }

    pub(super) fn doubt_rewind(&mut self, what: &str) {
        self.needlessly_rewound += 1;
        self.note(what);
    }

    fn note(&mut self, what: &str) {
        if self.examples.len() < MOST_EXAMPLES {
            self.examples.push(what.to_owned());
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, delivered, lost, duplicated, reordered, disagreements, .. } = self;
        let Self { forgotten, stored_twice, falsely_recovered, needlessly_rewound, .. } = self;
        write!(
            f,
            "{acknowledged} acknowledged, {delivered} delivered: {lost} lost, {duplicated} \
             duplicated, {reordered} reordered, {disagreements} disagreements, {forgotten} \
             forgotten, {stored_twice} stored twice, {falsely_recovered} falsely recovered, \
             {needlessly_rewound} needlessly rewound, {} strangers",
            self.strangers
        )?;
        for (reason, count) in &self.gaps {
            write!(f, ", {count}× {reason}")?;
        }
        if self.overtaken > 0 {
            write!(f, ", {} overtaken", self.overtaken)?;
        }
        for example in &self.examples {
            write!(f, "\n  {example}")?;
        }
        Ok(())
    }
}

/// One publication stands in a log once, and behind the earlier ones of its publisher.
pub(super) fn judge_log(kept: &[(Position, Saying)], verdict: &mut Verdict) {
    let mut seen = HashMap::new();
    let mut latest: HashMap<u16, u64> = HashMap::new();
    for (position, saying) in kept {
        if let Some(before) = seen.insert(*saying, *position) {
            verdict.stored_twice += 1;
            verdict.note(&format!("{saying:?} is kept at {before} and at {position}"));
            continue;
        }
        let latest = latest.entry(saying.publisher).or_insert(saying.sequence);
        verdict.overtaken += u64::from(saying.sequence < *latest);
        *latest = saying.sequence.max(*latest);
    }
}

/// Whatever was acknowledged in a channel whose log is known is in that log.
pub(super) fn judge_acknowledgements(account: &Account, verdict: &mut Verdict) {
    let kept: HashSet<Saying> =
        account.kept.values().flatten().map(|(_, saying)| *saying).collect();
    let mut forgotten: Vec<(Saying, Position)> = account
        .acknowledgements()
        .filter(|(saying, ..)| account.kept.contains_key(&saying.channel))
        .filter(|(saying, ..)| !kept.contains(saying))
        .map(|(saying, position, _)| (saying, position))
        .collect();
    forgotten.sort_unstable_by_key(|(saying, _)| *saying);
    verdict.forgotten += forgotten.len() as u64;
    for (saying, position) in forgotten {
        verdict.note(&format!("{saying:?}, acknowledged at {position}, is not kept"));
    }
}
