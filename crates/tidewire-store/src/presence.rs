use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tidewire_model::{
    Generation, InvalidId, MemberWord, NodeId, Occupancy, PageMark, SessionId, TenantChannel,
    UserId,
};

use crate::StoreError;

/// Keeps who is in which channel.
///
/// An entry is one session's and as old as that session's [`Age`]: a younger one replaces it whatever the
/// node, and what comes late changes nothing. No entry runs out by itself. Who is lost is marked as
/// away, still counts, and leaves when its time is up and somebody looks ([`expire`](Self::expire)); the
/// entries of a node that is gone are marked by others ([`orphan`](Self::orphan)).
///
/// Times are the store's own. Every method may be called from any task, and repeated when the answer
/// was lost; cancelling one leaves open whether it happened.
#[async_trait]
pub trait Presence: Send + Sync {
    /// Moves sessions of one life in and out of a channel, in order and in one step: at most
    /// [`MOST_MOVES`]. Without any it says what is still to be told of the channel.
    async fn apply(
        &self,
        channel: &TenantChannel,
        life: &Life,
        moves: &[Move],
        terms: Terms,
    ) -> Result<Applied, StoreError>;

    /// Notes how many subscribers one life has in a channel of which nothing else is kept.
    async fn tally(
        &self,
        channel: &TenantChannel,
        life: &Life,
        subscribers: u64,
    ) -> Result<Tally, StoreError>;

    /// Some of who is in a channel: about `limit` of them, at most 512 more. Who is there from the
    /// first page to the last is on one of them at least; while many come, a few may be on two.
    async fn page(
        &self,
        channel: &TenantChannel,
        from: Option<PageMark>,
        limit: u32,
    ) -> Result<EntryPage, StoreError>;

    /// How many are in each of some channels.
    async fn occupancies(&self, channels: &[TenantChannel]) -> Result<Vec<Standing>, StoreError>;

    /// Lets those leave who are away and whose time is up, of one part: at most `limit` of them. Where the
    /// store's clock was set back, their time begins anew.
    async fn expire(&self, part: u16, limit: u32) -> Result<Expired, StoreError>;

    /// Some of the channels of a part that a life has entries in which are not away, or subscribers, at most
    /// 100; none if there are none.
    async fn channels_of(&self, part: u16, life: &Life) -> Result<Vec<TenantChannel>, StoreError>;

    /// Marks a life's entries in a channel as away, some 500 a call, from `from` on (0 for the first call,
    /// which forgets its subscribers too). After the last it has no channel there any more.
    async fn orphan(
        &self,
        channel: &TenantChannel,
        life: &Life,
        from: u64,
        debounce: Duration,
    ) -> Result<Orphaned, StoreError>;

    /// Every life that may have entries. With `own`, that one is among them from now on: it has to be before
    /// it has any.
    async fn lives(&self, own: Option<&Life>) -> Result<Vec<Life>, StoreError>;

    /// Forgets a life that has no channel left in any part.
    async fn forget(&self, life: &Life) -> Result<(), StoreError>;

    /// How many parts there are whose primaries may change apart from each other.
    fn parts(&self) -> u16;

    /// Which of them a channel is in.
    fn part_of(&self, channel: &TenantChannel) -> u16;
}

/// The most moves of one [`Presence::apply`].
pub const MOST_MOVES: usize = 128;

/// The longest that anybody is waited for.
pub const LONGEST_AWAY: Duration = Duration::from_mins(1);

/// How members of a channel are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Terms {
    /// After which those leave who are away by these moves; at most [`LONGEST_AWAY`].
    pub debounce: Duration,
    /// How many members there may be for each change to be told; where nobody enters, none.
    pub listed: u32,
}

/// What those who watch a channel are to be told of a step, by whoever took it.
///
/// While there are more members than are listed, it is how many there are: once in a second, or in five
/// when they are more than 10,000, but at once when the first comes or the last goes. Names are
/// told again when there are fewer than four fifths.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Telling {
    /// Each change.
    Names,
    /// How many there are.
    Count,
    /// The same in so long a time, if nobody has told it by then: to be asked by [`Presence::apply`] without
    /// moves.
    CountLater(Duration),
    /// That the list is to be loaded, and each change is told from now on.
    NamesAgain,
    Nothing,
}

/// How many are in a channel, and what of it is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tally {
    pub occupancy: Occupancy,
    pub telling: Telling,
}

/// How it stands with a channel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standing {
    pub occupancy: Occupancy,
    /// Only how many there are is told.
    pub is_counted: bool,
}

/// One run of a node's process: who starts again is another one, under whatever name.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Life {
    pub node: NodeId,
    /// Milliseconds since the Unix epoch, as in its lease.
    pub started_at_ms: u64,
}

impl Life {
    /// What is written as `node.milliseconds`.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let (node, started) = text.rsplit_once('.').ok_or(InvalidId)?;
        let started_at_ms = started.parse().map_err(|_| InvalidId)?;
        Ok(Self { node: NodeId::parse(node)?, started_at_ms })
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.started_at_ms)
    }
}

/// How old what a session says of itself is. The session's own fence: each resume is younger than all
/// before it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Age {
    pub generation: Generation,
    /// Counts what the session has said under its generation.
    pub version: u32,
}

/// A session in a channel, as the store keeps it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    pub session: SessionId,
    pub user: UserId,
    pub word: Option<MemberWord>,
}

/// What has become of a session, in one channel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Move {
    /// It is there, with this to say; nobody hears of it if it was and said the same.
    Enter { entry: Entry, age: Age },
    /// Its connection is lost.
    Away { session: SessionId, age: Age },
    /// It is not there any more, and nobody waits whether it comes back.
    Leave { session: SessionId, age: Age },
}

/// What has come of a move.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    Joined,
    /// It was there, and said something else.
    Updated,
    /// It was there and said the same: nobody is to hear of it.
    Kept,
    Left,
    /// It leaves when its time is up, unless it comes back.
    Away,
    /// The session has moved on since: nothing was changed.
    Stale,
    /// It was not there.
    Unknown,
}

impl Fate {
    /// Whether it is a change that takes an offset.
    pub fn is_change(self) -> bool {
        matches!(self, Self::Joined | Self::Updated | Self::Left)
    }
}

/// What has come of some moves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Applied {
    /// Of each move.
    pub fates: Vec<Fate>,
    /// After all of them.
    pub occupancy: Occupancy,
    pub telling: Telling,
}

/// Some of a channel's entries, each with the life that it is of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EntryPage {
    pub entries: Vec<(Life, Entry)>,
    pub occupancy: Occupancy,
    /// Absent on the last page.
    pub next: Option<PageMark>,
    /// The mark was of another life of the store, and this is the first page instead.
    pub is_anew: bool,
}

/// Who has left because their time was up.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Expired {
    pub channels: Vec<Departed>,
    /// There are more whose time is up.
    pub has_more: bool,
}

/// Who has left one channel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Departed {
    pub channel: TenantChannel,
    pub sessions: Vec<(SessionId, UserId)>,
    /// After all of them.
    pub occupancy: Occupancy,
    pub telling: Telling,
}

/// How far a life's entries in a channel have been marked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Orphaned {
    /// Marked by this call.
    pub marked: u64,
    /// From where to go on; absent after the last.
    pub next: Option<u64>,
    /// Without the life's subscribers.
    pub tally: Tally,
}
