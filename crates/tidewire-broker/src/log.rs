use std::time::Duration;

use async_trait::async_trait;
use tidewire_model::{
    Epoch, HistoryPage, HistoryQuery, Incarnation, Position, Publication, Since, TenantChannel,
};

use crate::{Draft, Lineage};

/// Orders the publications of each channel and keeps the newest of them.
///
/// Every method may be called from any task. Cancelling an `append` leaves open whether it
/// happened; cancelling anything else has no effect.
#[async_trait]
pub trait Log: Send + Sync {
    /// Gives each draft the next offset of `channel`, in order, and stores it: all of them or none.
    /// If an `epoch` is named and the channel is in another one, none.
    ///
    /// If no epoch is named and the tenant keeps as many bytes as the rules allow it
    /// ([`ChannelLimits`](tidewire_model::ChannelLimits)), none: [`LogError::Full`].
    ///
    /// A draft whose [`DedupeKey`](crate::DedupeKey) was appended, or found again, in the last
    /// two minutes is not stored again; it gets the position of the first time, with `duplicate` set. A reply that
    /// was lost is asked for again inside, without storing anything twice; when what it was about
    /// can no longer be found out, the end is [`LogError::Timeout`].
    ///
    /// The caller keeps at most one call in flight per channel: that is what makes the order of
    /// calls the order of offsets even when one of them has to be repeated.
    async fn append_in(
        &self,
        channel: &TenantChannel,
        epoch: Option<Epoch>,
        drafts: &[Draft],
    ) -> Result<Outcome, LogError>;

    /// As [`Log::append_in`], whatever epoch the channel is in.
    async fn append(
        &self,
        channel: &TenantChannel,
        drafts: &[Draft],
    ) -> Result<Vec<Appended>, LogError> {
        match self.append_in(channel, None, drafts).await? {
            Outcome::Kept { appended, .. } => Ok(appended),
            Outcome::Forked => {
                Err(LogError::Corrupt { reason: "it forked from an epoch nobody named".into() })
            }
        }
    }

    /// Reads on from `since`, at most `limit` publications in offset order, and tells where that
    /// position stands in the channel's life. Never returns publications from before a hole.
    ///
    /// Their payloads are at most [`MAX_PAGE_BYTES`] together, save that the first always comes:
    /// [`Read::reaches_top`] says whether to read on.
    ///
    /// A channel nobody has published to is read as empty, at offset 0 of a fresh epoch. So that
    /// the caller can go on from there, that epoch is stored for about an hour after the last
    /// `read` or `heads` of it.
    async fn read(
        &self,
        channel: &TenantChannel,
        since: Since,
        limit: usize,
    ) -> Result<Read, LogError>;

    /// Reads a page for a client, in either direction.
    ///
    /// Going backward, publications come newest first. A `from` that is unknown, or beyond what the
    /// channel keeps, yields an empty page with no `next`. A page has at most the `limit` asked for
    /// and [`MAX_PAGE_BYTES`] of payload, save that the first publication always comes; where it
    /// was cut, `next` goes on.
    ///
    /// Asking makes no channel: one that is not there stays so, and the `top` of its empty page is
    /// offset 0 of an epoch made up for this answer, which a later `read` takes for unknown.
    async fn page(
        &self,
        channel: &TenantChannel,
        query: HistoryQuery,
    ) -> Result<HistoryPage, LogError>;

    /// The newest position of each channel, in the order asked. Cheaper than reading. A channel
    /// that is not there stays so, as with [`Log::page`].
    async fn heads(&self, channels: &[TenantChannel]) -> Result<Vec<Head>, LogError>;

    /// Which life of the log `channel` is in now: an epoch that began in an older one has ended. Makes
    /// no channel, and costs the same however many there are.
    async fn incarnation(&self, channel: &TenantChannel) -> Result<Incarnation, LogError>;

    /// Takes a hint that the log has begun this life: whoever has it may be wrong or lie, so it is
    /// believed only where it leads to asking anew. A log that has reached another place than that
    /// life asks where it is, at the next call and no more than once in two seconds, and stays with
    /// what it has as long as nothing else answers.
    fn hear_of(&self, _channel: &TenantChannel, _incarnation: Incarnation) {}

    /// Which part of the log `channel` is in: the channels of one part change from one life to the
    /// next together. A log is one part unless it says otherwise.
    fn part_of(&self, _channel: &TenantChannel) -> u16 {
        0
    }

    /// Waits until all that this process was told is kept of `channel`, by the life of the log that
    /// is called `by`, is in as many other places as the log was told to keep it in; or for some
    /// 50 ms, longer while others wait too, and for some seconds while the log does not answer.
    /// Neither appends nor reads wait meanwhile. Cancel-safe: whoever has less time gives up.
    ///
    /// If another life of the log has begun since, [`Secured::Behind`]: append it again and ask with
    /// what that says.
    async fn confirm(
        &self,
        _channel: &TenantChannel,
        _by: Incarnation,
    ) -> Result<Secured, LogError> {
        Ok(Secured::Alone)
    }

    /// Whether the log can be reached now, and if not, what is wrong.
    async fn health(&self) -> Result<(), LogError>;

    /// Waits, `within` at most, until what this process has written is where a failover would find
    /// it. Whatever else the process asks the log may have to wait meanwhile: for one that leaves.
    async fn secure(&self, _within: Duration) -> Result<Secured, LogError> {
        Ok(Secured::Alone)
    }
}

/// The most bytes of payload that one [`Log::read`] or [`Log::page`] returns, unless its first
/// publication alone is larger.
pub const MAX_PAGE_BYTES: usize = 256 * 1024;

/// What became of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is stored: what became of each draft, in their order, as this life of the log says.
    Kept { appended: Vec<Appended>, by: Incarnation },
    /// The channel is in another epoch than the one named, and nothing was stored.
    Forked,
}

/// What became of one draft.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Appended {
    pub position: Position,
    /// Milliseconds since the Unix epoch, by the log's clock; of the first time for a duplicate
    /// whose entry is still kept, else of now.
    pub time_ms: u64,
    pub duplicate: bool,
}

/// What [`Log::read`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    pub status: Status,
    /// The publications come after this offset, which stands in the numbering of `lineage`.
    pub base: u64,
    /// Offsets `base + 1`, `base + 2` and so on without a hole, each under the epoch it was
    /// written in.
    pub publications: Vec<Publication>,
    /// The newest epoch of the channel.
    pub epoch: Epoch,
    /// The newest offset of the channel.
    pub top: u64,
    pub lineage: Lineage,
    /// Which life of the log answered.
    pub incarnation: Incarnation,
}

impl Read {
    /// Whether the last publication returned is the newest of the channel.
    pub fn reaches_top(&self) -> bool {
        self.base + self.publications.len() as u64 >= self.top
    }

    /// The position the publications come after.
    pub fn base_position(&self) -> Position {
        Position::new(self.lineage.epoch_of(self.base), self.base)
    }

    pub fn top_position(&self) -> Position {
        Position::new(self.epoch, self.top)
    }
}

/// How the position a read started from stands to the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// No position was given (`Since::Now`, `Since::Last`).
    Fresh,
    /// Nothing is missing.
    Continues,
    /// The position is from a tail that was lost; `base` is the last offset everybody agrees on.
    Rewound,
    /// The position's epoch is not known; `base` is `top`.
    Reset,
    /// What comes right after the position is no longer kept; `base` is before the oldest kept.
    Trimmed,
}

/// The newest position of a channel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    pub position: Position,
    pub incarnation: Incarnation,
}

/// Where what was written to a log is beside the place it was written to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Secured {
    /// Nowhere: there is no other place, or none was asked for.
    Alone,
    /// On all the replicas that were asked for, or on more of them.
    Copied { replicas: u32 },
    /// On fewer replicas than were asked for.
    Behind { wanted: u32, reached: u32 },
}

/// Why the log could not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// It did not happen.
    #[error("log at {address} is unavailable: {reason}")]
    Unavailable { address: String, reason: String },
    /// It did not happen, because all that is kept of the channel's tenant is as much as may be.
    #[error("the tenant keeps {most} bytes, and may keep no more")]
    Full { most: u64 },
    /// Whether it happened is unknown.
    #[error("log at {address} did not answer in time")]
    Timeout { address: String },
    /// The log answered something that should not be there.
    #[error("log entry cannot be read: {reason}")]
    Corrupt { reason: String },
}
