//! What this node has acknowledged of late, in case the log loses it.
//!
//! A value: told what was acknowledged, and later what the log says of a channel, it answers with
//! what a failover has lost and is to be appended again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tidewire_broker::{Draft, Lineage, Read, Standing};
use tidewire_model::{Epoch, Incarnation, Position, PublicationId, TenantChannel};
use tokio::time::Instant;

use crate::by_channel::ByChannel;

/// How much a node remembers of what it has acknowledged, to append it again if the log loses it.
#[derive(Clone, Copy, Debug)]
pub struct TailLimits {
    /// Longer than what takes over the log may be behind.
    pub age: Duration,
    /// When there is more, the oldest is forgotten early. What is being appended again is not
    /// counted: at most as much once more.
    pub bytes: usize,
}

impl Default for TailLimits {
    /// 30 s or 64 MiB.
    fn default() -> Self {
        Self { age: Duration::from_secs(30), bytes: 64 << 20 }
    }
}

#[derive(Debug)]
pub(crate) struct Tail {
    limits: TailLimits,
    channels: ByChannel<ChannelTail>,
    /// Of everything in `channels`, and of some that has been taken out since: oldest first.
    order: VecDeque<(Instant, TenantChannel)>,
    bytes: usize,
    /// The newest that was forgotten before its time.
    forgotten: Option<Instant>,
}

#[derive(Debug)]
struct ChannelTail {
    /// In the order they were acknowledged. Never empty.
    kept: VecDeque<Acknowledged>,
    /// The epoch in which all of it is known to be kept, or some of it: the one that was the newest
    /// when this was begun, or at the last look.
    confirmed: Epoch,
    /// The lives of the channel at the last look, which may have been named since by fewer.
    lives: Lineage,
}

/// A publication whose publisher was told that it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Acknowledged {
    pub(crate) at: Instant,
    /// As its publisher was told.
    pub(crate) position: Position,
    pub(crate) draft: Draft,
}

/// What came of comparing a channel's tail with the log.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    /// What the log does not have any more, in the order of its offsets.
    pub(crate) lost: Vec<Acknowledged>,
    /// How many there are of which it cannot be told: more lives of the log have passed than it can
    /// name.
    pub(crate) unknown: usize,
}

impl Tail {
    pub(crate) fn new(limits: TailLimits) -> Self {
        let (channels, order) = (ByChannel::default(), VecDeque::new());
        Self { limits, channels, order, bytes: 0, forgotten: None }
    }

    pub(crate) fn push(&mut self, channel: &TenantChannel, acknowledged: Acknowledged) {
        self.bytes += acknowledged.weight();
        self.order.push_back((acknowledged.at, channel.clone()));
        if let Some(tail) = self.channels.get_mut(channel) {
            tail.kept.push_back(acknowledged);
        } else {
            let confirmed = acknowledged.position.epoch;
            let (kept, lives) = (VecDeque::from([acknowledged]), Lineage::default());
            self.channels.insert(channel.clone(), ChannelTail { kept, confirmed, lives });
        }
        while self.bytes > self.limits.bytes && !self.order.is_empty() {
            self.forgotten = self.forget_oldest().or(self.forgotten);
        }
    }

    /// Forgets what is old enough.
    pub(crate) fn expire(&mut self, now: Instant) {
        let is_over = |at: Instant| at + self.limits.age <= now;
        self.forgotten = self.forgotten.filter(|at| !is_over(*at));
        while self.order.front().is_some_and(|(at, _)| *at + self.limits.age <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) -> Option<Instant> {
        let (at, channel) = self.order.pop_front()?;
        let tail = self.channels.get_mut(&channel)?;
        // What has been taken out since is another's business.
        let oldest = tail.kept.pop_front_if(|oldest| oldest.at == at)?;
        self.bytes -= oldest.weight();
        if tail.kept.is_empty() {
            self.channels.remove(&channel);
        }
        Some(at)
    }

    /// The epoch in which something of this node's in `channel` is known to be kept: while there is
    /// any, nothing is to be appended in another one before that has been looked after.
    pub(crate) fn confirmed(&self, channel: &TenantChannel) -> Option<Epoch> {
        self.channels.get(channel).map(|tail| tail.confirmed)
    }

    /// Takes out what the log says is lost, and notes what is not.
    pub(crate) fn judge(&mut self, channel: &TenantChannel, read: &Read) -> Verdict {
        let mut verdict = Verdict::default();
        let Some(mut tail) = self.channels.remove(channel) else { return verdict };
        for one in std::mem::take(&mut tail.kept) {
            match find(one.position, &tail.lives, read) {
                Found::Kept => tail.kept.push_back(one),
                Found::Lost => {
                    self.bytes -= one.weight();
                    verdict.lost.push(one);
                }
                Found::Unknown => {
                    self.bytes -= one.weight();
                    verdict.unknown += 1;
                }
            }
        }
        verdict.lost.sort_by_key(|one| one.position.offset);
        if !tail.kept.is_empty() {
            tail.confirmed = read.epoch;
            tail.lives.clone_from(&read.lineage);
            self.channels.insert(channel.clone(), tail);
        }
        verdict
    }

    /// For each part of the log that something is kept in, one of its channels.
    pub(crate) fn parts(
        &self,
        part_of: impl Fn(&TenantChannel) -> u16,
    ) -> BTreeMap<u16, TenantChannel> {
        let mut parts: BTreeMap<u16, &TenantChannel> = BTreeMap::new();
        for channel in self.channels.keys() {
            let first = parts.entry(part_of(channel)).or_insert(channel);
            *first = channel.min(*first);
        }
        parts.into_iter().map(|(part, channel)| (part, channel.clone())).collect()
    }

    /// The channels, among those that `is_meant`, of which something is known to be kept only in an
    /// older life of the log.
    pub(crate) fn older_than(
        &self,
        incarnation: Incarnation,
        is_meant: impl Fn(&TenantChannel) -> bool,
    ) -> Vec<TenantChannel> {
        let is_older = |tail: &ChannelTail| tail.confirmed.incarnation() < incarnation;
        let older = self.channels.iter().filter(|(_, tail)| is_older(tail));
        let meant = older.map(|(channel, _)| channel).filter(|channel| is_meant(channel));
        let mut channels: Vec<_> = meant.cloned().collect();
        channels.sort_unstable();
        channels
    }

    /// What is remembered, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How far back everything acknowledged is remembered.
    pub(crate) fn reaches_back(&self, now: Instant) -> Duration {
        let shortened = self.forgotten.map(|at| now.saturating_duration_since(at));
        shortened.map_or(self.limits.age, |since| since.min(self.limits.age))
    }
}

impl Acknowledged {
    pub(crate) fn new(at: Instant, position: Position, draft: Draft) -> Self {
        Self { at, position, draft }
    }

    /// What is to be appended in its place. It bears an id in any case, so that it can be tried until
    /// it is answered: without one of the publisher's, the position that it was acknowledged at.
    pub(crate) fn again(&self) -> Draft {
        let own_id =
            || PublicationId::parse(&self.position.to_string()).expect("short and printable");
        let id = self.draft.id.clone().unwrap_or_else(own_id);
        Draft { id: Some(id), ..self.draft.clone() }
    }

    fn weight(&self) -> usize {
        self.draft.weight()
    }
}

enum Found {
    Kept,
    Lost,
    Unknown,
}

/// Looks for a position under all the names it has: its own epoch, which a lineage forgets one day, and
/// those that have followed since, of which a primary that was behind knows nothing.
fn find(position: Position, lives: &Lineage, read: &Read) -> Found {
    let own = position.epoch.incarnation();
    let later = lives.entries().iter().map(|(epoch, _)| *epoch);
    let later = later.filter(|epoch| epoch.incarnation() > own);
    let mut newest = own;
    for epoch in std::iter::once(position.epoch).chain(later) {
        let name = Position::new(epoch, position.offset);
        if read.lineage.locate(name, read.top) == Standing::Known {
            return Found::Kept;
        }
        newest = epoch.incarnation();
    }
    // A lineage that is not full has forgotten nothing, and one that is has forgotten only what is
    // older than its oldest entry: any other epoch began and ended on a primary that is gone.
    match read.lineage.entries() {
        eras @ [(oldest, _), ..] if eras.len() >= Lineage::MAX && newest < oldest.incarnation() => {
            Found::Unknown
        }
        _ => Found::Lost,
    }
}

#[cfg(test)]
mod tests;
