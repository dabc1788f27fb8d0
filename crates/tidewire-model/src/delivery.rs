use std::sync::Arc;

use crate::{Envelope, Failure, Gap, Position, Recovery};

/// One attempt of a connection to join a channel. Unique inside the connection, so that an answer or
/// a publication that belongs to an earlier attempt is told apart and dropped.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct JoinId(pub u32);

/// What a node hands to a connection about one of its joins.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// The join was answered. Everything else about it comes later.
    Joined {
        join: JoinId,
        outcome: Result<Joined, Failure>,
    },
    Publication {
        join: JoinId,
        envelope: Arc<Envelope>,
    },
    Gap {
        join: JoinId,
        gap: Gap,
    },
    /// The connection reads more slowly than the channel runs, and its queue was full: nothing more
    /// comes under this join. Join again from the last position; what was missed is in the log.
    Lagged {
        join: JoinId,
    },
}

impl Delivery {
    /// What it takes in a queue, in bytes.
    pub fn weight(&self) -> usize {
        const ALLOWANCE: usize = 64;
        match self {
            Self::Publication { envelope, .. } => envelope.weight(),
            Self::Joined { outcome: Ok(joined), .. } => {
                ALLOWANCE + joined.missed.iter().map(|envelope| envelope.weight()).sum::<usize>()
            }
            Self::Joined { outcome: Err(_), .. } | Self::Gap { .. } | Self::Lagged { .. } => {
                ALLOWANCE
            }
        }
    }
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
}

impl Joined {
    /// Where the connection stands once it has seen `missed`.
    pub fn end(&self) -> Position {
        self.missed.last().map_or(self.position, |envelope| envelope.position)
    }
}
