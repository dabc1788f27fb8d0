use prost::{Message as _, encode_length_delimiter, length_delimiter_len};
use tidewire_model::{
    ChangePosition, Channel, Connected, Disconnect, Encoding, Epoch, Event, Exceeded, Failure,
    FormerMember, Gap, GapReason, HistoryPage, Member, PresenceChange, Publication, Recovery,
    RequestId, Subscribed, Token,
};

use super::wire::event::Event as Body;
use super::{push_frame, wire, wire_delta_format, wire_payload, wire_position};
use crate::assembly::{Assembly, Framing};
use crate::millis;
use crate::presence::{self, Told};
use crate::publications::{Content, EventWriter, push_publications};

pub(crate) struct ProtobufWriter;

/// Field 1 of `ServerFrame`, `events`, length-delimited.
const EVENT_TAG: u8 = 0x0a;
/// Field 2 of `Event`, `publications`, length-delimited.
const PUBLICATIONS_TAG: u8 = 0x12;
/// Field 15 of `Event`, `presence`, length-delimited.
const PRESENCE_TAG: u8 = 0x7a;
/// Field 3 of `Publications` and of `Presence`, `items`, length-delimited.
const ITEM_TAG: u8 = 0x1a;

impl EventWriter for ProtobufWriter {
    const FRAMING: Framing = Framing::Protobuf;
    const ENCODING: Encoding = Encoding::NativeProtobuf;

    /// The tag of what it is in an event, and a `Publications` or `Presence` message without items: they are
    /// its last field, so they can be appended.
    fn head(channel: &Channel, epoch: Epoch) -> Vec<u8> {
        let (tag, message) = match channel.watched() {
            None => {
                let (channel, epoch) = (channel.as_str().to_owned(), epoch.to_string());
                let message = wire::Publications { channel, epoch, items: Vec::new() };
                (PUBLICATIONS_TAG, message.encode_to_vec())
            }
            Some(watched) => {
                let message = wire::Presence { channel: watched.to_string(), items: Vec::new() };
                (PRESENCE_TAG, message.encode_to_vec())
            }
        };
        [&[tag], &*message].concat()
    }

    /// An item with its tag and length, as it stands in a `Publications` or `Presence` message.
    fn item(publication: &Publication, content: Content<'_>) -> Vec<u8> {
        if publication.channel.channel.is_reserved() {
            let change =
                PresenceChange::of(&publication.payload).unwrap_or_else(PresenceChange::loss);
            let message = wire_change(&change);
            let mut item = vec![ITEM_TAG];
            message.encode_length_delimited(&mut item).expect("a vector grows as needed");
            return item;
        }
        let message = wire_publication(publication, content, String::new());
        let mut item = Vec::with_capacity(message.encoded_len() + 8);
        item.push(ITEM_TAG);
        message.encode_length_delimited(&mut item).expect("a vector grows as needed");
        item
    }

    fn push_batch(out: &mut Vec<u8>, head: &[u8], items: &[&[u8]]) {
        let Some((tag, head)) = head.split_first() else { return };
        let batch = head.len() + items.iter().map(|item| item.len()).sum::<usize>();
        let event = 1 + length_delimiter_len(batch) + batch;
        out.reserve(1 + length_delimiter_len(event) + event);
        push_tag(out, EVENT_TAG, event);
        push_tag(out, *tag, batch);
        out.extend_from_slice(head);
        for item in items {
            out.extend_from_slice(item);
        }
    }

    fn only_item<'a>(batch: &'a [u8], head: &[u8]) -> &'a [u8] {
        let publications = skip_tag(skip_tag(batch));
        &publications[head.len() - 1..]
    }

    fn push_event(assembly: &mut Assembly<'_>, event: &Event) {
        if let Some(told) = presence::told(event) {
            let (id, body) = told_body(&told);
            let events = vec![wire::Event { id, event: Some(body) }];
            return push_frame(assembly.part(), &wire::ServerFrame { events });
        }
        let (id, body) = match event {
            Event::Publications { publications, deltas, .. } => {
                return push_publications::<Self>(assembly, publications, *deltas);
            }
            Event::History { request, page } => (request.0, history_body(page)),
            Event::Connected(connected) => (connected.request.0, connected_body(connected)),
            Event::Subscribed(subscribed) => {
                (optional(subscribed.request), subscribed_body(subscribed))
            }
            Event::Published { request, position, duplicate } => {
                let position = Some(wire_position(position));
                (request.0, Body::Published(wire::Published { position, duplicate: *duplicate }))
            }
            Event::Pong { request } => (request.0, Body::Pong(wire::Pong {})),
            Event::Refreshed { request, expires_at } => {
                (request.0, Body::Refreshed(wire::Refreshed { expires_at: *expires_at }))
            }
            Event::Unsubscribed { request, channel, failure } => {
                (optional(*request), unsubscribed_body(channel, failure.as_ref()))
            }
            Event::Gap { channel, gap } => (0, gap_body(channel, gap)),
            Event::Reconnect { after, window, token, endpoints } => {
                let (after_ms, window_ms) = (millis(*after), millis(*window));
                let token = text(token.as_ref());
                let endpoints = endpoints.clone();
                (0, Body::Reconnect(wire::Reconnect { after_ms, window_ms, token, endpoints }))
            }
            Event::Expiring { at, closes_at } => {
                (0, Body::Expiring(wire::Expiring { at: *at, closes_at: *closes_at }))
            }
            Event::Failed { request, failure } => {
                (optional(*request), Body::Error(wire_error(failure)))
            }
            Event::Closing(disconnect) => (0, closing_body(*disconnect)),
            // Told above.
            Event::Entered { .. } | Event::Left { .. } | Event::Members { .. } => return,
        };
        let events = vec![wire::Event { id, event: Some(body) }];
        push_frame(assembly.part(), &wire::ServerFrame { events });
    }
}

fn push_tag(out: &mut Vec<u8>, tag: u8, len: usize) {
    out.push(tag);
    encode_length_delimiter(len, out).expect("a vector grows as needed");
}

/// What follows the one-byte tag and the length that `bytes` begin with.
fn skip_tag(bytes: &[u8]) -> &[u8] {
    let mut rest = &bytes[1..];
    prost::decode_length_delimiter(&mut rest).expect("we wrote the length ourselves");
    rest
}

fn optional(request: Option<RequestId>) -> u32 {
    request.map_or(0, |RequestId(id)| id)
}

fn wire_publication(
    publication: &Publication,
    content: Content<'_>,
    epoch: String,
) -> wire::Publication {
    let (payload, delta) = match content {
        Content::Plain | Content::Base => (Some(wire_payload(&publication.payload)), None),
        Content::Delta(delta) => (None, Some(delta.clone())),
    };
    wire::Publication {
        offset: publication.position.offset,
        time: publication.time_ms,
        id: publication.id.as_ref().map(|id| id.as_str().to_owned()),
        user: publication.publisher.as_ref().map(|user| user.as_str().to_owned()),
        payload,
        epoch,
        delta,
    }
}

fn history_body(page: &HistoryPage) -> Body {
    let publications = page.publications.iter().map(|publication| {
        let epoch = publication.position.epoch.to_string();
        wire_publication(publication, Content::Plain, epoch)
    });
    Body::History(wire::HistoryPage {
        publications: publications.collect(),
        top: Some(wire_position(&page.top)),
        next: page.next.as_ref().map(wire_position),
    })
}

/// Without a token there is none to resume with.
fn text(token: Option<&Token>) -> String {
    token.map(|token| token.as_str().to_owned()).unwrap_or_default()
}

fn connected_body(connected: &Connected) -> Body {
    Body::Connected(wire::Connected {
        session: connected.session.to_string(),
        resume_token: text(connected.resume_token.as_ref()),
        resume_window_ms: millis(connected.resume_window),
        resumed: connected.resumed,
        node: connected.node.to_string(),
        ping_interval_ms: millis(connected.ping_interval),
        expires_at: connected.expires_at,
    })
}

fn subscribed_body(subscribed: &Subscribed) -> Body {
    let (recovered, reason) = match subscribed.recovery {
        Recovery::NotAsked => (None, wire::GapReason::Unspecified),
        Recovery::Recovered | Recovery::Rewound => (Some(true), wire::GapReason::Unspecified),
        Recovery::Failed(reason) => (Some(false), wire_reason(reason)),
    };
    Body::Subscribed(wire::Subscribed {
        channel: subscribed.channel.to_string(),
        recovered,
        rewound: subscribed.recovery == Recovery::Rewound,
        reason: reason.into(),
        position: Some(wire_position(&subscribed.position)),
        delta: wire_delta_format(subscribed.delta),
        sampled: subscribed.sampled,
    })
}

fn unsubscribed_body(channel: &Channel, failure: Option<&Failure>) -> Body {
    let (channel, error) = (channel.to_string(), failure.map(wire_error));
    Body::Unsubscribed(wire::Unsubscribed { channel, error })
}

fn gap_body(channel: &Channel, gap: &Gap) -> Body {
    Body::Gap(wire::Gap {
        channel: channel.to_string(),
        reason: wire_reason(gap.reason).into(),
        position: Some(wire_position(&gap.position)),
        missed: gap.missed,
    })
}

fn wire_reason(reason: GapReason) -> wire::GapReason {
    match reason {
        GapReason::Window => wire::GapReason::Window,
        GapReason::Reset => wire::GapReason::Reset,
        GapReason::Rewind => wire::GapReason::Rewind,
        GapReason::Limit => wire::GapReason::Limit,
        GapReason::Skipped => wire::GapReason::Skipped,
    }
}

fn told_body(told: &Told<'_>) -> (u32, Body) {
    match told {
        Told::Watching { request, channel } => {
            (request.0, Body::Watching(wire::Watching { channel: channel.to_string() }))
        }
        Told::Unwatched { request, channel, failure } => {
            let (channel, error) = (channel.to_string(), failure.map(wire_error));
            (optional(*request), Body::Unwatched(wire::Unwatched { channel, error }))
        }
        Told::Lost { channel } => {
            let items = vec![wire_change(&PresenceChange::loss())];
            (0, Body::Presence(wire::Presence { channel: channel.to_string(), items }))
        }
        Told::Entered { request, channel, member } => {
            let (channel, member) = (channel.to_string(), member.to_string());
            (request.0, Body::Entered(wire::Entered { channel, member }))
        }
        Told::Left { request, channel } => {
            (request.0, Body::Left(wire::Left { channel: channel.to_string() }))
        }
        Told::Members { request, channel, page } => {
            let body = wire::MemberPage {
                channel: channel.to_string(),
                items: page.members.iter().map(wire_member).collect(),
                count: page.occupancy.count,
                position: Some(wire_position(&page.occupancy.position)),
                next: page.next.map(|mark| mark.to_string()),
            };
            (request.0, Body::Members(body))
        }
    }
}

fn wire_change(change: &PresenceChange) -> wire::PresenceChange {
    let position = change.position.map(|ChangePosition { epoch, offset }| wire::Position {
        epoch: epoch.to_string(),
        offset,
    });
    let left = change.left.iter().map(|FormerMember { id, user }| wire::Member {
        member: id.to_string(),
        user: user.to_string(),
        data: None,
    });
    wire::PresenceChange {
        position,
        joined: change.joined.iter().map(wire_member).collect(),
        updated: change.updated.iter().map(wire_member).collect(),
        left: left.collect(),
        count: change.count,
        lost: change.lost,
    }
}

fn wire_member(member: &Member) -> wire::Member {
    wire::Member {
        member: member.id.to_string(),
        user: member.user.to_string(),
        data: member.data.as_ref().map(|word| word.bytes().clone()),
    }
}

fn wire_error(failure: &Failure) -> wire::Error {
    wire::Error {
        code: failure.code.number().into(),
        name: failure.code.as_str().to_owned(),
        message: failure.message.to_string(),
        retryable: failure.code.is_retryable(),
        retry_after_ms: failure.retry_after.map(millis),
        limit: failure.exceeded.as_deref().map(wire_limit),
    }
}

fn wire_limit(exceeded: &Exceeded) -> wire::Limit {
    wire::Limit { name: exceeded.limit.as_str().to_owned(), value: exceeded.value }
}

fn closing_body(disconnect: Disconnect) -> Body {
    Body::Closing(wire::Closing {
        code: disconnect.code().into(),
        name: disconnect.as_str().to_owned(),
        reconnect: disconnect.invites_back(),
    })
}
