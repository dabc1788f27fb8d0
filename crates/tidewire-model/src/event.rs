use std::sync::Arc;
use std::time::Duration;

use crate::{
    Channel, DeltaFormat, Deltas, Disconnect, Envelope, Failure, MemberId, MemberPage, NodeId,
    Position, Publication, RequestId, SessionId, Token,
};

/// What a client hears, in any protocol.
///
/// What is told of a [reserved](Channel::is_reserved) channel is about presence in the one that it is named
/// after: that watching it began or ended, changes, and that changes are missing.
#[derive(Clone, Debug)]
pub enum Event {
    Connected(Connected),
    Subscribed(Subscribed),
    Published {
        request: RequestId,
        position: Position,
        /// The id was known: this is the position of the first time, and nothing was delivered
        /// twice.
        duplicate: bool,
    },
    History {
        request: RequestId,
        page: HistoryPage,
    },
    /// The client is a member of the channel now.
    Entered {
        request: RequestId,
        channel: Channel,
        /// What others call it.
        member: MemberId,
    },
    Left {
        request: RequestId,
        channel: Channel,
    },
    Members {
        request: RequestId,
        channel: Channel,
        page: MemberPage,
    },
    Pong {
        request: RequestId,
    },
    Refreshed {
        request: RequestId,
        /// Seconds since the Unix epoch.
        expires_at: Option<u64>,
    },
    Unsubscribed {
        /// `None` when the server ended the subscription.
        request: Option<RequestId>,
        channel: Channel,
        /// Why the server ended it; `None` when the client asked.
        failure: Option<Failure>,
    },
    /// Publications of one channel, in position order.
    Publications {
        channel: Channel,
        publications: Vec<Arc<Envelope>>,
        deltas: Deltas,
    },
    Gap {
        channel: Channel,
        gap: Gap,
    },
    /// The node is about to leave: open a connection elsewhere, resume, then close this one.
    Reconnect {
        /// How long to wait before opening the new connection.
        after: Duration,
        /// How long this connection will go on being served.
        window: Duration,
        /// The resume token to use; `None` of a session that is not kept.
        token: Option<Token>,
        /// Nodes that are there, in the order in which to try them; none if a balancer chooses.
        endpoints: Vec<String>,
    },
    /// The credential expires at `at` (seconds since the Unix epoch): send `refresh`. Nothing is
    /// delivered from then on, and the connection ends at `closes_at`.
    Expiring {
        at: u64,
        closes_at: u64,
    },
    /// A command was refused. `request` is `None` when it could not be told which.
    Failed {
        request: Option<RequestId>,
        failure: Failure,
    },
    /// The last event of a connection.
    Closing(Disconnect),
}

/// A connection has an identity and a session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Connected {
    pub request: RequestId,
    pub session: SessionId,
    /// Opens the session again on any node; `None` if it is not kept.
    pub resume_token: Option<Token>,
    /// How long after a loss the session can be resumed; zero if it is not kept.
    pub resume_window: Duration,
    /// Whether the session of the presented resume token goes on. If so, a `Subscribed` follows for
    /// each of its subscriptions.
    pub resumed: bool,
    pub node: NodeId,
    /// How often the server pings; silence of twice this long means the connection is lost.
    pub ping_interval: Duration,
    /// Seconds since the Unix epoch.
    pub expires_at: Option<u64>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subscribed {
    /// `None` for a subscription that a resumed session brought back.
    pub request: Option<RequestId>,
    pub channel: Channel,
    pub recovery: Recovery,
    /// What follows comes after this position.
    pub position: Position,
    /// How publications may be written as what changed, if the client asked for it and its channel
    /// offers it.
    pub delta: Option<DeltaFormat>,
    /// Whether publications are left out between those that follow, without another word: their
    /// offsets say how many.
    pub sampled: bool,
}

/// Whether a subscription went on from where its client had left off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Recovery {
    /// The client named no position.
    NotAsked,
    /// Every publication after the client's position follows.
    Recovered,
    /// The client had seen publications that a failover lost; it is set back to the last position
    /// all agree on, and everything after that follows.
    Rewound,
    /// Publications are missing: load the channel's state afresh.
    Failed(GapReason),
}

/// Publications that will not come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gap {
    pub reason: GapReason,
    /// What follows comes after this position.
    pub position: Position,
    /// How many offsets are missing, where that is known.
    pub missed: Option<u64>,
}

/// Why publications will not come.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum GapReason {
    /// They are older than what the channel keeps.
    Window,
    /// The channel's log began anew; the position means nothing in it.
    Reset,
    /// A failover lost the newest publications; those after `position` come again, some of them
    /// under other offsets. Ids tell which were seen.
    Rewind,
    /// It missed more than a client that comes back is sent.
    Limit,
    /// The client read too slowly, and its channel leaves out what such a client missed.
    Skipped,
}

impl GapReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Reset => "reset",
            Self::Rewind => "rewind",
            Self::Limit => "limit",
            Self::Skipped => "skipped",
        }
    }
}

/// A page of what a channel keeps, in the order of the query's direction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HistoryPage {
    pub publications: Vec<Publication>,
    /// The newest position of the channel.
    pub top: Position,
    /// Where the next page of the same direction starts; `None` when there is no more.
    pub next: Option<Position>,
}
