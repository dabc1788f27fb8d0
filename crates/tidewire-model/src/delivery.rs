use std::sync::Arc;
use std::time::Duration;

use crate::{
    ConnectionId, Envelope, Event, Failure, Gap, Position, Recovery, RequestId, TenantChannel,
};

/// One attempt of a connection to join a channel. Unique inside the connection, so that an answer or
/// a publication that belongs to an earlier attempt is told apart and dropped.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct JoinId(pub u32);

/// One time that a worker follows a channel, from its first place in the channel to its last. A
/// shard never uses a number twice for one worker and channel at once: what belongs to an earlier
/// tenure is told apart and ignored.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tenure(pub u32);

/// What a node's shard hands to a worker of the edge, through the one outbox of that worker. What a
/// shard hands over about a channel is taken in the order it was put in.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A connection's join was answered. If `outcome` is [`Joined::live`], the worker holds one more
    /// place in the channel under `tenure`, from exactly this point of the queue on; otherwise
    /// `tenure` means nothing.
    Joined {
        channel: TenantChannel,
        connection: ConnectionId,
        join: JoinId,
        tenure: Tenure,
        outcome: Result<Joined, Failure>,
    },
    /// For everybody of the worker who has a place in the envelope's channel.
    Publication(Arc<Envelope>),
    /// For everybody of the worker who has a place in the channel.
    Gap { channel: TenantChannel, gap: Gap },
    /// The worker takes more slowly than the channel runs, and its queue was full: all its places
    /// under `tenure` are void, and nothing more comes under it. Each subscriber joins again from
    /// its last position; what was missed is in the log.
    Lagged { channel: TenantChannel, tenure: Tenure },
    /// A connection's publication was kept, or refused, `took` after it was asked for.
    Published {
        connection: ConnectionId,
        request: RequestId,
        took: Duration,
        outcome: Result<Published, Failure>,
    },
    /// What a connection's client asked for is answered.
    Told { connection: ConnectionId, event: Box<Event> },
}

impl Delivery {
    /// What it takes in a queue, in bytes.
    pub fn weight(&self) -> usize {
        const ALLOWANCE: usize = 64;
        match self {
            Self::Publication(envelope) => envelope.weight(),
            Self::Joined { outcome: Ok(joined), .. } => {
                ALLOWANCE + joined.missed.iter().map(|envelope| envelope.weight()).sum::<usize>()
            }
            Self::Joined { outcome: Err(_), .. }
            | Self::Gap { .. }
            | Self::Lagged { .. }
            | Self::Published { .. }
            | Self::Told { .. } => ALLOWANCE,
        }
    }
}

/// Where a publication came to stand in its channel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Published {
    pub position: Position,
    /// Whether its id was known already: `position` is that of the first time.
    pub duplicate: bool,
}

/// Where a join begins.
#[derive(Clone, Debug)]
pub struct Joined {
    pub recovery: Recovery,
    /// How many publications are missing before `position`, where that is known.
    pub lost: Option<u64>,
    /// `missed` comes after this.
    pub position: Position,
    /// In position order, without a hole.
    pub missed: Vec<Arc<Envelope>>,
    /// Whether publications follow by themselves from here on. If not, there is more to catch up
    /// with: join again from the last position once these have been sent.
    pub live: bool,
    /// Whether of what follows only some is handed out.
    pub is_sampled: bool,
}

impl Joined {
    /// Where the connection stands once it has seen `missed`.
    pub fn end(&self) -> Position {
        self.missed.last().map_or(self.position, |envelope| envelope.position)
    }
}
