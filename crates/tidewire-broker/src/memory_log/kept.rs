use std::collections::VecDeque;
use std::time::Duration;

use tidewire_model::{
    Direction, Epoch, HistoryPage, HistoryQuery, Incarnation, Position, Publication, Since,
    TenantChannel,
};
use tokio::time::Instant;

use super::saved::{SavedChannel, SavedId, ago};
use crate::{Lineage, MAX_PAGE_BYTES, Read, Standing, Status};

/// What the log keeps of one channel: its numbering, and its newest publications without a hole.
pub(super) struct Kept {
    lineage: Lineage,
    top: u64,
    publications: VecDeque<Publication>,
    /// When the newest publication was stored.
    appended: Instant,
    /// When anybody last asked for the channel.
    touched: Instant,
}

impl Kept {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            lineage: Lineage::default(),
            top: 0,
            publications: VecDeque::new(),
            appended: now,
            touched: now,
        }
    }

    /// What another log kept, `away` later. Publications that have run out go when it is asked for.
    pub(super) fn restored(saved: SavedChannel, away: Duration, now: Instant) -> Self {
        Self {
            lineage: saved.lineage,
            top: saved.top,
            publications: saved.publications.into(),
            appended: ago(now, saved.appended.saturating_add(away)),
            touched: ago(now, saved.touched.saturating_add(away)),
        }
    }

    pub(super) fn saved(
        &self,
        channel: TenantChannel,
        ids: Vec<SavedId>,
        now: Instant,
    ) -> SavedChannel {
        SavedChannel {
            channel,
            lineage: self.lineage.clone(),
            top: self.top,
            appended: now - self.appended,
            touched: now - self.touched,
            publications: self.publications.iter().cloned().collect(),
            ids,
        }
    }

    /// Notes that the channel is in use.
    pub(super) fn touch(&mut self, now: Instant) {
        self.touched = now;
    }

    /// Drops publications that have run out.
    pub(super) fn expire(&mut self, now: Instant, ttl: Duration) {
        if now >= self.appended + ttl {
            self.publications = VecDeque::new();
        }
    }

    /// Bytes of the publications, each 128 more than its payload.
    pub(super) fn bytes(&self) -> u64 {
        self.publications.iter().map(|one| one.payload.len() as u64 + 128).sum()
    }

    pub(super) fn touched(&self) -> Instant {
        self.touched
    }

    pub(super) fn top(&self) -> u64 {
        self.top
    }

    pub(super) fn top_position(&self) -> Position {
        Position::new(self.lineage.current(), self.top)
    }

    pub(super) fn next_position(&self) -> Position {
        Position::new(self.lineage.current(), self.top + 1)
    }

    /// Begins an epoch if the channel has none of this incarnation yet.
    pub(super) fn live_in(&mut self, incarnation: Incarnation, random: impl Fn() -> u32) {
        let newest = self.lineage.entries().last();
        if newest.is_none_or(|(epoch, _)| epoch.incarnation() != incarnation) {
            self.lineage.begin(incarnation.epoch(random()), self.top);
        }
    }

    /// Stores the publication at [`Kept::next_position`].
    pub(super) fn push(&mut self, publication: Publication, size: usize) {
        self.top = publication.position.offset;
        self.appended = self.touched;
        self.publications.push_back(publication);
        while self.publications.len() > size {
            self.publications.pop_front();
        }
    }

    /// Loses the newest publications, kept or not.
    pub(super) fn lose(&mut self, count: u64) {
        self.top = self.top.saturating_sub(count);
        let begun = |(_, first): &&(Epoch, u64)| *first <= self.top + 1;
        self.lineage = Lineage::new(self.lineage.entries().iter().filter(begun).copied().collect());
        while self.publications.back().is_some_and(|newest| newest.position.offset > self.top) {
            self.publications.pop_back();
        }
    }

    pub(super) fn find(&self, offset: u64) -> Option<&Publication> {
        self.after(offset.checked_sub(1)?).next().filter(|first| first.position.offset == offset)
    }

    pub(super) fn read(&self, since: Since, limit: usize, incarnation: Incarnation) -> Read {
        let (status, base) = self.start(since);
        Read {
            status,
            base,
            publications: one_page(self.after(base), limit),
            epoch: self.lineage.current(),
            top: self.top,
            lineage: self.lineage.clone(),
            incarnation,
        }
    }

    fn start(&self, since: Since) -> (Status, u64) {
        let before_oldest = self.oldest() - 1;
        let (status, base) = match since {
            Since::Now => return (Status::Fresh, self.top),
            Since::Last(count) => {
                let base = self.top.saturating_sub(count.into());
                return (Status::Fresh, base.max(before_oldest));
            }
            Since::Position(position) => match self.lineage.locate(position, self.top) {
                Standing::Known => (Status::Continues, position.offset),
                Standing::Beyond { end } => (Status::Rewound, end),
                Standing::Unknown => return (Status::Reset, self.top),
            },
        };
        if base < before_oldest { (Status::Trimmed, before_oldest) } else { (status, base) }
    }

    pub(super) fn page(&self, query: HistoryQuery) -> HistoryPage {
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let (publications, end) = match (self.page_start(query), query.direction) {
            (None, _) => (Vec::new(), 0),
            (Some(from), Direction::Forward) => (one_page(self.after(from), limit), self.top),
            (Some(from), Direction::Backward) => {
                (one_page(self.before(from), limit), self.oldest())
            }
        };
        let last = publications.last().map(|last| last.position);
        let next = last.filter(|last| last.offset != end);
        HistoryPage { publications, top: self.top_position(), next }
    }

    /// The offset a page starts next to; `None` when it cannot hold anything.
    fn page_start(&self, query: HistoryQuery) -> Option<u64> {
        let Some(from) = query.from else {
            return Some(match query.direction {
                Direction::Forward => self.oldest() - 1,
                Direction::Backward => self.top + 1,
            });
        };
        if self.lineage.locate(from, self.top) != Standing::Known {
            return None;
        }
        let misses_some = query.direction == Direction::Forward && from.offset + 1 < self.oldest();
        (!misses_some).then_some(from.offset)
    }

    /// The offset of the oldest kept publication, or of the next one when none is kept.
    fn oldest(&self) -> u64 {
        self.publications.front().map_or(self.top + 1, |oldest| oldest.position.offset)
    }

    /// The kept publications after `offset`, oldest first.
    fn after(&self, offset: u64) -> impl Iterator<Item = &Publication> {
        self.publications.range(self.count_up_to(offset)..)
    }

    /// The kept publications before `offset`, newest first.
    fn before(&self, offset: u64) -> impl Iterator<Item = &Publication> {
        self.publications.range(..self.count_up_to(offset.saturating_sub(1))).rev()
    }

    fn count_up_to(&self, offset: u64) -> usize {
        let count = (offset + 1).saturating_sub(self.oldest());
        usize::try_from(count).unwrap_or(usize::MAX).min(self.publications.len())
    }
}

/// As many as may go into one answer; the first always does.
fn one_page<'a>(
    publications: impl Iterator<Item = &'a Publication>,
    limit: usize,
) -> Vec<Publication> {
    let mut bytes = 0;
    let fits = |(index, publication): &(usize, &Publication)| {
        bytes += publication.payload.len();
        *index == 0 || bytes <= MAX_PAGE_BYTES
    };
    let page = publications.take(limit).enumerate().take_while(fits);
    page.map(|(_, publication)| publication.clone()).collect()
}
