//! The protocol as JSON text.

mod decode;
mod encode;
pub(crate) mod object;
mod plain;

pub(crate) mod command_object;
pub(crate) mod event_object;

use std::str;

use bytes::Bytes;
use serde::Serialize;
use serde::de::IgnoredAny;
use tidewire_model::Event;
use tidewire_protocol::{Decoded, Frame, Protocol, ProtocolError};

use crate::{parse, publications};

pub(crate) use decode::{binary_payload, payload};
pub(crate) use encode::is_zero;

/// Speaks `tidewire.v1.json` on the server's side.
pub(crate) struct JsonProtocol;

impl Protocol for JsonProtocol {
    fn decode(&mut self, frame: Frame) -> Result<Vec<Decoded>, ProtocolError> {
        decode::decode(&text_of(&frame)?)
    }

    fn encode(&mut self, events: &[Event], soft_limit: usize, frames: &mut Vec<Frame>) {
        publications::encode::<encode::JsonWriter>(events, soft_limit, frames);
    }
}

/// A text frame whose bytes are UTF-8.
pub(crate) struct Text<'a> {
    pub(crate) bytes: &'a Bytes,
    pub(crate) text: &'a str,
}

pub(crate) fn text_of(frame: &Frame) -> Result<Text<'_>, ProtocolError> {
    let Frame::Text(bytes) = frame else {
        return Err(ProtocolError::WrongKind { expected: "text" });
    };
    let text = str::from_utf8(bytes).map_err(|_| parse::malformed("it is not UTF-8"))?;
    Ok(Text { bytes, text })
}

/// Whether `text` is JSON at all, and if not, where it stops being so.
///
/// Unlike an error of typed parsing, this one never quotes what the client sent.
pub(crate) fn check_syntax(text: &str) -> Result<(), ProtocolError> {
    serde_json::from_str::<IgnoredAny>(text)
        .map(drop)
        .map_err(|error| parse::malformed(error.to_string()))
}

pub(crate) fn push_value(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value)
        .expect("writing to memory does not fail, and all keys are text");
}
