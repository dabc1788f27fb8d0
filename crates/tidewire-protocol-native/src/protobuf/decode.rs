use bytes::Bytes;
use prost::Message;
use tidewire_model::{
    Channel, Command, DeltaFormat, Direction, ErrorCode, Failure, HistoryQuery, Payload, Position,
    Request, RequestId, Resume, Since, Token,
};
use tidewire_protocol::{Decoded, ProtocolError};

use super::plain::{self, PlainPublish};
use super::wire;
use crate::parse;

/// A [`wire::ClientFrame`] whose commands are not looked into yet, so that a bad one does not spoil
/// the others and a frame of too many costs little.
#[derive(Clone, PartialEq, Message)]
struct FrameOutline {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    commands: Vec<Bytes>,
}

/// Takes a frame apart into the commands it holds.
pub(crate) fn decode(frame: &Bytes) -> Result<Vec<Decoded>, ProtocolError> {
    if let Some(plain) = plain::publish(frame) {
        return Ok(vec![decoded(plain.id, plain_publish(&plain, frame))]);
    }
    let FrameOutline { commands } = FrameOutline::decode(frame.clone())
        .map_err(|_| parse::malformed("it is not a ClientFrame message"))?;
    parse::check_count(commands.len())?;
    Ok(commands.into_iter().map(|bytes| request(bytes, frame)).collect())
}

fn request(bytes: Bytes, frame: &Bytes) -> Decoded {
    let mut message = wire::Command::default();
    // What was read before the error stays, so that the id can still be told.
    let merged = message.merge(bytes);
    let id = message.id;
    let command = match (merged, message.command) {
        (Err(_), _) => Err(parse::bad_request("the command is not a Command message")),
        (Ok(()), None) => Err(parse::no_command()),
        (Ok(()), Some(body)) => command(body, frame),
    };
    decoded(id, command)
}

fn decoded(id: u32, command: Result<Command, Failure>) -> Decoded {
    match command {
        Ok(command) => Decoded::Request(Request { id: RequestId(id), command }),
        Err(failure) => parse::refused(id, failure),
    }
}

fn command(body: wire::command::Command, frame: &Bytes) -> Result<Command, Failure> {
    use wire::command::Command as Body;
    match body {
        Body::Connect(body) => {
            let credentials = (body.token.map(Token::from), body.ticket.map(Token::from));
            parse::connect(credentials, body.resume.map(resume).transpose()?)
        }
        Body::Subscribe(body) => subscribe(body),
        Body::Unsubscribe(body) => {
            Ok(Command::Unsubscribe { channel: parse::channel(&body.channel)? })
        }
        Body::Publish(body) => publish(&body, frame),
        Body::History(body) => history(&body),
        Body::Watch(body) => Ok(Command::Watch { channel: parse::channel(&body.channel)? }),
        Body::Unwatch(body) => Ok(Command::Unwatch { channel: parse::channel(&body.channel)? }),
        Body::Enter(body) => {
            let word = body.data.map(parse::json_payload).transpose()?;
            parse::enter(&body.channel, word)
        }
        Body::Leave(body) => Ok(Command::Leave { channel: parse::channel(&body.channel)? }),
        Body::Members(body) => parse::members(&body.channel, body.from.as_deref(), body.limit),
        Body::Ping(wire::Ping {}) => Ok(Command::Ping),
        Body::Refresh(body) => parse::refresh(body.token.into(), body.channel.as_deref()),
    }
}

fn resume(body: wire::Resume) -> Result<Resume, Failure> {
    let positions = body.positions.iter().map(|entry| {
        let position = position(&entry.position.clone().unwrap_or_default())?;
        Ok((parse::channel(&entry.channel)?, position))
    });
    let positions: Vec<(Channel, Position)> = positions.collect::<Result<_, Failure>>()?;
    parse::resume(body.token.into(), &body.nonce, positions)
}

fn subscribe(body: wire::Subscribe) -> Result<Command, Failure> {
    let since = match &body.start {
        None => Since::Now,
        Some(wire::subscribe::Start::Since(since)) => Since::Position(position(since)?),
        Some(wire::subscribe::Start::Last(last)) => Since::Last(*last),
    };
    let delta = delta_format(body.delta);
    Ok(Command::Subscribe {
        channel: parse::channel(&body.channel)?,
        since,
        delta,
        token: parse::channel_token(body.token.map(Token::from)),
    })
}

/// A format that is not known here is as good as none: `Subscribed` does not confirm it.
pub(crate) fn delta_format(number: i32) -> Option<DeltaFormat> {
    match wire::DeltaFormat::try_from(number) {
        Ok(wire::DeltaFormat::Fossil) => Some(DeltaFormat::Fossil),
        Ok(wire::DeltaFormat::Unspecified) | Err(_) => None,
    }
}

fn publish(body: &wire::Publish, frame: &Bytes) -> Result<Command, Failure> {
    let wire::Payload { data, kind } = body.payload.as_ref().ok_or_else(parse::no_payload)?;
    parse::publish(&body.channel, body.id.as_deref(), payload(data, *kind, frame)?)
}

fn plain_publish(body: &PlainPublish<'_>, frame: &Bytes) -> Result<Command, Failure> {
    parse::publish(body.channel, body.publication_id, payload(body.data, body.kind, frame)?)
}

/// `data` lies in `frame`.
pub(crate) fn payload(data: &[u8], kind: i32, frame: &Bytes) -> Result<Payload, Failure> {
    let data = parse::unpinned(data, frame);
    match wire::PayloadKind::try_from(kind) {
        Ok(wire::PayloadKind::Json) => parse::json_payload(data),
        Ok(wire::PayloadKind::Binary) => Ok(Payload::binary(data)),
        Err(_) => Err(Failure::new(ErrorCode::BadPayload, "there is no such kind of payload")),
    }
}

fn history(body: &wire::History) -> Result<Command, Failure> {
    let direction = match wire::Direction::try_from(body.direction) {
        Ok(wire::Direction::Backward) => Direction::Backward,
        Ok(wire::Direction::Forward) => Direction::Forward,
        Err(_) => return Err(parse::bad_request("`direction` is forward or backward")),
    };
    let from = body.from.as_ref().map(position).transpose()?;
    let query = HistoryQuery { direction, from, limit: parse::history_limit(body.limit)? };
    Ok(Command::History { channel: parse::channel(&body.channel)?, query })
}

pub(crate) fn position(position: &wire::Position) -> Result<Position, Failure> {
    parse::position(&position.epoch, position.offset)
}
