use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tidewire_model::{
    Channel, Connected, Disconnect, Encoding, Epoch, Event, Exceeded, Failure, Gap, HistoryPage,
    Payload, Position, PresenceChange, Publication, Recovery, RequestId, Subscribed, Token,
};

use super::command_object::ChannelBody;
use super::event_object::{
    ClosingBody, ConnectedBody, EnteredBody, ErrorBody, EventBody, ExpiringBody, GapBody,
    LimitBody, MemberPageBody, PointBody, PongBody, PresenceBody, PublishedBody, ReconnectBody,
    RefreshedBody, SubscribedBody, UnsubscribedBody,
};
use super::push_value;
use crate::assembly::{Assembly, Framing};
use crate::millis;
use crate::presence::{self, Told};
use crate::publications::{Content, EventWriter, push_publications};

pub(crate) struct JsonWriter;

impl EventWriter for JsonWriter {
    const FRAMING: Framing = Framing::Json;
    const ENCODING: Encoding = Encoding::NativeJson;

    fn head(channel: &Channel, epoch: Epoch) -> Vec<u8> {
        let mut head = Vec::with_capacity(channel.as_str().len() + 64);
        if let Some(watched) = channel.watched() {
            head.extend_from_slice(br#"{"presence":{"channel":"#);
            push_value(&mut head, &watched.as_str());
            head.extend_from_slice(br#","items":["#);
            return head;
        }
        head.extend_from_slice(br#"{"publications":{"channel":"#);
        push_value(&mut head, &channel.as_str());
        head.extend_from_slice(br#","epoch":""#);
        head.extend_from_slice(epoch.as_str().as_bytes());
        head.extend_from_slice(br#"","items":["#);
        head
    }

    fn item(publication: &Publication, content: Content<'_>) -> Vec<u8> {
        if publication.channel.channel.is_reserved() {
            return publication.payload.bytes().to_vec();
        }
        let mut item = Vec::with_capacity(publication.payload.len() + 256);
        item.push(b'{');
        push_publication(&mut item, publication, content);
        item
    }

    fn push_batch(out: &mut Vec<u8>, head: &[u8], items: &[&[u8]]) {
        out.reserve(
            head.len() + items.iter().map(|item| item.len() + 1).sum::<usize>() + TAIL.len(),
        );
        out.extend_from_slice(head);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(item);
        }
        out.extend_from_slice(TAIL);
    }

    fn only_item<'a>(batch: &'a [u8], head: &[u8]) -> &'a [u8] {
        &batch[head.len()..batch.len() - TAIL.len()]
    }

    fn push_event(assembly: &mut Assembly<'_>, event: &Event) {
        if let Some(told) = presence::told(event) {
            let (id, body) = told_body(&told);
            return push_value(assembly.part(), &OutgoingEvent { id, body: &body });
        }
        let (id, body) = match event {
            Event::Publications { publications, deltas, .. } => {
                return push_publications::<Self>(assembly, publications, *deltas);
            }
            Event::History { request, page } => {
                return push_history(assembly.part(), *request, page);
            }
            Event::Connected(connected) => (connected.request.0, connected_body(connected)),
            Event::Subscribed(subscribed) => {
                (optional(subscribed.request), subscribed_body(subscribed))
            }
            Event::Published { request, position, duplicate } => {
                (request.0, published_body(position, *duplicate))
            }
            Event::Pong { request } => (request.0, EventBody::Pong(PongBody {})),
            Event::Refreshed { request, expires_at } => {
                (request.0, EventBody::Refreshed(RefreshedBody { expires_at: *expires_at }))
            }
            Event::Unsubscribed { request, channel, failure } => {
                (optional(*request), unsubscribed_body(channel, failure.as_ref()))
            }
            Event::Gap { channel, gap } => (0, gap_body(channel, gap)),
            Event::Reconnect { after, window, token, endpoints } => {
                (0, reconnect_body((*after, *window), token.as_ref(), endpoints))
            }
            Event::Expiring { at, closes_at } => {
                (0, EventBody::Expiring(ExpiringBody { at: *at, closes_at: *closes_at }))
            }
            Event::Failed { request, failure } => {
                (optional(*request), EventBody::Error(error_body(failure)))
            }
            Event::Closing(disconnect) => (0, closing_body(*disconnect)),
            // Told above.
            Event::Entered { .. } | Event::Left { .. } | Event::Members { .. } => return,
        };
        push_value(assembly.part(), &OutgoingEvent { id, body: &body });
    }
}

/// Ends a batch.
const TAIL: &[u8] = b"]}}";

#[derive(Serialize)]
struct OutgoingEvent<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    id: u32,
    #[serde(flatten)]
    body: &'a EventBody<'a>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
pub(crate) fn is_zero(id: &u32) -> bool {
    *id == 0
}

fn optional(request: Option<RequestId>) -> u32 {
    request.map_or(0, |RequestId(id)| id)
}

/// Appends the members of a publication and the bracket that ends it. The payload is copied as it
/// is: parsing it into a value and back would change numbers and the order of members.
fn push_publication(out: &mut Vec<u8>, publication: &Publication, content: Content<'_>) {
    let Publication { position, id, time_ms, publisher, payload, .. } = publication;
    write!(out, r#""offset":{},"time":{time_ms}"#, position.offset)
        .expect("writing to memory does not fail");
    if let Some(id) = id {
        out.extend_from_slice(br#","id":"#);
        push_value(out, &id.as_str());
    }
    if let Some(user) = publisher {
        out.extend_from_slice(br#","user":"#);
        push_value(out, &user.as_str());
    }
    match (content, payload) {
        (Content::Plain, Payload::Json(text)) => {
            out.extend_from_slice(br#","data":"#);
            out.extend_from_slice(text.as_bytes());
        }
        (Content::Base, Payload::Json(text)) => push_text(out, "text", text.as_bytes()),
        (Content::Plain | Content::Base, Payload::Binary(bytes)) => {
            push_base64(out, "binary", bytes);
        }
        (Content::Delta(delta), Payload::Json(_)) => push_text(out, "delta", delta),
        (Content::Delta(delta), Payload::Binary(_)) => push_base64(out, "binary_delta", delta),
    }
    out.push(b'}');
}

/// Appends a member that holds bytes of JSON text: UTF-8, though nobody has looked again.
fn push_text(out: &mut Vec<u8>, name: &str, text: &[u8]) {
    push_member(out, name, &String::from_utf8_lossy(text));
}

fn push_base64(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    push_member(out, name, &STANDARD.encode(bytes));
}

fn push_member(out: &mut Vec<u8>, name: &str, value: &str) {
    write!(out, r#","{name}":"#).expect("writing to memory does not fail");
    push_value(out, &value);
}

fn push_history(out: &mut Vec<u8>, RequestId(id): RequestId, page: &HistoryPage) {
    write!(out, r#"{{"id":{id},"history":{{"publications":["#)
        .expect("writing to memory does not fail");
    for (index, publication) in page.publications.iter().enumerate() {
        let separator = if index == 0 { "" } else { "," };
        let epoch = publication.position.epoch;
        write!(out, r#"{separator}{{"epoch":"{epoch}","#).expect("writing to memory does not fail");
        push_publication(out, publication, Content::Plain);
    }
    out.extend_from_slice(br#"],"top":"#);
    push_value(out, &point(&page.top));
    if let Some(next) = &page.next {
        out.extend_from_slice(br#","next":"#);
        push_value(out, &point(next));
    }
    out.extend_from_slice(b"}}");
}

fn point(position: &Position) -> PointBody<'_> {
    PointBody { epoch: position.epoch.as_str().into(), offset: position.offset }
}

fn connected_body(connected: &Connected) -> EventBody<'_> {
    EventBody::Connected(ConnectedBody {
        session: connected.session.to_string().into(),
        resume_token: connected.resume_token.as_ref().map(|token| token.as_str().into()),
        resume_window_ms: millis(connected.resume_window),
        resumed: connected.resumed,
        node: connected.node.as_str().into(),
        ping_interval_ms: millis(connected.ping_interval),
        expires_at: connected.expires_at,
    })
}

fn subscribed_body(subscribed: &Subscribed) -> EventBody<'_> {
    let (recovered, reason) = match subscribed.recovery {
        Recovery::NotAsked => (None, None),
        Recovery::Recovered | Recovery::Rewound => (Some(true), None),
        Recovery::Failed(reason) => (Some(false), Some(reason.as_str().into())),
    };
    EventBody::Subscribed(SubscribedBody {
        channel: subscribed.channel.as_str().into(),
        recovered,
        rewound: subscribed.recovery == Recovery::Rewound,
        reason,
        epoch: subscribed.position.epoch.as_str().into(),
        offset: subscribed.position.offset,
        delta: subscribed.delta.map(|format| format.as_str().into()),
        sampled: subscribed.sampled,
    })
}

fn published_body(position: &Position, duplicate: bool) -> EventBody<'_> {
    let epoch = position.epoch.as_str().into();
    EventBody::Published(PublishedBody { epoch, offset: position.offset, duplicate })
}

fn unsubscribed_body<'a>(channel: &'a Channel, failure: Option<&'a Failure>) -> EventBody<'a> {
    let error = failure.map(error_body);
    EventBody::Unsubscribed(UnsubscribedBody { channel: channel.as_str().into(), error })
}

fn gap_body<'a>(channel: &'a Channel, gap: &'a Gap) -> EventBody<'a> {
    EventBody::Gap(GapBody {
        channel: channel.as_str().into(),
        reason: gap.reason.as_str().into(),
        epoch: gap.position.epoch.as_str().into(),
        offset: gap.position.offset,
        missed: gap.missed,
    })
}

fn reconnect_body<'a>(
    (after, window): (Duration, Duration),
    token: Option<&'a Token>,
    endpoints: &'a [String],
) -> EventBody<'a> {
    let (after_ms, window_ms) = (millis(after), millis(window));
    let token = token.map(|token| token.as_str().into());
    let endpoints = endpoints.iter().map(|url| url.as_str().into()).collect();
    EventBody::Reconnect(ReconnectBody { after_ms, window_ms, token, endpoints })
}

fn told_body<'a>(told: &'a Told<'a>) -> (u32, EventBody<'a>) {
    let channel_body = |channel: &'a Channel| ChannelBody { channel: channel.as_str().into() };
    match told {
        Told::Watching { request, channel } => {
            (request.0, EventBody::Watching(channel_body(channel)))
        }
        Told::Unwatched { request, channel, failure } => {
            let (channel, error) = (channel.as_str().into(), failure.map(error_body));
            (optional(*request), EventBody::Unwatched(UnsubscribedBody { channel, error }))
        }
        Told::Lost { channel } => {
            let (channel, items) = (channel.as_str().into(), vec![PresenceChange::loss()]);
            (0, EventBody::Presence(PresenceBody { channel, items }))
        }
        Told::Entered { request, channel, member } => {
            let (channel, member) = (channel.as_str().into(), *member);
            (request.0, EventBody::Entered(EnteredBody { channel, member }))
        }
        Told::Left { request, channel } => (request.0, EventBody::Left(channel_body(channel))),
        Told::Members { request, channel, page } => {
            let position = &page.occupancy.position;
            let body = MemberPageBody {
                channel: channel.as_str().into(),
                items: page.members.clone(),
                count: page.occupancy.count,
                epoch: position.epoch.as_str().into(),
                offset: position.offset,
                next: page.next.map(|mark| mark.to_string().into()),
            };
            (request.0, EventBody::Members(body))
        }
    }
}

fn error_body(failure: &Failure) -> ErrorBody<'_> {
    ErrorBody {
        code: failure.code.number(),
        name: failure.code.as_str().into(),
        message: (&*failure.message).into(),
        retryable: failure.code.is_retryable(),
        retry_after_ms: failure.retry_after.map(millis),
        limit: failure.exceeded.as_deref().map(limit_body),
    }
}

fn limit_body(exceeded: &Exceeded) -> LimitBody<'_> {
    LimitBody { name: exceeded.limit.as_str().into(), value: exceeded.value }
}

fn closing_body<'a>(disconnect: Disconnect) -> EventBody<'a> {
    EventBody::Closing(ClosingBody {
        code: disconnect.code(),
        name: disconnect.as_str().into(),
        reconnect: disconnect.invites_back(),
    })
}
