//! All that was said and heard in a run, judged by publication, over failovers.

use std::collections::{BTreeMap, HashMap};

use tidewire_model::{Epoch, Gap, Position, Subscribed};

use crate::account::hearing::Hearing;
use crate::stamp::Stamp;

mod hearing;
mod verdict;

pub use verdict::Verdict;

/// One publication: what its stamp says, in the channel it was made for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Saying {
    pub channel: u32,
    pub publisher: u16,
    pub sequence: u64,
}

impl Saying {
    pub fn new(channel: u32, stamp: &Stamp) -> Self {
        Self { channel, publisher: stamp.publisher, sequence: stamp.sequence }
    }
}

/// What publishers were acknowledged, what listeners heard and were told, and what is kept at the
/// end. Memory grows with every delivery: tens of bytes each.
///
/// Times are nanoseconds since the run began. A listener is named by a number, and what happens to it
/// in one channel is noted in the order in which it happened.
#[derive(Debug, Default)]
pub struct Account {
    sayings: HashMap<Saying, Known>,
    hearings: BTreeMap<(u32, u32), Hearing>,
    /// What a position was first seen to hold, of a channel, by whoever told.
    agreed: HashMap<(u32, Epoch, u64), Saying>,
    /// What the log held at the end, of each channel, in order.
    kept: BTreeMap<u32, Vec<(Position, Saying)>>,
    findings: Verdict,
}

/// What is known of a publication.
#[derive(Debug)]
struct Known {
    /// When anybody was first seen to know that it is stored.
    at: u64,
    acknowledged: Option<Position>,
}

impl Account {
    /// A publisher was acknowledged that its publication is kept at `position`.
    pub fn acknowledge(&mut self, saying: Saying, position: Position, at: u64) {
        self.findings.acknowledged += 1;
        self.agree(saying, position, "acknowledged");
        let known = self.know(saying, at);
        if let Some(before) = known.acknowledged.replace(position)
            && before != position
        {
            self.findings.disagree(&format!("{saying:?} acknowledged at {before} and {position}"));
        }
    }

    /// A listener's subscription was confirmed, for the first time or after a loss.
    pub fn subscribe(&mut self, listener: u32, channel: u32, subscribed: &Subscribed) {
        self.hearings
            .entry((listener, channel))
            .or_insert_with(|| Hearing::new(listener, channel))
            .subscribe(subscribed, &mut self.findings);
    }

    /// A listener was told that publications will not come.
    pub fn announce(&mut self, listener: u32, channel: u32, gap: &Gap) {
        let findings = &mut self.findings;
        if let Some(hearing) = self.hearings.get_mut(&(listener, channel)) {
            hearing.announce(gap.reason, gap.position, findings);
        }
    }

    /// A listener heard a publication at `position`; `None` for what nobody of its tenant published
    /// in this run.
    pub fn hear(&mut self, to: (u32, u32), position: Position, stamp: Option<&Stamp>, at: u64) {
        let (listener, channel) = to;
        let Some(stamp) = stamp else {
            let what = format!("listener {listener} of {channel} heard a stranger at {position}");
            return self.findings.overhear(&what);
        };
        let saying = Saying::new(channel, stamp);
        self.agree(saying, position, "heard");
        self.know(saying, at);
        self.findings.delivered += 1;
        match self.hearings.get_mut(&to) {
            Some(hearing) => hearing.hear(position, saying, at, &mut self.findings),
            None => self.findings.disorder(&format!("{listener} heard {saying:?} unsubscribed")),
        }
    }

    /// A listener received a publication that its client keeps from the application.
    pub fn repeat(&mut self, to: (u32, u32), position: Position) {
        if let Some(hearing) = self.hearings.get_mut(&to) {
            hearing.repeat(position, &mut self.findings);
        }
    }

    /// What the log of a channel holds now that all is over, oldest first.
    pub fn keep(&mut self, channel: u32, kept: Vec<(Position, Saying)>) {
        for (position, saying) in &kept {
            self.agree(*saying, *position, "kept");
        }
        self.kept.insert(channel, kept);
    }

    pub fn acknowledged(&self) -> u64 {
        self.findings.acknowledged
    }

    pub fn delivered(&self) -> u64 {
        self.findings.delivered
    }

    /// Listeners, with a channel each.
    pub fn subscriptions(&self) -> usize {
        self.hearings.len()
    }

    /// The listeners of a publication's channel that have not heard it.
    pub fn deaf_to(&self, saying: Saying) -> impl Iterator<Item = u32> {
        self.hearings
            .iter()
            .filter(move |((_, channel), hearing)| {
                *channel == saying.channel && hearing.heard_at(saying).is_none()
            })
            .map(|((listener, _), _)| *listener)
    }

    /// The positions a channel's publications were acknowledged at, with when that was known.
    pub fn acknowledgements(&self) -> impl Iterator<Item = (Saying, Position, u64)> {
        self.sayings.iter().filter_map(|(saying, known)| {
            known.acknowledged.map(|position| (*saying, position, known.at))
        })
    }

    /// For every delivery of a publication that was first known to be stored in `times`: how long
    /// this listener had to wait after that; sorted.
    pub fn waits(&self, times: std::ops::Range<u64>) -> Vec<u64> {
        let mut waits: Vec<u64> = self
            .hearings
            .values()
            .flat_map(Hearing::heard)
            .filter_map(|(saying, at)| {
                let known = self.sayings.get(saying).filter(|known| times.contains(&known.at))?;
                Some(at - known.at)
            })
            .collect();
        waits.sort_unstable();
        waits
    }

    /// What there is to say. Whatever the log holds of the channels that were [kept](Self::keep) must
    /// have been heard, and all that was acknowledged in them must be in it.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = self.findings.clone();
        for (channel, kept) in &self.kept {
            verdict::judge_log(kept, &mut verdict);
            let hearings = self.hearings.values().filter(|hearing| hearing.channel == *channel);
            for hearing in hearings {
                hearing.judge(kept, &mut verdict);
            }
        }
        verdict::judge_acknowledgements(self, &mut verdict);
        verdict
    }

    fn know(&mut self, saying: Saying, at: u64) -> &mut Known {
        let known = self.sayings.entry(saying).or_insert(Known { at, acknowledged: None });
        known.at = known.at.min(at);
        known
    }

    fn agree(&mut self, saying: Saying, position: Position, how: &str) {
        let Position { epoch, offset } = position;
        let agreed = *self.agreed.entry((saying.channel, epoch, offset)).or_insert(saying);
        if agreed != saying {
            let what = format!("{position} was {agreed:?} and is now {how} as {saying:?}");
            self.findings.disagree(&what);
        }
    }
}

#[cfg(test)]
mod tests;
