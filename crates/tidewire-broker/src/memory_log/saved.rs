use std::time::Duration;

use tidewire_model::{Position, Publication, TenantChannel};
use tokio::time::Instant;

use super::kept::Kept;
use super::recent::RecentIds;
use super::{MemoryLog, Sources, State};
use crate::{DedupeKey, Lineage, LogError, Retention};

/// All that a [`MemoryLog`] keeps, as a value: for a file, from which another process goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedLog {
    /// When the log's life began, in milliseconds since the Unix epoch. What goes on from here is a
    /// newer life.
    pub started_ms: u64,
    /// In any order, each channel once.
    pub channels: Vec<SavedChannel>,
}

/// One channel of a [`SavedLog`]. Its publications are named by their place: the last of them has the
/// offset `top`, and there is no hole.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedChannel {
    pub channel: TenantChannel,
    /// At least one entry.
    pub lineage: Lineage,
    pub top: u64,
    /// How long ago the newest publication was stored.
    pub appended: Duration,
    /// How long ago anybody asked for the channel.
    pub touched: Duration,
    /// Oldest first.
    pub publications: Vec<Publication>,
    /// The ids that must not be stored again.
    pub ids: Vec<SavedId>,
}

/// An id that is remembered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SavedId {
    pub key: DedupeKey,
    pub position: Position,
    /// How long it would still have been remembered.
    pub left: Duration,
}

impl SavedLog {
    /// Drops the oldest publications of each channel, in proportion to what it has, until all that
    /// are left cost at most `most` by `cost`. Who misses them is told: positions stay.
    pub fn keep_newest(&mut self, most: u64, cost: impl Fn(&Publication) -> u64) {
        let costs = |channel: &SavedChannel| channel.publications.iter().map(&cost).sum::<u64>();
        let all: Vec<u64> = self.channels.iter().map(costs).collect();
        let total: u64 = all.iter().sum();
        if total <= most {
            return;
        }
        for (channel, own) in self.channels.iter_mut().zip(all) {
            let share = u128::from(own) * u128::from(most) / u128::from(total);
            let mut left = u64::try_from(share).expect("at most `most`");
            let fits = |publication: &&Publication| {
                let rest = left.checked_sub(cost(publication));
                left = rest.unwrap_or(0);
                rest.is_some()
            };
            let kept = channel.publications.iter().rev().take_while(fits).count();
            channel.publications.drain(..channel.publications.len() - kept);
        }
    }
}

impl SavedChannel {
    /// The offset of the oldest publication here, or the next one when there is none.
    pub fn oldest(&self) -> u64 {
        self.top.saturating_add(1).saturating_sub(self.publications.len() as u64)
    }

    fn check(&self) -> Result<(), LogError> {
        let entries = self.lineage.entries();
        let is_lineage = entries.is_sorted_by_key(|(_, first)| *first)
            && entries.first().is_some_and(|(_, first)| *first > 0)
            && entries.last().is_some_and(|(_, first)| *first - 1 <= self.top);
        let is_whole = self.oldest() > 0
            && (self.oldest()..)
                .zip(&self.publications)
                .all(|(offset, publication)| publication.position.offset == offset);
        let has_room = self.top < u64::MAX / 2;
        if is_lineage && is_whole && has_room {
            return Ok(());
        }
        Err(LogError::Corrupt {
            reason: format!("{} does not end at its top", self.channel.channel),
        })
    }
}

impl MemoryLog {
    /// All that this log keeps now.
    pub fn saved(&self) -> SavedLog {
        let now = Instant::now();
        let mut state = self.state.lock();
        let mut ids = state.recent.saved(now);
        let channels = state.channels.iter_mut().map(|(channel, kept)| {
            kept.expire(now, self.retention(channel).ttl);
            kept.saved(channel.clone(), ids.remove(channel).unwrap_or_default(), now)
        });
        SavedLog { channels: channels.collect(), started_ms: state.started_ms }
    }

    /// A log that goes on from what another one kept, `away` later: every position is good as far as
    /// it was kept, ids are known, and what has run out meanwhile is gone.
    ///
    /// It begins a new incarnation, so that who saw what is not in `saved` is told, should there be
    /// such.
    ///
    /// # Errors
    ///
    /// [`LogError::Corrupt`] if no log can have kept that.
    pub fn restored(
        retention: Retention,
        saved: SavedLog,
        away: Duration,
    ) -> Result<Self, LogError> {
        let log = Self::with_sources(retention, Sources::default());
        let mut state = State { started_ms: saved.started_ms, ..log.state.into_inner() };
        let (now, mut recent) = (Instant::now(), Vec::new());
        for mut channel in saved.channels {
            channel.check()?;
            let ids = std::mem::take(&mut channel.ids).into_iter();
            recent.extend(ids.map(|id| (channel.channel.clone(), id)));
            state.channels.insert(channel.channel.clone(), Kept::restored(channel, away, now));
        }
        state.recent = RecentIds::restored(recent, away, now);
        let log = Self { state: state.into(), ..log };
        log.restart(0);
        Ok(log)
    }
}

/// The moment so long before `now`, or `now` where the clock does not reach back to it: whatever is
/// that old is kept longer then.
pub(super) fn ago(now: Instant, time: Duration) -> Instant {
    now.checked_sub(time).unwrap_or(now)
}
