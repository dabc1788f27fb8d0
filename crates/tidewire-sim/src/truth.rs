use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use tidewire_broker::{Appended, Draft, Read, Status};
use tidewire_model::{Position, TenantChannel};
use tokio::time::Instant;

use crate::invariant::{Invariant, Objection};
use crate::ownership::Ownership;
use crate::publisher::has_id;
use crate::redis::History;

/// What the log has taken, kept and lost, noted where the log is called.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    channels: BTreeMap<TenantChannel, Vec<Entry>>,
    /// What `channels` holds, by name.
    kept: HashSet<(TenantChannel, Bytes)>,
    /// Everything ever stored, lost or not.
    named: HashMap<(TenantChannel, Position), Bytes>,
    /// Everything that was ever stored.
    stored: HashSet<(TenantChannel, Bytes)>,
    /// What was stored more than once, since it was lost in between or a deposed primary had it.
    moved: HashSet<(TenantChannel, Bytes)>,
    /// Without an id, and stored by a call that nobody waited for any more: it may have been repeated
    /// before.
    abandoned: HashSet<(TenantChannel, Bytes)>,
    /// What publishers were told last.
    answers: BTreeMap<(TenantChannel, Bytes), Answer>,
    /// When the log was emptied last.
    emptied_at: Option<Instant>,
    /// Nodes that were killed, and when.
    kills: Vec<(usize, Instant)>,
    /// Stored by a deposed primary.
    pub(crate) strays: usize,
    /// What was stored again after it had been acknowledged and lost.
    pub(crate) healed: usize,
    /// Where reads were told that publications before are no longer kept.
    trims: HashSet<(TenantChannel, u64)>,
    pub(crate) restarts: u64,
    pub(crate) lost: usize,
    pub(crate) duplicates: usize,
    /// Whose sessions are.
    pub(crate) ownership: Ownership,
    violations: Vec<Objection>,
}

/// One publication as it is told from all others: by its payload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    pub(crate) position: Position,
    pub(crate) name: Bytes,
}

/// What a publisher was told, by which node and when.
#[derive(Debug)]
struct Answer {
    position: Position,
    node: usize,
    at: Instant,
}

/// How long a node keeps what it has acknowledged, to append it again.
const TAIL_KEPT: Duration = Duration::from_secs(30);

impl Truth {
    /// What is about to be stored comes of a call that was given up.
    pub(crate) fn abandoned(&mut self, channel: &TenantChannel, name: &Bytes) {
        if !has_id(name) {
            self.abandoned.insert((channel.clone(), name.clone()));
        }
    }

    /// Whether it may be stored twice: it has no id.
    pub(crate) fn may_repeat(&self, channel: &TenantChannel, name: &Bytes) -> bool {
        self.abandoned.contains(&(channel.clone(), name.clone()))
    }

    /// A server has stored something: the primary, or one that some still take for it.
    pub(crate) fn stored(&mut self, channel: &TenantChannel, entry: Entry, by_primary: bool) {
        let Entry { position, name } = entry;
        let known = self.named.insert((channel.clone(), position), name.clone());
        if let Some(known) = known {
            let text = format!("{channel}: {name:?} stored at {position}, as was {known:?}");
            self.object(Invariant::Agreement, text);
        }
        let may_repeat = self.may_repeat(channel, &name);
        let key = (channel.clone(), name.clone());
        if !self.stored.insert(key.clone()) {
            self.moved.insert(key.clone());
        }
        if !by_primary {
            self.strays += 1;
            return;
        }
        let entries = self.channels.entry(channel.clone()).or_default();
        let is_next = position.offset == entries.len() as u64 + 1;
        self.healed += usize::from(self.answers.contains_key(&key));
        let is_new = self.kept.insert(key) || may_repeat;
        entries.push(Entry { position, name: name.clone() });
        if !is_new {
            self.object(Invariant::Once, format!("{channel}: {name:?} stored again at {position}"));
        } else if !is_next {
            let text = format!("{channel}: {name:?} stored at {position}, which is not the next");
            self.object(Invariant::Order, text);
        }
    }

    /// A node was told what became of its drafts.
    pub(crate) fn told(
        &mut self,
        channel: &TenantChannel,
        drafts: &[Draft],
        verdicts: &[Appended],
    ) {
        for (draft, verdict) in drafts.iter().zip(verdicts) {
            let (position, name) = (verdict.position, draft.payload.bytes());
            self.duplicates += usize::from(verdict.duplicate);
            if self.named.get(&(channel.clone(), position)) != Some(name) {
                let text = format!("{channel}: {name:?} is said to be at {position}");
                self.object(Invariant::Once, text);
            }
        }
    }

    pub(crate) fn read(&mut self, channel: &TenantChannel, read: &Read) {
        if read.status == Status::Trimmed {
            self.trims.insert((channel.clone(), read.base));
        }
    }

    /// Another server has become the primary, and this is everything it has ever stored.
    pub(crate) fn replaced(&mut self, history: History) {
        self.restarts += 1;
        let kept = |(channel, entries): (&TenantChannel, &Vec<Entry>)| {
            let names: Vec<_> =
                entries.iter().map(|entry| (channel.clone(), entry.name.clone())).collect();
            names
        };
        let before = self.kept.len();
        self.kept = history.iter().flat_map(kept).collect();
        self.lost += before.saturating_sub(self.kept.len());
        self.channels = history;
    }

    /// The log has lost everything.
    pub(crate) fn emptied(&mut self) {
        self.emptied_at = Some(Instant::now());
    }

    pub(crate) fn killed(&mut self, node: usize) {
        self.kills.push((node, Instant::now()));
    }

    /// A publisher was told by a node that its publication is at `position`.
    pub(crate) fn answered(
        &mut self,
        channel: &TenantChannel,
        name: &Bytes,
        (node, position): (usize, Position),
    ) {
        if self.named.get(&(channel.clone(), position)) != Some(name) {
            let text = format!("{channel}: {name:?} acknowledged at {position}, not stored there");
            self.object(Invariant::Keeping, text);
        }
        let at = Instant::now();
        let key = (channel.clone(), name.clone());
        let first = self.answers.get(&key).map(|answer| answer.position);
        let is_kept = |position: &Position| self.keeps(channel, *position);
        if first.is_some_and(|first| is_kept(&first)) && !is_kept(&position) {
            // A deposed primary knows nothing of the first.
            return;
        }
        if let Some(first) = first.filter(|first| *first != position && is_kept(first)) {
            let text = format!("{channel}: {name:?} acknowledged at {first}, then at {position}");
            self.object(Invariant::Once, text);
        }
        self.answers.insert(key, Answer { position, node, at });
    }

    /// What was acknowledged, is gone, and should not be. It may be if its log was emptied, or if
    /// the node that acknowledged it was killed before it could append it again.
    fn missing(&self) -> impl Iterator<Item = Objection> {
        let is_gone = |(key, _): &(&(TenantChannel, Bytes), &Answer)| !self.kept.contains(*key);
        let gone = self.answers.iter().filter(is_gone);
        gone.filter(|(_, answer)| !self.is_excused(answer)).map(|((channel, name), answer)| {
            let Answer { position, node, .. } = answer;
            let text =
                format!("{channel}: {name:?}, acknowledged by node {node} at {position}, is gone");
            Objection::new(Invariant::Keeping, text)
        })
    }

    fn is_excused(&self, answer: &Answer) -> bool {
        let is_emptied = self.emptied_at.is_some_and(|at| at >= answer.at);
        let is_kill = |(node, at): &(usize, Instant)| {
            *node == answer.node && *at >= answer.at && *at <= answer.at + TAIL_KEPT
        };
        is_emptied || self.kills.iter().any(is_kill)
    }

    /// Acknowledged publications that two faults together have lost.
    pub(crate) fn excused(&self) -> usize {
        let is_gone = |(key, _): &(&(TenantChannel, Bytes), &Answer)| !self.kept.contains(*key);
        self.answers.iter().filter(is_gone).count()
    }

    /// Whether the log would still say that this is what `position` names.
    pub(crate) fn keeps(&self, channel: &TenantChannel, position: Position) -> bool {
        let entries = self.entries(channel);
        let index = usize::try_from(position.offset).expect("small").checked_sub(1);
        index.and_then(|index| entries.get(index)).is_some_and(|entry| entry.position == position)
    }

    /// All publications of a channel that were not lost, dropped by retention or not.
    pub(crate) fn entries(&self, channel: &TenantChannel) -> &[Entry] {
        self.channels.get(channel).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn name_of(&self, channel: &TenantChannel, position: Position) -> Option<&Bytes> {
        self.named.get(&(channel.clone(), position))
    }

    pub(crate) fn is_trimmed_at(&self, channel: &TenantChannel, offset: u64) -> bool {
        self.trims.contains(&(channel.clone(), offset))
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.answers.len()
    }

    pub(crate) fn stored_in_all(&self) -> usize {
        self.named.len()
    }

    /// What is wrong with the log and with what publishers were told. `kept` is what the log itself
    /// keeps of each channel, oldest first.
    pub(crate) fn verdict(
        &self,
        kept: &BTreeMap<TenantChannel, Vec<(u64, Bytes)>>,
    ) -> Vec<Objection> {
        let mut objections = self.violations.clone();
        objections.extend_from_slice(self.ownership.objections());
        for (channel, publications) in kept {
            let entries = self.entries(channel);
            let tail = &entries[entries.len().saturating_sub(publications.len())..];
            let is_same = |((offset, name), entry): (&(u64, Bytes), &Entry)| {
                *offset == entry.position.offset && *name == entry.name
            };
            if tail.len() != publications.len() || !publications.iter().zip(tail).all(is_same) {
                let text = format!("{channel}: the log keeps what was never stored");
                objections.push(Objection::new(Invariant::Agreement, text));
            }
        }
        objections.extend(self.channels.iter().filter_map(|(channel, entries)| {
            let has_moved =
                |entry: &Entry| self.moved.contains(&(channel.clone(), entry.name.clone()));
            let entry = disorder(entries.iter().filter(|entry| !has_moved(entry)))?;
            let text = format!("{channel}: out of order from {entry:?}");
            Some(Objection::new(Invariant::PublisherOrder, text))
        }));
        objections.extend(self.missing());
        objections
    }

    fn object(&mut self, invariant: Invariant, text: String) {
        self.violations.push(Objection::new(invariant, text));
    }
}

/// The first publication that stands after a later one of its publisher. Names are
/// `<publisher>-<number>`.
fn disorder<'a>(mut entries: impl Iterator<Item = &'a Entry>) -> Option<&'a Entry> {
    let mut newest: HashMap<&str, u64> = HashMap::new();
    entries.find(|entry| {
        let name = std::str::from_utf8(&entry.name).expect("text");
        let (publisher, number) = name.split_once('-').expect("publisher-number");
        let number = number.parse().expect("a number");
        newest.insert(publisher, number).is_some_and(|earlier| earlier > number)
    })
}
