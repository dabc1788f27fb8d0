use std::time::Duration;

use tidewire_model::{
    Channel, Gap, MemberId, MemberPage, Position, PresenceChange, PublicationId, Subscribed,
};
use tidewire_protocol_native::client::{Received, Refusal};

/// What happens to a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// It is connected; `resumed` says whether its session went on.
    Connected {
        node: String,
        resumed: bool,
        came: Came,
    },
    /// Its node is about to leave, and has asked it to open a connection elsewhere `after` this time;
    /// it goes on serving this one for `window` from then on.
    Asked {
        after: Duration,
        window: Duration,
    },
    /// It is in step over the connection that it was asked to open, and has left the old one.
    Left,
    Subscribed(Subscribed),
    Publication {
        channel: Channel,
        publication: Received,
    },
    Gap {
        channel: Channel,
        gap: Gap,
    },
    /// The publication of this id is kept at this position.
    Published {
        id: PublicationId,
        position: Position,
        duplicate: bool,
    },
    /// The publication of this id was refused for good.
    Rejected {
        id: PublicationId,
        refusal: Refusal,
    },
    /// The client is in a channel, where others call it this; after each connection anew.
    Entered {
        channel: Channel,
        member: MemberId,
    },
    /// From here on changes are told of who is in a channel.
    Watching {
        channel: Channel,
    },
    /// Changes in who is in a channel, in order.
    Presence {
        channel: Channel,
        changes: Vec<PresenceChange>,
    },
    /// Some of who is in a channel.
    Members {
        channel: Channel,
        page: MemberPage,
    },
    /// A subscription was refused or ended for good, and its channel is wanted no more; or to enter it, to
    /// watch it or a page of its members was. Without a channel: the server refused what this client does not know to have asked.
    Refused {
        channel: Option<Channel>,
        refusal: Refusal,
    },
    /// The token runs out at `at`, and the connection ends at `closes_at`, both in seconds since the Unix
    /// epoch, unless there is another by then.
    Expiring {
        at: u64,
        closes_at: u64,
    },
    /// The server has taken another token, which lasts until then, in seconds since the Unix epoch.
    Renewed {
        expires_at: Option<u64>,
    },
    /// There is no other token, or the server does not take it; it is asked for again.
    NotRenewed {
        reason: String,
    },
    /// The connection is gone; the client is coming back.
    Lost {
        reason: String,
    },
}

/// How a client came to its connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Came {
    /// It is the first.
    First,
    /// The one before was gone.
    Back,
    /// The one before was still there: the client was asked to move.
    Over,
}
