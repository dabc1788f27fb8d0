use std::collections::HashMap;
use std::ops::Range;

use tidewire_model::{GapReason, Position, Recovery, Subscribed};

use super::{Saying, Verdict};

/// What one listener heard of one channel.
#[derive(Debug)]
pub(super) struct Hearing {
    listener: u32,
    pub(super) channel: u32,
    /// Up to where it has come; `None` before the first confirmation.
    at: Option<Position>,
    /// Of the log as it is in the end, only what stands above this offset has to be heard.
    floor: u64,
    /// Offsets above the floor that need not be heard, because it was told that they do not come.
    excused: Vec<Range<u64>>,
    heard: HashMap<Saying, u64>,
}

impl Hearing {
    pub(super) fn new(listener: u32, channel: u32) -> Self {
        let (excused, heard) = (Vec::new(), HashMap::new());
        Self { listener, channel, at: None, floor: 0, excused, heard }
    }

    pub(super) fn heard(&self) -> impl Iterator<Item = (&Saying, u64)> {
        self.heard.iter().map(|(saying, at)| (saying, *at))
    }

    pub(super) fn heard_at(&self, saying: Saying) -> Option<u64> {
        self.heard.get(&saying).copied()
    }

    pub(super) fn subscribe(&mut self, subscribed: &Subscribed, findings: &mut Verdict) {
        let position = subscribed.position;
        let Some(at) = self.at else {
            self.at = Some(position);
            self.floor = position.offset;
            return;
        };
        match subscribed.recovery {
            // What follows will tell whether that is true; that it begins too late tells already.
            Recovery::NotAsked | Recovery::Recovered => {
                if position.offset > at.offset {
                    let what = format!("{} was at {at}, recovered at {position}", self.name());
                    findings.doubt_recovery(&what);
                }
            }
            Recovery::Rewound => self.rewind(position, findings),
            Recovery::Failed(reason) => self.announce(reason, position, findings),
        }
    }

    pub(super) fn announce(
        &mut self,
        reason: GapReason,
        position: Position,
        findings: &mut Verdict,
    ) {
        match reason {
            GapReason::Rewind => self.rewind(position, findings),
            _ => self.skip(reason, position, findings),
        }
    }

    pub(super) fn hear(
        &mut self,
        position: Position,
        saying: Saying,
        at: u64,
        findings: &mut Verdict,
    ) {
        if self.heard.contains_key(&saying) {
            findings.duplicate(&format!("{} heard {saying:?} again at {position}", self.name()));
            return;
        }
        self.heard.insert(saying, at);
        self.advance(position, findings);
    }

    /// What is kept from the application still stands where it stands.
    pub(super) fn repeat(&mut self, position: Position, findings: &mut Verdict) {
        if self.at.is_some_and(|at| position.offset > at.offset) {
            self.advance(position, findings);
        }
    }

    /// Holds what it heard against the log as it was in the end.
    pub(super) fn judge(&self, kept: &[(Position, Saying)], verdict: &mut Verdict) {
        for (position, saying) in kept {
            let is_owed = self.at.is_some()
                && position.offset > self.floor
                && !self.excused.iter().any(|excused| excused.contains(&position.offset));
            if is_owed && !self.heard.contains_key(saying) {
                let at = self.at.expect("asked above");
                verdict.lose(1, || {
                    format!("{}, which came to {at}, missed {saying:?} at {position}", self.name())
                });
            }
        }
    }

    /// The next publication stands right behind the one before, in this epoch or in one that
    /// continues it; what is missing in between is found when the log is known.
    fn advance(&mut self, position: Position, findings: &mut Verdict) {
        let at = self.at.expect("whoever hears has subscribed");
        self.at = Some(position);
        let is_older = position.epoch.incarnation() < at.epoch.incarnation();
        if position.offset <= at.offset || is_older {
            findings.disorder(&format!("{} was at {at} and heard {position}", self.name()));
            return;
        }
        if position.offset > at.offset + 1 {
            findings.disorder(&format!("{} came from {at} to {position}", self.name()));
        }
    }

    /// What follows comes after `position`, again or under other offsets.
    fn rewind(&mut self, position: Position, findings: &mut Verdict) {
        findings.tell(GapReason::Rewind.as_str());
        if let Some(at) = self.at.filter(|at| at.offset <= position.offset) {
            findings.doubt_rewind(&format!("{} was at {at}, rewound to {position}", self.name()));
        }
        self.at = Some(position);
        self.floor = self.floor.min(position.offset);
        self.excused.retain_mut(|excused| {
            excused.end = excused.end.min(position.offset + 1);
            !excused.is_empty()
        });
    }

    /// What follows comes after `position`, and what stands between does not come.
    fn skip(&mut self, reason: GapReason, position: Position, findings: &mut Verdict) {
        findings.tell(reason.as_str());
        let from = self.at.map_or(0, |at| at.offset);
        self.at = Some(position);
        if reason == GapReason::Reset {
            // Offsets of another life of the log: nothing before this one is there to be heard.
            self.floor = position.offset;
            self.excused.clear();
        } else {
            self.excused.push(from + 1..position.offset + 1);
        }
    }

    fn name(&self) -> String {
        format!("listener {} of channel {}", self.listener, self.channel)
    }
}
