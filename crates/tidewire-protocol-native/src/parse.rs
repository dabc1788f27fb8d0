//! What a client says, checked: the rules both encodings share.
//!
//! Each function turns what was on the wire into a type that carries the proof, or says with the
//! right code why it cannot be one.

use bytes::Bytes;
use tidewire_model::{
    Channel, Command, Connect, Epoch, ErrorCode, Failure, InvalidPayload, MemberWord, PageMark,
    Payload, Position, PublicationId, Publish, RequestId, Resume, SessionNonce, Token,
};
use tidewire_protocol::{Decoded, ProtocolError};

use crate::{DEFAULT_HISTORY_LIMIT, MAX_COMMANDS};

pub(crate) fn channel(name: &str) -> Result<Channel, Failure> {
    Channel::parse(name).map_err(|error| Failure::new(ErrorCode::BadChannel, error.to_string()))
}

pub(crate) fn position(epoch: &str, offset: u64) -> Result<Position, Failure> {
    let epoch = Epoch::parse(epoch)
        .map_err(|error| Failure::new(ErrorCode::BadPosition, error.to_string()))?;
    if offset > Position::MAX_OFFSET {
        return Err(bad_offset());
    }
    Ok(Position::new(epoch, offset))
}

pub(crate) fn bad_offset() -> Failure {
    Failure::new(ErrorCode::BadPosition, "an offset is a whole number from 0 to 2^53 - 1")
}

pub(crate) fn publication_id(text: &str) -> Result<PublicationId, Failure> {
    PublicationId::parse(text)
        .map_err(|error| Failure::new(ErrorCode::BadPublicationId, error.to_string()))
}

pub(crate) fn json_payload(text: Bytes) -> Result<Payload, Failure> {
    Payload::json(text).map_err(bad_payload)
}

pub(crate) fn bad_payload(error: InvalidPayload) -> Failure {
    Failure::new(ErrorCode::BadPayload, error.to_string())
}

pub(crate) fn history_limit(limit: Option<u32>) -> Result<u32, Failure> {
    match limit.unwrap_or(DEFAULT_HISTORY_LIMIT) {
        0 => Err(bad_request("`limit` is at least 1")),
        limit => Ok(limit),
    }
}

pub(crate) fn connect(
    (token, ticket): (Option<Token>, Option<Token>),
    resume: Option<Resume>,
) -> Result<Command, Failure> {
    let [token, ticket] = [token, ticket].map(|one| one.filter(|text| !text.is_empty()));
    if token.is_none() && ticket.is_none() && resume.is_none() {
        return Err(bad_request("`connect` takes a `token` or a `ticket`, a `resume`, or both"));
    }
    if token.is_some() && ticket.is_some() {
        return Err(bad_request("`token` and `ticket` exclude each other"));
    }
    Ok(Command::Connect(Connect { token, ticket, resume }))
}

pub(crate) fn resume(
    token: Token,
    nonce: &str,
    positions: Vec<(Channel, Position)>,
) -> Result<Resume, Failure> {
    if token.is_empty() {
        return Err(bad_request("`resume` takes the `token` of the session to resume"));
    }
    let nonce: SessionNonce =
        nonce.parse().map_err(|_| bad_request("`nonce` is 32 hexadecimal digits"))?;
    Ok(Resume { token, nonce, positions })
}

/// An empty token is none, as in `connect`.
pub(crate) fn channel_token(token: Option<Token>) -> Option<Token> {
    token.filter(|token| !token.is_empty())
}

pub(crate) fn refresh(token: Token, channel: Option<&str>) -> Result<Command, Failure> {
    if token.is_empty() {
        return Err(bad_request("`refresh` takes a `token`"));
    }
    Ok(Command::Refresh { token, channel: channel.map(self::channel).transpose()? })
}

pub(crate) fn no_command() -> Failure {
    let message = "this version knows connect, subscribe, unsubscribe, publish, history, watch, \
                   unwatch, enter, leave, members, ping and refresh, and found none of them";
    Failure::new(ErrorCode::UnknownCommand, message)
}

pub(crate) fn publish(
    channel: &str,
    id: Option<&str>,
    payload: Payload,
) -> Result<Command, Failure> {
    Ok(Command::Publish(Publish {
        channel: self::channel(channel)?,
        id: id.map(publication_id).transpose()?,
        payload,
    }))
}

pub(crate) fn enter(channel: &str, word: Option<Payload>) -> Result<Command, Failure> {
    let channel = self::channel(channel)?;
    let word = match word {
        None => None,
        Some(payload) => Some(MemberWord::of(&payload).ok_or_else(|| {
            Failure::new(ErrorCode::BadPayload, "what a member says of itself is JSON")
        })?),
    };
    Ok(Command::Enter { channel, word })
}

pub(crate) fn members(
    channel: &str,
    from: Option<&str>,
    limit: Option<u32>,
) -> Result<Command, Failure> {
    let from = from.map(mark).transpose()?;
    Ok(Command::Members { channel: self::channel(channel)?, from, limit: history_limit(limit)? })
}

pub(crate) fn mark(text: &str) -> Result<PageMark, Failure> {
    text.parse().map_err(|_| {
        Failure::new(ErrorCode::BadMark, "`from` is the `next` of another page, as it came")
    })
}

pub(crate) fn no_payload() -> Failure {
    bad_request("`publish` takes a payload")
}

pub(crate) fn bad_request(message: impl Into<std::borrow::Cow<'static, str>>) -> Failure {
    Failure::new(ErrorCode::BadRequest, message)
}

/// A refusal names its command if the client gave it a name.
pub(crate) fn refused(id: u32, failure: Failure) -> Decoded {
    Decoded::Refused { id: (id != 0).then_some(RequestId(id)), failure }
}

pub(crate) fn check_count(commands: usize) -> Result<(), ProtocolError> {
    match commands {
        0 => Err(malformed("it holds no command")),
        1..=MAX_COMMANDS => Ok(()),
        _ => Err(malformed(format!(
            "it holds {commands} commands, at most {MAX_COMMANDS} are allowed"
        ))),
    }
}

pub(crate) fn malformed(detail: impl Into<String>) -> ProtocolError {
    ProtocolError::Malformed { detail: detail.into() }
}

/// The `part` of `frame` as bytes of its own if it would keep a much larger frame alive for as long
/// as the publication is remembered, else as a share of the frame.
pub(crate) fn unpinned(part: &[u8], frame: &Bytes) -> Bytes {
    if part.len() < frame.len() / 2 { Bytes::copy_from_slice(part) } else { frame.slice_ref(part) }
}
