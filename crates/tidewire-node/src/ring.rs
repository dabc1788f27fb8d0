use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidewire_model::{Envelope, Position, Publication};

/// The newest publications of a channel, without a hole, bounded in number and bytes: the oldest
/// make room. It serves those who come back quickly without reading the log, and lets everybody
/// share one encoding.
#[derive(Debug)]
pub(crate) struct Ring {
    publications: VecDeque<Arc<Envelope>>,
    bytes: usize,
    limits: RingLimits,
}

/// How many of its newest publications a node remembers per channel; whichever is reached first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RingLimits {
    pub publications: usize,
    pub bytes: usize,
}

impl Default for RingLimits {
    fn default() -> Self {
        Self { publications: 256, bytes: 256 * 1_024 }
    }
}

/// What channels remember, which is less while memory is short.
#[derive(Debug, Default)]
pub(crate) struct RingBounds {
    limits: RingLimits,
    is_tight: AtomicBool,
}

/// A quarter of what is usual: those who were gone for a moment still need no read.
const TIGHT: RingLimits = RingLimits { publications: 64, bytes: 64 * 1_024 };

impl RingBounds {
    pub(crate) fn new(limits: RingLimits) -> Self {
        Self { limits, is_tight: AtomicBool::new(false) }
    }

    pub(crate) fn tighten(&self, is_tight: bool) {
        self.is_tight.store(is_tight, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> RingLimits {
        let RingLimits { publications, bytes } = self.limits;
        if !self.is_tight.load(Ordering::Relaxed) {
            return self.limits;
        }
        RingLimits {
            publications: publications.min(TIGHT.publications),
            bytes: bytes.min(TIGHT.bytes),
        }
    }
}

impl Ring {
    pub(crate) fn new(limits: RingLimits) -> Self {
        Self { publications: VecDeque::new(), bytes: 0, limits }
    }

    /// Adds the publication after the newest.
    pub(crate) fn push(&mut self, envelope: Arc<Envelope>) {
        self.bytes += envelope.weight();
        self.publications.push_back(envelope);
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.publications.len() > self.limits.publications || self.bytes > self.limits.bytes {
            let Some(oldest) = self.publications.pop_front() else { return };
            self.bytes -= oldest.weight();
        }
    }

    /// Goes by other limits: the oldest make room at once.
    pub(crate) fn bound(&mut self, limits: RingLimits) {
        self.limits = limits;
        self.make_room();
        self.publications.shrink_to_fit();
    }

    pub(crate) fn newest(&self) -> Option<&Arc<Envelope>> {
        self.publications.back()
    }

    /// Everything after `position` up to `head`, or `None` if not all of it is here, or was written
    /// in another epoch than `position`.
    pub(crate) fn after(&self, position: Position, head: Position) -> Option<Vec<Arc<Envelope>>> {
        let count = usize::try_from(head.offset.checked_sub(position.offset)?).ok()?;
        let start = self.publications.len().checked_sub(count)?;
        let newer: Vec<_> = self.publications.range(start..).cloned().collect();
        newer.iter().all(|envelope| envelope.position.epoch == position.epoch).then_some(newer)
    }

    /// The newest `count`, or `None` if the log may have more of them than are here.
    pub(crate) fn last(&self, count: u32) -> Option<Vec<Arc<Envelope>>> {
        let count = usize::try_from(count).ok()?;
        let has_all = self.publications.front().is_some_and(|oldest| oldest.position.offset == 1);
        if self.publications.len() < count && !has_all {
            return None;
        }
        let start = self.publications.len().saturating_sub(count);
        Some(self.publications.range(start..).cloned().collect())
    }

    /// The newest `count`, or as many as are here.
    pub(crate) fn newest_few(&self, count: u32) -> Vec<Arc<Envelope>> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let start = self.publications.len().saturating_sub(count);
        self.publications.range(start..).cloned().collect()
    }

    /// The envelope of a publication that is here already, or a new one.
    pub(crate) fn shared(&self, publication: Publication) -> Arc<Envelope> {
        self.find(publication.position)
            .cloned()
            .unwrap_or_else(|| Arc::new(Envelope::new(publication)))
    }

    fn find(&self, position: Position) -> Option<&Arc<Envelope>> {
        let oldest = self.publications.front()?.position.offset;
        let index = usize::try_from(position.offset.checked_sub(oldest)?).ok()?;
        self.publications.get(index).filter(|envelope| envelope.position == position)
    }

    /// Drops everything after `offset`.
    pub(crate) fn truncate(&mut self, offset: u64) {
        while let Some(newest) = self.publications.back() {
            if newest.position.offset <= offset {
                return;
            }
            self.bytes -= newest.weight();
            self.publications.pop_back();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.publications.clear();
        self.bytes = 0;
    }
}
