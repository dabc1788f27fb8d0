use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use tidewire_broker::{Appended, Draft, Read, Status};
use tidewire_model::{Position, Publication, TenantChannel};

use crate::invariant::{Invariant, Objection};

/// What the log has taken, kept and lost, noted where the log is called.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    channels: BTreeMap<TenantChannel, Vec<Entry>>,
    /// What `channels` holds, by name.
    kept: HashSet<(TenantChannel, Bytes)>,
    /// Everything ever stored, lost or not.
    named: HashMap<(TenantChannel, Position), Bytes>,
    /// What publishers were told first, or again after the log had lost it.
    answers: HashMap<(TenantChannel, Bytes), Position>,
    /// Where reads were told that publications before are no longer kept.
    trims: HashSet<(TenantChannel, u64)>,
    pub(crate) restarts: u64,
    pub(crate) lost: usize,
    pub(crate) duplicates: usize,
    /// What was stored again after it had been acknowledged and lost.
    pub(crate) healed: usize,
    violations: Vec<Objection>,
}

/// One publication as it is told from all others: by its payload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    pub(crate) position: Position,
    pub(crate) name: Bytes,
}

impl Truth {
    pub(crate) fn appended(
        &mut self,
        channel: &TenantChannel,
        drafts: &[Draft],
        verdicts: &[Appended],
    ) {
        for (draft, verdict) in drafts.iter().zip(verdicts) {
            let Appended { position, duplicate, .. } = *verdict;
            let name = draft.payload.bytes().clone();
            if duplicate {
                self.duplicates += 1;
                if !self.keeps(channel, position) {
                    self.object(
                        Invariant::Once,
                        format!("{channel}: {name:?} called a duplicate of {position}"),
                    );
                }
                continue;
            }
            let entries = self.channels.entry(channel.clone()).or_default();
            let is_next = position.offset == entries.len() as u64 + 1;
            let is_new = self.kept.insert((channel.clone(), name.clone()));
            entries.push(Entry { position, name: name.clone() });
            let known = self.named.insert((channel.clone(), position), name.clone());
            self.healed += usize::from(self.answers.contains_key(&(channel.clone(), name.clone())));
            if !is_next || !is_new || known.is_some() {
                let invariant = if is_new { Invariant::Agreement } else { Invariant::Once };
                self.object(
                    invariant,
                    format!("{channel}: {name:?} stored at {position}, before {known:?}"),
                );
            }
        }
    }

    pub(crate) fn read(&mut self, channel: &TenantChannel, read: &Read) {
        if read.status == Status::Trimmed {
            self.trims.insert((channel.clone(), read.base));
        }
    }

    pub(crate) fn restarted(&mut self, lost: usize) {
        self.restarts += 1;
        for (channel, entries) in &mut self.channels {
            let kept = entries.len().saturating_sub(lost);
            self.lost += entries.len() - kept;
            for entry in entries.drain(kept..) {
                self.kept.remove(&(channel.clone(), entry.name));
            }
        }
    }

    /// A publisher was told that its publication is at `position`.
    pub(crate) fn answered(&mut self, channel: &TenantChannel, name: &Bytes, position: Position) {
        if self.named.get(&(channel.clone(), position)) != Some(name) {
            self.object(
                Invariant::Keeping,
                format!("{channel}: {name:?} acknowledged at {position}, not stored there"),
            );
        }
        let first = self.answers.insert((channel.clone(), name.clone()), position);
        if let Some(first) = first.filter(|first| *first != position)
            && self.keeps(channel, first)
        {
            self.object(
                Invariant::Once,
                format!("{channel}: {name:?} acknowledged at {first}, then at {position}"),
            );
        }
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

    pub(crate) fn stored(&self) -> usize {
        self.named.len()
    }

    /// What is wrong with the log and with what publishers were told. `kept` is what the log itself
    /// says that it keeps of each channel, oldest first.
    pub(crate) fn verdict(
        &self,
        kept: &BTreeMap<TenantChannel, Vec<Publication>>,
    ) -> Vec<Objection> {
        let mut objections = self.violations.clone();
        for (channel, publications) in kept {
            let entries = self.entries(channel);
            let tail = &entries[entries.len().saturating_sub(publications.len())..];
            let is_same = |(publication, entry): (&Publication, &Entry)| {
                publication.position == entry.position && *publication.payload.bytes() == entry.name
            };
            if tail.len() != publications.len() || !publications.iter().zip(tail).all(is_same) {
                objections.push(Objection::new(
                    Invariant::Agreement,
                    format!("{channel}: the log keeps what was never stored"),
                ));
            }
        }
        let is_missing = |answer: &&(TenantChannel, Bytes)| !self.kept.contains(answer);
        let mut missing: Vec<_> = self.answers.keys().filter(is_missing).collect();
        missing.sort_unstable();
        objections.extend(missing.into_iter().map(|(channel, name)| {
            let text = format!("{channel}: {name:?} was acknowledged and is not in the log");
            Objection::new(Invariant::Keeping, text)
        }));
        if self.lost == 0 {
            objections.extend(self.channels.iter().filter_map(|(channel, entries)| {
                disorder(entries).map(|entry| {
                    Objection::new(
                        Invariant::PublisherOrder,
                        format!("{channel}: out of order from {entry:?}"),
                    )
                })
            }));
        }
        objections
    }

    fn object(&mut self, invariant: Invariant, text: String) {
        self.violations.push(Objection::new(invariant, text));
    }
}

/// The first publication that stands after a later one of its publisher. Names are
/// `<publisher>-<number>`.
fn disorder(entries: &[Entry]) -> Option<&Entry> {
    let mut newest: HashMap<&str, u64> = HashMap::new();
    entries.iter().find(|entry| {
        let name = std::str::from_utf8(&entry.name).expect("text");
        let (publisher, number) = name.split_once('-').expect("publisher-number");
        let number = number.parse().expect("a number");
        newest.insert(publisher, number).is_some_and(|earlier| earlier > number)
    })
}
