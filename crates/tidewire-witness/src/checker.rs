//! One subscription, held to what was promised: every offset once, in order, with its content.

use std::ops::Range;

use serde::Serialize;
use tidewire_model::{Epoch, Gap, GapReason, Position, Recovery, Subscribed};

use crate::ledger::Ledger;
use crate::stamp::{Stamp, digest};

/// Follows one client's subscription to one channel.
#[derive(Debug)]
pub struct Checker {
    channel: u32,
    life: Option<Life>,
    /// Epochs the subscription has been told of.
    epochs: Vec<Epoch>,
    /// The server has said that it leaves publications out.
    is_sampled: bool,
    findings: Findings,
}

/// What is wrong, and what there is.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Findings {
    /// Publications that came the first time.
    pub received: u64,
    /// Publications that should have come, were not announced as missing, and did not come.
    pub lost: u64,
    /// Publications that came again.
    pub duplicated: u64,
    /// Publications that came after a later one.
    pub reordered: u64,
    /// Subscriptions whose publications, offset by offset, are not those the publishers were
    /// acknowledged.
    pub altered: u64,
    /// Gaps that were announced.
    pub gaps: u64,
    /// Publications inside those gaps, where that is known.
    pub missed: u64,
    /// Publications that the channel left out because the client read too slowly.
    pub skipped: u64,
}

impl Findings {
    pub fn add(&mut self, more: &Self) {
        let Self { received, lost, duplicated, reordered, altered, gaps, missed, skipped } = more;
        self.received += received;
        self.lost += lost;
        self.duplicated += duplicated;
        self.reordered += reordered;
        self.altered += altered;
        self.gaps += gaps;
        self.missed += missed;
        self.skipped += skipped;
    }

    /// Whether every promise was kept; an announced gap breaks none.
    pub fn hold(&self) -> bool {
        (self.lost, self.duplicated, self.reordered, self.altered) == (0, 0, 0, 0)
    }
}

/// The current epoch of the channel.
#[derive(Debug)]
struct Life {
    epoch: Epoch,
    /// The first offset to expect.
    first: u64,
    /// The next offset to expect.
    next: u64,
    /// Offsets that were skipped without a word, in order; they may still come late.
    missing: Vec<Range<u64>>,
    /// Offsets that were announced as missing.
    excused: Vec<Range<u64>>,
    /// Of the digests of what came.
    sum: u64,
    /// Whether `sum` tells anything: not once a payload was not seen or was rewound.
    is_comparable: bool,
    /// Whether publications may come again under other offsets.
    is_rewound: bool,
}

/// Holes a subscription remembers; those beyond count as lost at once, whatever comes later.
const MOST_HOLES: usize = 1_024;

impl Checker {
    pub fn new(channel: u32) -> Self {
        Self {
            channel,
            life: None,
            epochs: Vec::new(),
            is_sampled: false,
            findings: Findings::default(),
        }
    }

    pub fn is_subscribed(&self) -> bool {
        self.life.is_some()
    }

    /// The server confirmed the subscription, for the first time or after a loss.
    pub fn subscribe(&mut self, subscribed: &Subscribed) {
        let position = subscribed.position;
        self.is_sampled = subscribed.sampled;
        match (&self.life, subscribed.recovery) {
            (None, _) => self.begin(position),
            (Some(life), Recovery::NotAsked | Recovery::Recovered) => {
                // In the same epoch the offsets that follow will tell whether that is true.
                if life.epoch != position.epoch {
                    self.findings.altered += 1;
                    self.begin(position);
                }
            }
            (Some(_), Recovery::Rewound) => self.rewind(position),
            (Some(_), Recovery::Failed(_)) => {
                self.findings.gaps += 1;
                self.skip(position);
            }
        }
    }

    /// The server announced that publications will not come.
    pub fn announce(&mut self, gap: &Gap) {
        self.findings.gaps += 1;
        match gap.reason {
            GapReason::Rewind => self.rewind(gap.position),
            GapReason::Window | GapReason::Reset | GapReason::Limit => self.skip(gap.position),
            GapReason::Skipped => self.leave_out(gap.position),
        }
    }

    /// What comes before `position` is left out, as the channel says.
    fn leave_out(&mut self, position: Position) {
        let missed = self.findings.missed;
        self.skip(position);
        self.findings.skipped += self.findings.missed - missed;
        self.findings.missed = missed;
    }

    /// A publication came; `None` for one without a stamp of this run.
    pub fn receive(&mut self, position: Position, stamp: Option<&Stamp>) {
        let Some(life) = self.life.as_mut().filter(|life| life.epoch == position.epoch) else {
            self.findings.altered += 1;
            return;
        };
        if position.offset < life.next {
            return self.receive_late(position.offset);
        }
        if self.is_sampled && position.offset > life.next {
            self.leave_out(Position::new(position.epoch, position.offset - 1));
        }
        self.findings.received += 1;
        let Some(life) = &mut self.life else { return };
        self.findings.lost += life.advance(position.offset);
        if let Some(stamp) = stamp {
            let digest = digest(position.offset, stamp.publisher, stamp.sequence);
            life.sum = life.sum.wrapping_add(digest);
        }
    }

    /// A publication came that the client keeps from the application.
    pub fn repeat(&mut self, position: Position) {
        let Some(life) = self.life.as_mut().filter(|life| life.epoch == position.epoch) else {
            self.findings.altered += 1;
            return;
        };
        if position.offset < life.next {
            return self.receive_late(position.offset);
        }
        // A known id under a new offset: stored twice, unless the log said that it went back.
        self.findings.duplicated += u64::from(!life.is_rewound);
        self.findings.lost += life.advance(position.offset);
        life.is_comparable = false;
    }

    /// Whether everything acknowledged has come or been passed over.
    pub fn is_complete(&self, ledger: &Ledger) -> bool {
        let top = |life: &Life| ledger.top(self.channel, life.epoch);
        self.life.as_ref().is_none_or(|life| top(life).is_none_or(|top| life.next > top))
    }

    /// What there is to say, now that nothing more will come.
    pub fn finish(mut self, ledger: &Ledger) -> Findings {
        let Some(life) = self.life.take() else { return self.findings };
        let tail = ledger
            .top(self.channel, life.epoch)
            .map_or(0, |top| (top + 1).saturating_sub(life.next));
        let elsewhere = ledger.beyond(self.channel, &self.epochs);
        self.findings.lost += tail + elsewhere + life.missing();
        if life.is_comparable && ledger.is_certain(self.channel) {
            let sum = |offsets: &Range<u64>| ledger.sum(self.channel, life.epoch, offsets);
            let absent = life.missing.iter().chain(&life.excused).map(sum);
            let expected =
                sum(&(life.first..life.next)).wrapping_sub(absent.fold(0, u64::wrapping_add));
            self.findings.altered += u64::from(life.sum != expected);
        }
        self.findings
    }

    fn begin(&mut self, position: Position) {
        if let Some(life) = self.life.take() {
            self.findings.lost += life.missing();
        }
        self.epochs.push(position.epoch);
        self.life = Some(Life::new(position));
    }

    /// What follows comes after `position`, and it was said so.
    fn skip(&mut self, position: Position) {
        let Some(life) = self.life.as_mut().filter(|life| life.epoch == position.epoch) else {
            return self.begin(position);
        };
        if position.offset < life.next {
            return self.rewind(position);
        }
        let skipped = life.next..position.offset + 1;
        self.findings.missed += skipped.end - skipped.start;
        life.next = skipped.end;
        life.excused.push(skipped);
    }

    /// What follows comes after `position`, before what has come already.
    fn rewind(&mut self, position: Position) {
        self.begin(position);
        let life = self.life.as_mut().expect("it has just begun");
        life.is_comparable = false;
        life.is_rewound = true;
    }

    fn receive_late(&mut self, offset: u64) {
        let life = self.life.as_mut().expect("what is late comes after something");
        life.is_comparable = false;
        if life.take_missing(offset) {
            self.findings.received += 1;
            self.findings.reordered += 1;
        } else {
            self.findings.duplicated += 1;
        }
    }
}

impl Life {
    fn new(position: Position) -> Self {
        let next = position.offset + 1;
        Self {
            epoch: position.epoch,
            first: next,
            next,
            missing: Vec::new(),
            excused: Vec::new(),
            sum: 0,
            is_comparable: true,
            is_rewound: false,
        }
    }

    /// Takes an offset that is not before the next. Says how many of those it passed over there was
    /// no room to remember.
    fn advance(&mut self, offset: u64) -> u64 {
        let passed = self.next..offset;
        self.next = offset + 1;
        if passed.is_empty() {
            return 0;
        }
        if self.missing.len() == MOST_HOLES {
            self.is_comparable = false;
            return passed.end - passed.start;
        }
        self.missing.push(passed);
        0
    }

    /// Takes one offset out of the holes; says whether it was in one.
    fn take_missing(&mut self, offset: u64) -> bool {
        let Some(at) = self.missing.iter().position(|hole| hole.contains(&offset)) else {
            return false;
        };
        let hole = self.missing.remove(at);
        let parts = [hole.start..offset, offset + 1..hole.end];
        self.missing.splice(at..at, parts.into_iter().filter(|part| !part.is_empty()));
        true
    }

    fn missing(&self) -> u64 {
        self.missing.iter().map(|hole| hole.end - hole.start).sum()
    }
}

#[cfg(test)]
mod tests;
