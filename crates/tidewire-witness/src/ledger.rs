//! What the log acknowledged to the publishers: the truth that deliveries are held against.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use tidewire_model::{Epoch, Position};

use crate::stamp::digest;

/// What one publisher was told.
#[derive(Debug, Default)]
pub struct Acknowledged {
    publisher: u16,
    entries: HashMap<(u32, Epoch), Vec<Entry>>,
    /// Channels with publications of which it is not known whether they were stored.
    uncertain: HashSet<u32>,
}

impl Acknowledged {
    pub fn new(publisher: u16) -> Self {
        Self { publisher, ..Self::default() }
    }

    /// Notes that this publisher's publication `sequence` to `channel` is kept at `position`.
    pub fn push(&mut self, channel: u32, position: Position, sequence: u64) {
        let entry = Entry { offset: position.offset, publisher: self.publisher, sequence };
        self.entries.entry((channel, position.epoch)).or_default().push(entry);
    }

    /// Notes that there is a publication to `channel` of which nothing is known.
    pub fn doubt(&mut self, channel: u32) {
        self.uncertain.insert(channel);
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
struct Entry {
    offset: u64,
    publisher: u16,
    sequence: u64,
}

/// What all publishers were told, by channel and epoch.
#[derive(Debug, Default)]
pub struct Ledger {
    lives: HashMap<(u32, Epoch), Life>,
    uncertain: HashSet<u32>,
    /// Positions that were given to two publications.
    pub collisions: u64,
    /// Publications stored after a later one of the same publisher: refused once, then repeated.
    pub overtaken: u64,
}

/// One epoch of one channel.
#[derive(Debug)]
struct Life {
    /// The first offset that was acknowledged.
    first: u64,
    /// For every offset from the first: the sum of the digests up to it, inclusive.
    sums: Vec<u64>,
    entries: u64,
}

impl Ledger {
    pub fn new(publishers: impl IntoIterator<Item = Acknowledged>) -> Self {
        let mut ledger = Self::default();
        let mut entries: HashMap<(u32, Epoch), Vec<Entry>> = HashMap::new();
        for publisher in publishers {
            ledger.uncertain.extend(publisher.uncertain);
            for (life, mut more) in publisher.entries {
                ledger.overtaken += overtaken(&mut more);
                entries.entry(life).or_default().append(&mut more);
            }
        }
        for (life, mut entries) in entries {
            entries.sort_unstable();
            let told = entries.len();
            entries.dedup_by_key(|entry| entry.offset);
            ledger.collisions += (told - entries.len()) as u64;
            ledger.lives.extend(Life::new(&entries).map(|entries| (life, entries)));
        }
        ledger
    }

    /// The last acknowledged offset; `None` if there is none.
    pub fn top(&self, channel: u32, epoch: Epoch) -> Option<u64> {
        self.lives.get(&(channel, epoch)).map(Life::top)
    }

    /// Publications of a channel in epochs other than `known`.
    pub fn beyond(&self, channel: u32, known: &[Epoch]) -> u64 {
        let unknown =
            |(life, _): &(&(u32, Epoch), &Life)| life.0 == channel && !known.contains(&life.1);
        self.lives.iter().filter(unknown).map(|(_, life)| life.entries).sum()
    }

    /// The sum of the digests of what was acknowledged at `offsets`.
    pub fn sum(&self, channel: u32, epoch: Epoch, offsets: &Range<u64>) -> u64 {
        let Some(life) = self.lives.get(&(channel, epoch)) else { return 0 };
        life.sum_before(offsets.end).wrapping_sub(life.sum_before(offsets.start))
    }

    /// Whether every publication to this channel was acknowledged or refused.
    pub fn is_certain(&self, channel: u32) -> bool {
        !self.uncertain.contains(&channel)
    }
}

impl Life {
    /// Entries in the order of their offsets, no two at one.
    fn new(entries: &[Entry]) -> Option<Self> {
        let first = entries.first()?.offset;
        let mut sums: Vec<u64> = Vec::with_capacity(entries.len());
        for entry in entries {
            let before = sums.last().copied().unwrap_or(0);
            let at = usize::try_from(entry.offset - first).expect("offsets of one run fit memory");
            // An offset nobody was told of adds nothing: whoever receives it will differ.
            sums.resize(at, before);
            let digest = digest(entry.offset, entry.publisher, entry.sequence);
            sums.push(before.wrapping_add(digest));
        }
        Some(Self { first, sums, entries: entries.len() as u64 })
    }

    fn top(&self) -> u64 {
        self.first + self.sums.len() as u64 - 1
    }

    fn sum_before(&self, offset: u64) -> u64 {
        let count = offset.saturating_sub(self.first).min(self.sums.len() as u64);
        let last = usize::try_from(count).ok().and_then(|count| count.checked_sub(1));
        last.map_or(0, |last| self.sums[last])
    }
}

/// How many of one publisher's publications stand after one that it made later.
fn overtaken(entries: &mut [Entry]) -> u64 {
    entries.sort_unstable();
    let mut latest = 0;
    let mut overtaken = 0;
    for entry in entries {
        overtaken += u64::from(entry.sequence < latest);
        latest = latest.max(entry.sequence);
    }
    overtaken
}

#[cfg(test)]
mod tests {
    use tidewire_model::Incarnation;

    use super::*;

    #[test]
    fn a_sum_is_that_of_its_offsets_whoever_published_them() {
        let ledger = Ledger::new([told(0, &[(5, 0), (7, 1)]), told(1, &[(6, 0)])]);

        assert_eq!(ledger.top(CHANNEL, epoch(1)), Some(7));
        assert_eq!(sum(&ledger, 5..6), digest(5, 0, 0));
        assert_eq!(sum(&ledger, 6..8), digest(6, 1, 0).wrapping_add(digest(7, 0, 1)));
        assert_eq!(sum(&ledger, 0..100), sum(&ledger, 5..8));
        assert_eq!(sum(&ledger, 8..100), 0);
    }

    #[test]
    fn an_offset_nobody_was_told_of_adds_nothing() {
        let ledger = Ledger::new([told(0, &[(1, 0), (4, 1)])]);

        assert_eq!(sum(&ledger, 2..4), 0);
        assert_eq!(sum(&ledger, 1..5), digest(1, 0, 0).wrapping_add(digest(4, 0, 1)));
    }

    #[test]
    fn two_publications_at_one_position_collide() {
        let ledger = Ledger::new([told(0, &[(1, 0), (2, 1)]), told(1, &[(2, 0)])]);

        assert_eq!(ledger.collisions, 1);
    }

    #[test]
    fn what_was_stored_after_a_later_one_of_its_publisher_was_overtaken() {
        let ledger = Ledger::new([told(0, &[(1, 0), (2, 2), (3, 1)]), told(1, &[(4, 0)])]);

        assert_eq!(ledger.overtaken, 1);
    }

    #[test]
    fn epochs_are_kept_apart() {
        let mut publisher = told(0, &[(1, 0)]);
        publisher.push(CHANNEL, Position::new(epoch(2), 1), 1);
        let ledger = Ledger::new([publisher]);

        assert_eq!(ledger.beyond(CHANNEL, &[epoch(1)]), 1);
        assert_eq!(ledger.beyond(CHANNEL, &[epoch(1), epoch(2)]), 0);
        assert_eq!(ledger.beyond(CHANNEL + 1, &[]), 0);
    }

    const CHANNEL: u32 = 3;

    fn epoch(nonce: u32) -> Epoch {
        Incarnation::ZERO.epoch(nonce)
    }

    fn told(publisher: u16, offsets: &[(u64, u64)]) -> Acknowledged {
        let mut acknowledged = Acknowledged::new(publisher);
        for (offset, sequence) in offsets {
            acknowledged.push(CHANNEL, Position::new(epoch(1), *offset), *sequence);
        }
        acknowledged
    }

    fn sum(ledger: &Ledger, offsets: Range<u64>) -> u64 {
        ledger.sum(CHANNEL, epoch(1), &offsets)
    }
}
