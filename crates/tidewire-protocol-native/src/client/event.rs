use std::time::Duration;

use bytes::Bytes;
use tidewire_model::{
    Channel, Connected, Disconnect, ErrorCode, Gap, GapReason, MemberId, MemberPage, Payload,
    Position, PresenceChange, PublicationId, Recovery, RequestId, Subscribed, Token, UserId,
};

use crate::fossil::{self, BadDelta};

/// What a node tells a client.
///
/// Compared with [`tidewire_model::Event`], publications stand by themselves, since a client does
/// not know its tenant, and codes are kept as numbers, since a newer node may have more of them.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerEvent {
    Connected(Connected),
    Subscribed(Subscribed),
    Published {
        request: RequestId,
        position: Position,
        /// The id was known: this is the position of the first time.
        duplicate: bool,
    },
    History {
        request: RequestId,
        page: ReceivedPage,
    },
    Pong {
        request: RequestId,
    },
    Refreshed {
        request: RequestId,
        /// Seconds since the Unix epoch; `None` never expires.
        expires_at: Option<u64>,
    },
    Unsubscribed {
        /// `None` when the server ended the subscription.
        request: Option<RequestId>,
        channel: Channel,
        refusal: Option<Refusal>,
    },
    /// Publications of one channel and epoch, in order.
    Publications {
        channel: Channel,
        publications: Vec<Received>,
    },
    /// As `Publications`, at least one of them as what changed: only in a subscription that has
    /// asked for that and was granted it.
    Deltas {
        channel: Channel,
        publications: Vec<Received<Content>>,
    },
    Gap {
        channel: Channel,
        gap: Gap,
    },
    /// The node is about to leave: open a connection elsewhere, resume, then close this one.
    Reconnect {
        after: Duration,
        window: Duration,
        token: Option<Token>,
        /// Nodes to try, in this order.
        endpoints: Vec<String>,
    },
    /// Seconds since the Unix epoch at which the credential expires, and with it delivery ends, and at
    /// which the connection does.
    Expiring {
        at: u64,
        closes_at: u64,
    },
    /// A command was refused. `request` is `None` if the command had no id.
    Failed {
        request: Option<RequestId>,
        refusal: Refusal,
    },
    /// From here on it is told who comes and goes in a channel: the list is to be loaded now.
    Watching {
        request: RequestId,
        channel: Channel,
    },
    Unwatched {
        /// `None` when the server ended it.
        request: Option<RequestId>,
        channel: Channel,
        refusal: Option<Refusal>,
    },
    /// Changes in who is in a channel, in order.
    Presence {
        channel: Channel,
        changes: Vec<PresenceChange>,
    },
    Entered {
        request: RequestId,
        channel: Channel,
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
    /// The last event of a connection.
    Closing(Closing),
}

/// A publication as a client receives it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Received<P = Payload> {
    pub position: Position,
    /// Milliseconds since the Unix epoch, by the log's clock.
    pub time_ms: u64,
    pub id: Option<PublicationId>,
    /// `None` when a server published it.
    pub publisher: Option<UserId>,
    pub payload: P,
}

/// A payload as it is written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    Whole(Payload),
    /// What makes it of the payload at the offset before.
    Delta(Bytes),
}

impl Received {
    /// As it came from a server that sent the payload in full.
    pub fn written(self) -> Received<Content> {
        let Self { position, time_ms, id, publisher, payload } = self;
        Received { position, time_ms, id, publisher, payload: Content::Whole(payload) }
    }
}

impl Received<Content> {
    /// The publication with its payload, made of that of the publication before if it has to be.
    ///
    /// # Errors
    ///
    /// The publication before is not at hand, or the delta is not one of it.
    pub fn restored(self, previous: Option<&Received>) -> Result<Received, BadDelta> {
        let Self { position, time_ms, id, publisher, payload } = self;
        let payload = match payload {
            Content::Whole(payload) => payload,
            Content::Delta(delta) => {
                let is_previous = |previous: &&Received| {
                    previous.position.epoch == position.epoch
                        && previous.position.offset + 1 == position.offset
                };
                let previous = previous.filter(is_previous).ok_or(BadDelta)?;
                fossil::apply(&previous.payload, &delta)?
            }
        };
        Ok(Received { position, time_ms, id, publisher, payload })
    }
}

/// The event that tells publications, by whether any of them came as what changed.
pub(super) fn publications(channel: Channel, items: Vec<Received<Content>>) -> ServerEvent {
    let has_delta = items.iter().any(|item| matches!(item.payload, Content::Delta(_)));
    if has_delta {
        return ServerEvent::Deltas { channel, publications: items };
    }
    let publications = items.into_iter().filter_map(|item| item.restored(None).ok()).collect();
    ServerEvent::Publications { channel, publications }
}

/// A page of what a channel keeps, in the order of the query's direction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReceivedPage {
    pub publications: Vec<Received>,
    /// The newest position of the channel.
    pub top: Position,
    /// Where the next page of the same direction starts; `None` when there is no more.
    pub next: Option<Position>,
}

/// Why a command was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{name} ({code}): {message}")]
pub struct Refusal {
    pub code: u16,
    pub name: String,
    pub message: String,
    /// Whether the same command may succeed later.
    pub retryable: bool,
    pub retry_after: Option<Duration>,
    /// The limit that is in the way, if the server names one. Boxed, as few refusals have it.
    pub limit: Option<Box<ReachedLimit>>,
}

/// A limit that the operator sets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReachedLimit {
    /// Its key in the configuration.
    pub name: String,
    /// What it is set to, in the unit of the key.
    pub value: u64,
}

impl Refusal {
    /// The code, if this version knows it.
    pub fn error_code(&self) -> Option<ErrorCode> {
        ErrorCode::ALL.into_iter().find(|code| code.number() == self.code)
    }
}

/// Why a connection ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Closing {
    /// Also the WebSocket close code.
    pub code: u16,
    pub name: String,
    /// Whether to come back, with the resume token.
    pub reconnect: bool,
}

impl Closing {
    /// The reason, if this version knows it.
    pub fn disconnect(&self) -> Option<Disconnect> {
        Disconnect::ALL.into_iter().find(|reason| reason.code() == self.code)
    }
}

pub(super) fn optional(id: u32) -> Option<RequestId> {
    (id != 0).then_some(RequestId(id))
}

/// A reason that this version does not know asks for the same as a reset: load the state afresh.
pub(super) fn recovery(
    recovered: Option<bool>,
    rewound: bool,
    reason: Option<GapReason>,
) -> Recovery {
    match recovered {
        None => Recovery::NotAsked,
        Some(true) if rewound => Recovery::Rewound,
        Some(true) => Recovery::Recovered,
        Some(false) => Recovery::Failed(reason.unwrap_or(GapReason::Reset)),
    }
}
