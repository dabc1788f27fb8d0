use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use tidewire_model::{
    Channel, Command, Connected, DeltaFormat, Direction, Epoch, Gap, GapReason, HistoryQuery,
    MemberPage, NodeId, Occupancy, Payload, Position, Publish, Request, RequestId, Resume,
    SessionId, Since, Subscribed, Token, UserId,
};
use tidewire_protocol::{Frame, ProtocolError};

use super::checked;
use super::event::{
    self, Closing, Content, ReachedLimit, Received, ReceivedPage, Refusal, ServerEvent, optional,
    recovery,
};
use crate::json::command_object::{
    ChannelBody, ChannelPositionBody, CommandBody, ConnectBody, EnterBody, HistoryBody,
    MembersBody, PingBody, PositionBody, PublishBody, RefreshBody, ResumeBody, SubscribeBody,
    UnsubscribeBody,
};
use crate::json::event_object::{
    ClosingBody, ConnectedBody, ErrorBody, EventBody, EventObject, GapBody, HistoryPageBody,
    LimitBody, MemberPageBody, PointBody, PublicationBody, PublicationsBody, SubscribedBody,
};
use crate::json::object::{Object, Offset};
use crate::json::{binary_payload, check_syntax, is_zero, payload, push_value, text_of};
use crate::parse;

#[derive(Serialize)]
struct OutgoingCommand<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    id: u32,
    #[serde(flatten)]
    body: CommandBody<'a>,
}

pub(super) fn push_request(out: &mut Vec<u8>, request: &Request) {
    let Request { id: RequestId(id), command } = request;
    let encoded = match command {
        Command::Publish(Publish { payload: Payload::Binary(bytes), .. }) => STANDARD.encode(bytes),
        _ => String::new(),
    };
    push_value(out, &OutgoingCommand { id: *id, body: command_body(command, &encoded) });
}

/// `encoded` is the payload of a `publish` that is not JSON.
fn command_body<'a>(command: &'a Command, encoded: &'a str) -> CommandBody<'a> {
    match command {
        Command::Connect(connect) => CommandBody::Connect(ConnectBody {
            token: connect.token.as_ref().map(|token| token.as_str().into()),
            ticket: connect.ticket.as_ref().map(|ticket| ticket.as_str().into()),
            resume: connect.resume.as_ref().map(|resume| Object(resume_body(resume))),
        }),
        Command::Subscribe { channel, since, delta, token } => {
            CommandBody::Subscribe(subscribe_body(channel, since, *delta, token.as_ref()))
        }
        Command::Unsubscribe { channel } => {
            CommandBody::Unsubscribe(UnsubscribeBody { channel: channel.as_str().into() })
        }
        Command::Publish(publish) => CommandBody::Publish(publish_body(publish, encoded)),
        Command::History { channel, query } => CommandBody::History(history_body(channel, query)),
        Command::Watch { channel } => CommandBody::Watch(channel_body(channel)),
        Command::Unwatch { channel } => CommandBody::Unwatch(channel_body(channel)),
        Command::Enter { channel, word } => CommandBody::Enter(EnterBody {
            channel: channel.as_str().into(),
            data: word.as_ref().map(|word| raw_value(word.bytes())),
        }),
        Command::Leave { channel } => CommandBody::Leave(channel_body(channel)),
        Command::Members { channel, from, limit } => CommandBody::Members(MembersBody {
            channel: channel.as_str().into(),
            from: from.map(|mark| mark.to_string().into()),
            limit: Some(*limit),
        }),
        Command::Ping => CommandBody::Ping(PingBody {}),
        Command::Refresh { token, channel } => CommandBody::Refresh(RefreshBody {
            token: token.as_str().into(),
            channel: channel.as_ref().map(|channel| channel.as_str().into()),
        }),
    }
}

fn channel_body(channel: &Channel) -> ChannelBody<'_> {
    ChannelBody { channel: channel.as_str().into() }
}

fn resume_body(resume: &Resume) -> ResumeBody<'_> {
    let positions = resume.positions.iter().map(|(channel, position)| {
        Object(ChannelPositionBody {
            channel: channel.as_str().into(),
            epoch: position.epoch.as_str().into(),
            offset: Offset(Some(position.offset)),
        })
    });
    ResumeBody {
        token: resume.token.as_str().into(),
        nonce: resume.nonce.to_string().into(),
        positions: positions.collect(),
    }
}

fn subscribe_body<'a>(
    channel: &'a Channel,
    since: &'a Since,
    delta: Option<DeltaFormat>,
    token: Option<&'a Token>,
) -> SubscribeBody<'a> {
    let (since, last) = match since {
        Since::Now => (None, None),
        Since::Position(position) => (Some(position_body(position)), None),
        Since::Last(last) => (None, Some(*last)),
    };
    let delta = delta.map(|format| format.as_str().into());
    let token = token.map(|token| token.as_str().into());
    SubscribeBody { channel: channel.as_str().into(), since, last, delta, token }
}

fn publish_body<'a>(publish: &'a Publish, encoded: &'a str) -> PublishBody<'a> {
    let (data, binary) = match &publish.payload {
        Payload::Json(text) => (Some(raw_value(text.as_bytes())), None),
        Payload::Binary(_) => (None, Some(encoded.into())),
    };
    PublishBody {
        channel: publish.channel.as_str().into(),
        id: publish.id.as_ref().map(|id| id.as_str().into()),
        data,
        binary,
    }
}

fn raw_value(text: &[u8]) -> &RawValue {
    serde_json::from_slice(text).expect("a JSON payload holds one JSON value")
}

fn history_body<'a>(channel: &'a Channel, query: &'a HistoryQuery) -> HistoryBody<'a> {
    let direction = match query.direction {
        Direction::Forward => "forward",
        Direction::Backward => "backward",
    };
    HistoryBody {
        channel: channel.as_str().into(),
        direction: Some(direction.into()),
        from: query.from.as_ref().map(position_body),
        limit: Some(query.limit),
    }
}

fn position_body(position: &Position) -> Object<PositionBody<'_>> {
    let epoch = position.epoch.as_str().into();
    Object(PositionBody { epoch, offset: Offset(Some(position.offset)) })
}

pub(super) fn decode(frame: &Frame) -> Result<Vec<ServerEvent>, ProtocolError> {
    let frame = text_of(frame)?;
    let is_array = frame.text.trim_ascii_start().starts_with('[');
    let events: Vec<EventObject<'_>> =
        if is_array { parse_events(frame.text)? } else { vec![parse_events(frame.text)?] };
    let known = events.into_iter().filter_map(|EventObject { id, body }| Some((id, body?)));
    known.map(|(id, body)| server_event(id, body, frame.bytes)).collect()
}

fn parse_events<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Result<T, ProtocolError> {
    serde_json::from_str(text).map_err(|error| {
        // The error's own text may quote a token or a payload.
        let (line, column) = (error.line(), error.column());
        check_syntax(text).err().unwrap_or_else(|| {
            parse::malformed(format!("an event is misshapen near line {line} column {column}"))
        })
    })
}

fn server_event(id: u32, body: EventBody<'_>, frame: &Bytes) -> Result<ServerEvent, ProtocolError> {
    let request = RequestId(id);
    Ok(match body {
        EventBody::Connected(body) => ServerEvent::Connected(connected(request, body)?),
        EventBody::Subscribed(body) => ServerEvent::Subscribed(subscribed(id, &body)?),
        EventBody::Unsubscribed(body) => ServerEvent::Unsubscribed {
            request: optional(id),
            channel: channel(&body.channel)?,
            refusal: body.error.map(refusal),
        },
        EventBody::Published(body) => {
            let position = position(&body.epoch, body.offset)?;
            ServerEvent::Published { request, position, duplicate: body.duplicate }
        }
        EventBody::History(body) => {
            ServerEvent::History { request, page: history_page(&body, frame)? }
        }
        EventBody::Pong(_) => ServerEvent::Pong { request },
        EventBody::Refreshed(body) => {
            ServerEvent::Refreshed { request, expires_at: body.expires_at }
        }
        EventBody::Publications(body) => publications(&body, frame)?,
        EventBody::Gap(body) => gap(&body)?,
        EventBody::Reconnect(body) => ServerEvent::Reconnect {
            after: Duration::from_millis(body.after_ms),
            window: Duration::from_millis(body.window_ms),
            token: body.token.map(|token| token.0.into_owned().into()),
            endpoints: body.endpoints.into_iter().map(|url| url.0.into_owned()).collect(),
        },
        EventBody::Expiring(body) => {
            ServerEvent::Expiring { at: body.at, closes_at: body.closes_at.max(body.at) }
        }
        EventBody::Error(body) => {
            ServerEvent::Failed { request: optional(id), refusal: refusal(body) }
        }
        EventBody::Closing(body) => ServerEvent::Closing(closing(body)),
        EventBody::Watching(body) => {
            ServerEvent::Watching { request, channel: channel(&body.channel)? }
        }
        EventBody::Unwatched(body) => ServerEvent::Unwatched {
            request: optional(id),
            channel: channel(&body.channel)?,
            refusal: body.error.map(refusal),
        },
        EventBody::Presence(body) => {
            ServerEvent::Presence { channel: channel(&body.channel)?, changes: body.items }
        }
        EventBody::Entered(body) => {
            ServerEvent::Entered { request, channel: channel(&body.channel)?, member: body.member }
        }
        EventBody::Left(body) => ServerEvent::Left { request, channel: channel(&body.channel)? },
        EventBody::Members(body) => members(request, body)?,
    })
}

fn members(request: RequestId, body: MemberPageBody<'_>) -> Result<ServerEvent, ProtocolError> {
    let position = position(&body.epoch, body.offset)?;
    let page = MemberPage {
        members: body.items,
        occupancy: Occupancy { count: body.count, position },
        next: checked(body.next.as_deref().map(parse::mark).transpose())?,
    };
    Ok(ServerEvent::Members { request, channel: channel(&body.channel)?, page })
}

fn connected(request: RequestId, body: ConnectedBody<'_>) -> Result<Connected, ProtocolError> {
    Ok(Connected {
        request,
        session: checked(body.session.parse::<SessionId>())?,
        resume_token: body.resume_token.map(|token| token.0.into_owned().into()),
        resume_window: Duration::from_millis(body.resume_window_ms),
        resumed: body.resumed,
        node: checked(NodeId::parse(&body.node))?,
        ping_interval: Duration::from_millis(body.ping_interval_ms),
        expires_at: body.expires_at,
    })
}

fn subscribed(id: u32, body: &SubscribedBody<'_>) -> Result<Subscribed, ProtocolError> {
    let reason = body.reason.as_deref().map(reason);
    Ok(Subscribed {
        request: optional(id),
        channel: channel(&body.channel)?,
        recovery: recovery(body.recovered, body.rewound, reason),
        position: position(&body.epoch, body.offset)?,
        delta: body.delta.as_deref().and_then(DeltaFormat::parse),
        sampled: body.sampled,
    })
}

fn publications(body: &PublicationsBody<'_>, frame: &Bytes) -> Result<ServerEvent, ProtocolError> {
    let epoch = checked(Epoch::parse(&body.epoch))?;
    let items = body.items.iter().map(|item| received(epoch, item, frame));
    Ok(event::publications(channel(&body.channel)?, items.collect::<Result<_, _>>()?))
}

fn history_page(body: &HistoryPageBody<'_>, frame: &Bytes) -> Result<ReceivedPage, ProtocolError> {
    let publications = body.publications.iter().map(|item| {
        let epoch = item.epoch.as_deref().unwrap_or_default();
        checked(received(checked(Epoch::parse(epoch))?, item, frame)?.restored(None))
    });
    let point = |point: &PointBody<'_>| position(&point.epoch, point.offset);
    Ok(ReceivedPage {
        publications: publications.collect::<Result<_, _>>()?,
        top: point(&body.top)?,
        next: body.next.as_ref().map(point).transpose()?,
    })
}

fn received(
    epoch: Epoch,
    item: &PublicationBody<'_>,
    frame: &Bytes,
) -> Result<Received<Content>, ProtocolError> {
    let payload = content(item, frame)?;
    Ok(Received {
        position: Position::new(epoch, item.offset),
        time_ms: item.time,
        id: checked(item.id.as_deref().map(parse::publication_id).transpose())?,
        publisher: checked(item.user.as_deref().map(UserId::parse).transpose())?,
        payload,
    })
}

fn content(item: &PublicationBody<'_>, frame: &Bytes) -> Result<Content, ProtocolError> {
    if let Some(data) = item.data {
        return checked(payload(data, frame)).map(Content::Whole);
    }
    if let Some(text) = &item.binary {
        return checked(binary_payload(text)).map(Content::Whole);
    }
    if let Some(text) = &item.text {
        return checked(parse::json_payload(text.as_bytes().to_vec().into())).map(Content::Whole);
    }
    if let Some(text) = &item.delta {
        return Ok(Content::Delta(text.as_bytes().to_vec().into()));
    }
    let encoded = item.binary_delta.as_ref();
    let encoded = encoded.ok_or_else(|| parse::malformed("a publication has no payload"))?;
    checked(STANDARD.decode(encoded.as_bytes())).map(|delta| Content::Delta(delta.into()))
}

fn gap(body: &GapBody<'_>) -> Result<ServerEvent, ProtocolError> {
    let position = position(&body.epoch, body.offset)?;
    let gap = Gap { reason: reason(&body.reason), position, missed: body.missed };
    Ok(ServerEvent::Gap { channel: channel(&body.channel)?, gap })
}

/// A reason that this version does not know asks for the same as a reset.
fn reason(name: &str) -> GapReason {
    match name {
        "window" => GapReason::Window,
        "rewind" => GapReason::Rewind,
        "limit" => GapReason::Limit,
        "skipped" => GapReason::Skipped,
        _ => GapReason::Reset,
    }
}

fn refusal(body: ErrorBody<'_>) -> Refusal {
    Refusal {
        code: body.code,
        name: body.name.0.into_owned(),
        message: body.message.0.into_owned(),
        retryable: body.retryable,
        retry_after: body.retry_after_ms.map(Duration::from_millis),
        limit: body.limit.map(|limit| Box::new(reached(limit))),
    }
}

fn reached(limit: LimitBody<'_>) -> ReachedLimit {
    ReachedLimit { name: limit.name.0.into_owned(), value: limit.value }
}

fn closing(body: ClosingBody<'_>) -> Closing {
    Closing { code: body.code, name: body.name.0.into_owned(), reconnect: body.reconnect }
}

fn channel(name: &str) -> Result<Channel, ProtocolError> {
    checked(parse::channel(name))
}

fn position(epoch: &str, offset: u64) -> Result<Position, ProtocolError> {
    checked(parse::position(epoch, offset))
}
