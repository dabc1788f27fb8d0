use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use tidewire_broker::{Appended, Draft, Read, Status};
use tidewire_model::{Position, Publication, TenantChannel};

/// What the log has taken, kept and lost, noted where the log is called.
#[derive(Debug, Default)]
pub(super) struct Truth {
    channels: HashMap<TenantChannel, Vec<Entry>>,
    /// What `channels` holds, by name.
    kept: HashSet<(TenantChannel, Bytes)>,
    /// Everything ever stored, lost or not.
    named: HashMap<(TenantChannel, Position), Bytes>,
    /// What publishers were told first, until the log has lost it.
    answers: HashMap<(TenantChannel, Bytes), Position>,
    /// Where reads were told that publications before are no longer kept.
    trims: HashSet<(TenantChannel, u64)>,
    pub(super) restarts: u64,
    pub(super) lost: usize,
    pub(super) duplicates: usize,
    violations: Vec<String>,
}

/// One publication as it is told from all others: by its payload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    pub(super) position: Position,
    pub(super) name: Bytes,
}

impl Truth {
    pub(super) fn appended(
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
                    self.object(format!("{channel}: {name:?} called a duplicate of {position}"));
                }
                continue;
            }
            let entries = self.channels.entry(channel.clone()).or_default();
            let is_next = position.offset == entries.len() as u64 + 1;
            let is_new = self.kept.insert((channel.clone(), name.clone()));
            entries.push(Entry { position, name: name.clone() });
            let known = self.named.insert((channel.clone(), position), name.clone());
            if !is_next || !is_new || known.is_some() {
                self.object(format!("{channel}: {name:?} stored at {position}, before {known:?}"));
            }
        }
    }

    pub(super) fn read(&mut self, channel: &TenantChannel, read: &Read) {
        if read.status == Status::Trimmed {
            self.trims.insert((channel.clone(), read.base));
        }
    }

    pub(super) fn restarted(&mut self, lost: usize) {
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
    pub(super) fn answered(&mut self, channel: &TenantChannel, name: &Bytes, position: Position) {
        if self.named.get(&(channel.clone(), position)) != Some(name) {
            self.object(format!(
                "{channel}: {name:?} acknowledged at {position}, not stored there"
            ));
        }
        let first = self.answers.insert((channel.clone(), name.clone()), position);
        if let Some(first) = first.filter(|first| *first != position)
            && self.keeps(channel, first)
        {
            self.object(format!("{channel}: {name:?} acknowledged at {first}, then at {position}"));
        }
    }

    /// Whether the log would still say that this is what `position` names.
    pub(super) fn keeps(&self, channel: &TenantChannel, position: Position) -> bool {
        let entries = self.entries(channel);
        let index = usize::try_from(position.offset).expect("small").checked_sub(1);
        index.and_then(|index| entries.get(index)).is_some_and(|entry| entry.position == position)
    }

    /// All publications of a channel that were not lost, dropped by retention or not.
    pub(super) fn entries(&self, channel: &TenantChannel) -> &[Entry] {
        self.channels.get(channel).map_or(&[], Vec::as_slice)
    }

    pub(super) fn name_of(&self, channel: &TenantChannel, position: Position) -> Option<&Bytes> {
        self.named.get(&(channel.clone(), position))
    }

    pub(super) fn is_trimmed_at(&self, channel: &TenantChannel, offset: u64) -> bool {
        self.trims.contains(&(channel.clone(), offset))
    }

    pub(super) fn stored(&self) -> usize {
        self.named.len()
    }

    /// What is wrong with the log and with what publishers were told. `kept` is what the log itself
    /// says that it keeps of each channel, oldest first.
    pub(super) fn verdict(&self, kept: &HashMap<TenantChannel, Vec<Publication>>) -> Vec<String> {
        let mut objections = self.violations.clone();
        for (channel, publications) in kept {
            let entries = self.entries(channel);
            let tail = &entries[entries.len().saturating_sub(publications.len())..];
            let is_same = |(publication, entry): (&Publication, &Entry)| {
                publication.position == entry.position && *publication.payload.bytes() == entry.name
            };
            if tail.len() != publications.len() || !publications.iter().zip(tail).all(is_same) {
                objections.push(format!("{channel}: the log keeps what was never stored"));
            }
        }
        if self.lost == 0 {
            objections.extend(self.channels.iter().filter_map(|(channel, entries)| {
                disorder(entries).map(|entry| format!("{channel}: out of order from {entry:?}"))
            }));
        }
        objections
    }

    fn object(&mut self, violation: String) {
        self.violations.push(violation);
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
