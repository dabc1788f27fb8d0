use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::value::RawValue;
use tidewire_model::{
    Channel, Command, DeltaFormat, Direction, ErrorCode, Failure, HistoryQuery, Payload, Position,
    Request, RequestId, Resume, Since, Token,
};
use tidewire_protocol::{Decoded, ProtocolError};

use super::command_object::{
    CommandBody, CommandName, CommandObject, ConnectBody, HistoryBody, PositionBody, PublishBody,
    ResumeBody, SubscribeBody,
};
use super::object::{Object, Offset, Str};
use super::{Text, check_syntax, plain};
use crate::parse;

/// Takes a frame apart into the commands it holds.
pub(crate) fn decode(frame: &Text<'_>) -> Result<Vec<Decoded>, ProtocolError> {
    match frame.text.trim_ascii_start().as_bytes().first() {
        Some(b'{') => Ok(vec![decode_lone(frame)?]),
        Some(b'[') => decode_array(frame),
        _ => Err(parse::malformed("it is neither a JSON object nor an array of objects")),
    }
}

fn decode_lone(frame: &Text<'_>) -> Result<Decoded, ProtocolError> {
    match read(frame.text) {
        Ok(command) => Ok(request(command, frame.bytes)),
        Err(error) => {
            check_syntax(frame.text)?;
            Ok(misshapen(frame.text, &error))
        }
    }
}

/// The elements are found first and read one by one, so that a bad one does not spoil the others.
fn decode_array(frame: &Text<'_>) -> Result<Vec<Decoded>, ProtocolError> {
    let elements: Vec<&RawValue> =
        serde_json::from_str(frame.text).map_err(|error| parse::malformed(error.to_string()))?;
    parse::check_count(elements.len())?;
    let decoded = elements.iter().map(|element| match read(element.get()) {
        Ok(command) => request(command, frame.bytes),
        Err(error) => misshapen(element.get(), &error),
    });
    Ok(decoded.collect())
}

fn read(text: &str) -> serde_json::Result<CommandObject<'_>> {
    plain::publish(text).map_or_else(|| serde_json::from_str(text), Ok)
}

/// Refuses a command that is JSON, but not of the shape a command has.
fn misshapen(text: &str, error: &serde_json::Error) -> Decoded {
    let id = serde_json::from_str(text).map_or(0, |Object(CommandName { id })| id);
    // The error's own text may quote a token or a payload.
    let (line, column) = (error.line(), error.column());
    let message = format!(
        "the command is no object, or a member is repeated or of the wrong type, \
         near line {line} column {column} of it"
    );
    parse::refused(id, parse::bad_request(message))
}

fn request(object: CommandObject<'_>, frame: &Bytes) -> Decoded {
    let CommandObject { id, body, commands } = object;
    let command = match body {
        None => Err(parse::no_command()),
        Some(_) if commands > 1 => Err(parse::bad_request("an object holds one command only")),
        Some(body) => command(body, frame),
    };
    match command {
        Ok(command) => Decoded::Request(Request { id: RequestId(id), command }),
        Err(failure) => parse::refused(id, failure),
    }
}

fn command(body: CommandBody<'_>, frame: &Bytes) -> Result<Command, Failure> {
    match body {
        CommandBody::Connect(body) => connect(body),
        CommandBody::Subscribe(body) => subscribe(body),
        CommandBody::Unsubscribe(body) => {
            Ok(Command::Unsubscribe { channel: parse::channel(&body.channel)? })
        }
        CommandBody::Publish(body) => publish(&body, frame),
        CommandBody::History(body) => history(&body),
        CommandBody::Watch(body) => Ok(Command::Watch { channel: parse::channel(&body.channel)? }),
        CommandBody::Unwatch(body) => {
            Ok(Command::Unwatch { channel: parse::channel(&body.channel)? })
        }
        CommandBody::Enter(body) => {
            let word = body.data.map(|data| payload(data, frame)).transpose()?;
            parse::enter(&body.channel, word)
        }
        CommandBody::Leave(body) => Ok(Command::Leave { channel: parse::channel(&body.channel)? }),
        CommandBody::Members(body) => {
            parse::members(&body.channel, body.from.as_deref(), body.limit)
        }
        CommandBody::Ping(_) => Ok(Command::Ping),
        CommandBody::Refresh(body) => parse::refresh(token(body.token), body.channel.as_deref()),
    }
}

fn connect(body: ConnectBody<'_>) -> Result<Command, Failure> {
    let resume = body.resume.map(|Object(body)| resume(body)).transpose()?;
    parse::connect((body.token.map(token), body.ticket.map(token)), resume)
}

fn resume(body: ResumeBody<'_>) -> Result<Resume, Failure> {
    let positions = body.positions.iter().map(|Object(body)| {
        let position = position(&body.epoch, body.offset)?;
        Ok((parse::channel(&body.channel)?, position))
    });
    let positions: Vec<(Channel, Position)> = positions.collect::<Result<_, Failure>>()?;
    parse::resume(token(body.token), &body.nonce, positions)
}

fn token(Str(text): Str<'_>) -> Token {
    text.into_owned().into()
}

fn subscribe(body: SubscribeBody<'_>) -> Result<Command, Failure> {
    let since = match (&body.since, body.last) {
        (None, None) => Since::Now,
        (Some(since), None) => Since::Position(position_of(since)?),
        (None, Some(last)) => Since::Last(last),
        (Some(_), Some(_)) => {
            return Err(parse::bad_request("`subscribe` takes `since` or `last`, not both"));
        }
    };
    // A format that is not known here is as good as none: `subscribed` does not confirm it.
    let delta = body.delta.as_deref().and_then(DeltaFormat::parse);
    Ok(Command::Subscribe {
        channel: parse::channel(&body.channel)?,
        since,
        delta,
        token: parse::channel_token(body.token.map(token)),
    })
}

fn publish(body: &PublishBody<'_>, frame: &Bytes) -> Result<Command, Failure> {
    let payload = match (body.data, &body.binary) {
        (Some(data), None) => payload(data, frame)?,
        (None, Some(text)) => binary_payload(text)?,
        (None, None) => return Err(parse::no_payload()),
        (Some(_), Some(_)) => {
            return Err(parse::bad_request("`publish` takes `data` or `binary`, not both"));
        }
    };
    parse::publish(&body.channel, body.id.as_deref(), payload)
}

/// `data` lies in `frame`, and has been parsed out of it as one value.
pub(crate) fn payload(data: &RawValue, frame: &Bytes) -> Result<Payload, Failure> {
    let text = parse::unpinned(data.get().as_bytes(), frame);
    Payload::json_value(text).map_err(parse::bad_payload)
}

pub(crate) fn binary_payload(text: &str) -> Result<Payload, Failure> {
    let bytes = STANDARD.decode(text).map_err(|_| {
        Failure::new(ErrorCode::BadPayload, "`binary` is base64 with padding (RFC 4648 section 4)")
    })?;
    Ok(Payload::binary(bytes.into()))
}

fn history(body: &HistoryBody<'_>) -> Result<Command, Failure> {
    let direction = match body.direction.as_deref() {
        None | Some("backward") => Direction::Backward,
        Some("forward") => Direction::Forward,
        Some(_) => {
            return Err(parse::bad_request("`direction` is `forward` or `backward`"));
        }
    };
    let from = body.from.as_ref().map(position_of).transpose()?;
    let query = HistoryQuery { direction, from, limit: parse::history_limit(body.limit)? };
    Ok(Command::History { channel: parse::channel(&body.channel)?, query })
}

fn position_of(Object(body): &Object<PositionBody<'_>>) -> Result<Position, Failure> {
    position(&body.epoch, body.offset)
}

pub(crate) fn position(epoch: &str, Offset(offset): Offset) -> Result<Position, Failure> {
    parse::position(epoch, offset.ok_or_else(parse::bad_offset)?)
}
