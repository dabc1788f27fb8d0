//! What clients are told of presence, the same in both encodings.
//!
//! A session that watches is subscribed to the reserved channel of presence, and hears of it what it hears of any
//! channel. Clients know nothing of reserved channels.

use tidewire_model::{Channel, Event, Failure, MemberId, MemberPage, RequestId};

/// An event that is about presence, but for changes, which are publications of a reserved channel.
pub(crate) enum Told<'a> {
    Watching {
        request: RequestId,
        channel: Channel,
    },
    Unwatched {
        request: Option<RequestId>,
        channel: Channel,
        failure: Option<&'a Failure>,
    },
    /// Changes may be missing.
    Lost {
        channel: Channel,
    },
    Entered {
        request: RequestId,
        channel: &'a Channel,
        member: MemberId,
    },
    Left {
        request: RequestId,
        channel: &'a Channel,
    },
    Members {
        request: RequestId,
        channel: &'a Channel,
        page: &'a MemberPage,
    },
}

/// What an event says of presence, if it does.
pub(crate) fn told(event: &Event) -> Option<Told<'_>> {
    let told = match event {
        Event::Subscribed(subscribed) => {
            let channel = subscribed.channel.watched()?;
            match subscribed.request {
                Some(request) => Told::Watching { request, channel },
                // It goes on somewhere else, and may have missed something on the way.
                None => Told::Lost { channel },
            }
        }
        Event::Unsubscribed { request, channel, failure } => {
            let (channel, failure) = (channel.watched()?, failure.as_ref());
            Told::Unwatched { request: *request, channel, failure }
        }
        Event::Gap { channel, .. } => Told::Lost { channel: channel.watched()? },
        Event::Entered { request, channel, member } => {
            Told::Entered { request: *request, channel, member: *member }
        }
        Event::Left { request, channel } => Told::Left { request: *request, channel },
        Event::Members { request, channel, page } => {
            Told::Members { request: *request, channel, page }
        }
        _ => return None,
    };
    Some(told)
}
