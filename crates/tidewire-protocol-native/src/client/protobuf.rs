use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tidewire_model::{
    Channel, Command, Connect, Connected, DeltaFormat, Direction, Epoch, Gap, GapReason,
    HistoryQuery, NodeId, Position, Publish, Request, RequestId, Resume, SessionId, Since,
    Subscribed, Token, UserId,
};
use tidewire_protocol::{Frame, ProtocolError};

use super::event::{
    self, Closing, Content, ReachedLimit, Received, ReceivedPage, Refusal, ServerEvent, optional,
    recovery,
};
use super::{checked, presence};
use crate::parse;
use crate::protobuf::wire::command::Command as CommandBody;
use crate::protobuf::wire::event::Event as EventBody;
use crate::protobuf::{
    binary_of, delta_format, payload, push_frame, wire, wire_delta_format, wire_payload,
    wire_position,
};

pub(super) fn push_request(out: &mut Vec<u8>, request: &Request) {
    let Request { id: RequestId(id), command } = request;
    let commands = vec![wire::Command { id: *id, command: Some(command_body(command)) }];
    push_frame(out, &wire::ClientFrame { commands });
}

fn command_body(command: &Command) -> CommandBody {
    match command {
        Command::Connect(connect) => CommandBody::Connect(connect_body(connect)),
        Command::Subscribe { channel, since, delta, token } => {
            let token = token.as_ref().map(|token| token.as_str().to_owned());
            CommandBody::Subscribe(wire::Subscribe {
                token,
                ..subscribe_body(channel, since, *delta)
            })
        }
        Command::Unsubscribe { channel } => {
            CommandBody::Unsubscribe(wire::Unsubscribe { channel: channel.to_string() })
        }
        Command::Publish(Publish { channel, id, payload }) => CommandBody::Publish(wire::Publish {
            channel: channel.to_string(),
            id: id.as_ref().map(ToString::to_string),
            payload: Some(wire_payload(payload)),
        }),
        Command::History { channel, query } => CommandBody::History(history_body(channel, query)),
        Command::Watch { channel } => {
            CommandBody::Watch(wire::Watch { channel: channel.to_string() })
        }
        Command::Unwatch { channel } => {
            CommandBody::Unwatch(wire::Unwatch { channel: channel.to_string() })
        }
        Command::Enter { channel, word } => CommandBody::Enter(wire::Enter {
            channel: channel.to_string(),
            data: word.as_ref().map(|word| word.bytes().clone()),
        }),
        Command::Leave { channel } => {
            CommandBody::Leave(wire::Leave { channel: channel.to_string() })
        }
        Command::Members { channel, from, limit } => CommandBody::Members(wire::Members {
            channel: channel.to_string(),
            from: from.map(|mark| mark.to_string()),
            limit: Some(*limit),
        }),
        Command::Ping => CommandBody::Ping(wire::Ping {}),
        Command::Refresh { token, channel } => CommandBody::Refresh(wire::Refresh {
            token: token.as_str().to_owned(),
            channel: channel.as_ref().map(ToString::to_string),
        }),
    }
}

fn connect_body(connect: &Connect) -> wire::Connect {
    let resume = connect.resume.as_ref().map(|Resume { token, nonce, positions }| {
        let positions = positions.iter().map(|(channel, position)| wire::ChannelPosition {
            channel: channel.to_string(),
            position: Some(wire_position(position)),
        });
        wire::Resume {
            token: token.as_str().to_owned(),
            nonce: nonce.to_string(),
            positions: positions.collect(),
        }
    });
    let text = |token: Option<&Token>| Some(token?.as_str().to_owned());
    wire::Connect {
        token: text(connect.token.as_ref()),
        ticket: text(connect.ticket.as_ref()),
        resume,
    }
}

fn subscribe_body(channel: &Channel, since: &Since, delta: Option<DeltaFormat>) -> wire::Subscribe {
    use wire::subscribe::Start;
    let start = match since {
        Since::Now => None,
        Since::Position(position) => Some(Start::Since(wire_position(position))),
        Since::Last(last) => Some(Start::Last(*last)),
    };
    let delta = wire_delta_format(delta);
    wire::Subscribe { channel: channel.to_string(), start, delta, token: None }
}

fn history_body(channel: &Channel, query: &HistoryQuery) -> wire::History {
    let direction = match query.direction {
        Direction::Forward => wire::Direction::Forward,
        Direction::Backward => wire::Direction::Backward,
    };
    wire::History {
        channel: channel.to_string(),
        direction: direction.into(),
        from: query.from.as_ref().map(wire_position),
        limit: Some(query.limit),
    }
}

pub(super) fn decode(frame: &Frame) -> Result<Vec<ServerEvent>, ProtocolError> {
    let frame = binary_of(frame)?;
    let wire::ServerFrame { events } = wire::ServerFrame::decode(frame.clone())
        .map_err(|_| parse::malformed("it is not a ServerFrame message"))?;
    let known = events.into_iter().filter_map(|event| Some((event.id, event.event?)));
    known.map(|(id, body)| server_event(id, body, frame)).collect()
}

fn server_event(id: u32, body: EventBody, frame: &Bytes) -> Result<ServerEvent, ProtocolError> {
    let request = RequestId(id);
    Ok(match body {
        EventBody::Connected(body) => ServerEvent::Connected(connected(request, body)?),
        EventBody::Subscribed(body) => ServerEvent::Subscribed(subscribed(id, &body)?),
        EventBody::Unsubscribed(body) => ServerEvent::Unsubscribed {
            request: optional(id),
            channel: channel(&body.channel)?,
            refusal: body.error.map(refusal).transpose()?,
        },
        EventBody::Published(body) => {
            let position = position(body.position.as_ref())?;
            ServerEvent::Published { request, position, duplicate: body.duplicate }
        }
        EventBody::History(body) => {
            ServerEvent::History { request, page: history_page(body, frame)? }
        }
        EventBody::Pong(_) => ServerEvent::Pong { request },
        EventBody::Refreshed(body) => {
            ServerEvent::Refreshed { request, expires_at: body.expires_at }
        }
        EventBody::Publications(body) => publications(body, frame)?,
        EventBody::Gap(body) => gap(&body)?,
        EventBody::Reconnect(body) => ServerEvent::Reconnect {
            after: Duration::from_millis(body.after_ms),
            window: Duration::from_millis(body.window_ms),
            token: token(body.token),
            endpoints: body.endpoints,
        },
        EventBody::Expiring(body) => {
            ServerEvent::Expiring { at: body.at, closes_at: body.closes_at.max(body.at) }
        }
        EventBody::Error(body) => {
            ServerEvent::Failed { request: optional(id), refusal: refusal(body)? }
        }
        EventBody::Closing(body) => ServerEvent::Closing(closing(body)?),
        EventBody::Watching(body) => {
            ServerEvent::Watching { request, channel: channel(&body.channel)? }
        }
        EventBody::Unwatched(body) => ServerEvent::Unwatched {
            request: optional(id),
            channel: channel(&body.channel)?,
            refusal: body.error.map(refusal).transpose()?,
        },
        EventBody::Presence(body) => ServerEvent::Presence {
            channel: channel(&body.channel)?,
            changes: body.items.into_iter().map(presence::change).collect::<Result<_, _>>()?,
        },
        EventBody::Entered(body) => ServerEvent::Entered {
            request,
            channel: channel(&body.channel)?,
            member: checked(body.member.parse())?,
        },
        EventBody::Left(body) => ServerEvent::Left { request, channel: channel(&body.channel)? },
        EventBody::Members(body) => ServerEvent::Members {
            request,
            channel: channel(&body.channel)?,
            page: presence::page(body)?,
        },
    })
}

/// Without a token there is none to resume with.
fn token(text: String) -> Option<Token> {
    (!text.is_empty()).then(|| text.into())
}

fn connected(request: RequestId, body: wire::Connected) -> Result<Connected, ProtocolError> {
    Ok(Connected {
        request,
        session: checked(body.session.parse::<SessionId>())?,
        resume_token: token(body.resume_token),
        resume_window: Duration::from_millis(body.resume_window_ms),
        resumed: body.resumed,
        node: checked(NodeId::parse(&body.node))?,
        ping_interval: Duration::from_millis(body.ping_interval_ms),
        expires_at: body.expires_at,
    })
}

fn subscribed(id: u32, body: &wire::Subscribed) -> Result<Subscribed, ProtocolError> {
    Ok(Subscribed {
        request: optional(id),
        channel: channel(&body.channel)?,
        recovery: recovery(body.recovered, body.rewound, Some(reason(body.reason))),
        position: position(body.position.as_ref())?,
        delta: delta_format(body.delta),
        sampled: body.sampled,
    })
}

fn publications(body: wire::Publications, frame: &Bytes) -> Result<ServerEvent, ProtocolError> {
    let epoch = checked(Epoch::parse(&body.epoch))?;
    let items = body.items.into_iter().map(|item| received(epoch, item, frame));
    Ok(event::publications(channel(&body.channel)?, items.collect::<Result<_, _>>()?))
}

fn history_page(body: wire::HistoryPage, frame: &Bytes) -> Result<ReceivedPage, ProtocolError> {
    let publications = body.publications.into_iter().map(|item| {
        checked(received(checked(Epoch::parse(&item.epoch))?, item, frame)?.restored(None))
    });
    Ok(ReceivedPage {
        publications: publications.collect::<Result<_, _>>()?,
        top: position(body.top.as_ref())?,
        next: body.next.as_ref().map(|next| position(Some(next))).transpose()?,
    })
}

fn received(
    epoch: Epoch,
    item: wire::Publication,
    frame: &Bytes,
) -> Result<Received<Content>, ProtocolError> {
    let payload = match (item.payload, item.delta) {
        (Some(whole), _) => Content::Whole(checked(payload(&whole.data, whole.kind, frame))?),
        (None, Some(delta)) => Content::Delta(delta),
        (None, None) => return Err(parse::malformed("a publication has no payload")),
    };
    Ok(Received {
        position: Position::new(epoch, item.offset),
        time_ms: item.time,
        id: checked(item.id.as_deref().map(parse::publication_id).transpose())?,
        publisher: checked(item.user.as_deref().map(UserId::parse).transpose())?,
        payload,
    })
}

fn gap(body: &wire::Gap) -> Result<ServerEvent, ProtocolError> {
    let position = position(body.position.as_ref())?;
    let gap = Gap { reason: reason(body.reason), position, missed: body.missed };
    Ok(ServerEvent::Gap { channel: channel(&body.channel)?, gap })
}

/// A reason that this version does not know asks for the same as a reset.
fn reason(number: i32) -> GapReason {
    match wire::GapReason::try_from(number) {
        Ok(wire::GapReason::Window) => GapReason::Window,
        Ok(wire::GapReason::Rewind) => GapReason::Rewind,
        Ok(wire::GapReason::Limit) => GapReason::Limit,
        Ok(wire::GapReason::Skipped) => GapReason::Skipped,
        Ok(wire::GapReason::Reset | wire::GapReason::Unspecified) | Err(_) => GapReason::Reset,
    }
}

fn refusal(body: wire::Error) -> Result<Refusal, ProtocolError> {
    Ok(Refusal {
        code: code(body.code)?,
        name: body.name,
        message: body.message,
        retryable: body.retryable,
        retry_after: body.retry_after_ms.map(Duration::from_millis),
        limit: body.limit.map(|limit| Box::new(reached(limit))),
    })
}

fn reached(limit: wire::Limit) -> ReachedLimit {
    ReachedLimit { name: limit.name, value: limit.value }
}

fn closing(body: wire::Closing) -> Result<Closing, ProtocolError> {
    Ok(Closing { code: code(body.code)?, name: body.name, reconnect: body.reconnect })
}

fn code(number: u32) -> Result<u16, ProtocolError> {
    number.try_into().map_err(|_| parse::malformed("a code has at most 16 bits"))
}

fn channel(name: &str) -> Result<Channel, ProtocolError> {
    checked(parse::channel(name))
}

pub(super) fn position(position: Option<&wire::Position>) -> Result<Position, ProtocolError> {
    let position = position.ok_or_else(|| parse::malformed("a position is missing"))?;
    checked(parse::position(&position.epoch, position.offset))
}
