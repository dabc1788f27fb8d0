use crate::{
    Channel, DeltaFormat, MemberWord, PageMark, Payload, Position, PublicationId, RequestId,
    SessionNonce, Token,
};

/// A command and what its client calls it.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub id: RequestId,
    pub command: Command,
}

/// What a client asks, in any protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Connect(Connect),
    Subscribe {
        channel: Channel,
        since: Since,
        /// How publications may be sent as what changed since the one before; `None` wants each in
        /// full. The server sends a publication in full whenever it pleases.
        delta: Option<DeltaFormat>,
        /// What allows it, if the token of the connection does not: one of this channel.
        token: Option<Token>,
    },
    Unsubscribe {
        channel: Channel,
    },
    Publish(Publish),
    History {
        channel: Channel,
        query: HistoryQuery,
    },
    /// Wants to hear who comes and goes in a channel.
    Watch {
        channel: Channel,
    },
    Unwatch {
        channel: Channel,
    },
    /// Becomes a member of a channel, or says something else there.
    Enter {
        channel: Channel,
        word: Option<MemberWord>,
    },
    /// Is no member any more.
    Leave {
        channel: Channel,
    },
    /// Asks for a page of who is in a channel.
    Members {
        channel: Channel,
        from: Option<PageMark>,
        /// At least 1; the page may hold fewer or more.
        limit: u32,
    },
    Ping,
    /// Replaces the credential of a live connection, or of its subscription to a channel.
    Refresh {
        token: Token,
        channel: Option<Channel>,
    },
}

/// The first command of every connection. One of the credentials is needed; `token` and `ticket` exclude
/// each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Connect {
    pub token: Option<Token>,
    /// Stands for a token, once.
    pub ticket: Option<Token>,
    pub resume: Option<Resume>,
}

/// A session to take up again where its client left off.
#[derive(Clone, Debug, PartialEq)]
pub struct Resume {
    /// The sealed token of the last `Connected` or `Reconnect`.
    pub token: Token,
    /// Makes a repeated attempt recognisable as the same.
    pub nonce: SessionNonce,
    /// How far the client has read, for each of its channels.
    pub positions: Vec<(Channel, Position)>,
}

/// Where a subscription starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Since {
    /// With the next publication.
    Now,
    /// After this position: everything missed comes first.
    Position(Position),
    /// With up to this many of the newest publications first.
    Last(u32),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Publish {
    pub channel: Channel,
    pub id: Option<PublicationId>,
    pub payload: Payload,
}

/// Asks for a page of what a channel keeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HistoryQuery {
    pub direction: Direction,
    /// Exclusive. `None` starts at the oldest kept going forward, at the newest going backward.
    pub from: Option<Position>,
    /// At least 1; the log may return fewer than there are.
    pub limit: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// Towards newer publications.
    Forward,
    /// Towards older publications.
    Backward,
}
