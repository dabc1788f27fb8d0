//! A publish command as programs write it: alone in its frame, every field once and in the order of
//! the tags.
//!
//! Nearly all that clients send is that, and to read it in place spares the memory that the
//! generated types take for their texts. Everything else, and everything that is wrong, is left to
//! them.

use std::str;

/// What the generated types would hold.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct PlainPublish<'a> {
    /// Of the command.
    pub(super) id: u32,
    pub(super) channel: &'a str,
    pub(super) publication_id: Option<&'a str>,
    pub(super) data: &'a [u8],
    /// A number of `PayloadKind`, or any other.
    pub(super) kind: i32,
}

/// What the generated types would read from `frame`, or `None` if only they can tell.
pub(super) fn publish(frame: &[u8]) -> Option<PlainPublish<'_>> {
    let mut command = Fields(frame).only(COMMAND)?;
    let id = if command.begins(COMMAND_ID) { command.number()? } else { 0 };
    let mut publish = command.only(PUBLISH)?;
    let channel = publish.bytes(CHANNEL)?;
    let publication_id = if publish.0.first() == Some(&PUBLICATION_ID) {
        Some(publish.bytes(PUBLICATION_ID)?)
    } else {
        None
    };
    let mut payload = publish.only(PAYLOAD)?;
    let data = payload.bytes(DATA)?;
    let kind = if payload.begins(KIND) { payload.number()? } else { 0 };
    payload.0.is_empty().then_some(())?;
    Some(PlainPublish {
        id,
        channel: str::from_utf8(channel).ok()?,
        publication_id: publication_id.map(str::from_utf8).transpose().ok()?,
        data,
        kind: i32::try_from(kind).ok()?,
    })
}

/// The fields of a message that have not been read yet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Whether a field begins with `key`, which is taken then.
    fn begins(&mut self, key: u8) -> bool {
        let rest = self.0.strip_prefix(&[key]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// A number of at most [`NUMBER_BYTES`] bytes.
    fn number(&mut self) -> Option<u32> {
        let mut number = 0;
        for index in 0..NUMBER_BYTES {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u32::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// The content of a field that begins with `key`.
    fn bytes(&mut self, key: u8) -> Option<&'a [u8]> {
        if !self.begins(key) {
            return None;
        }
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// The message in the last field, which begins with `key`.
    fn only(mut self, key: u8) -> Option<Self> {
        let bytes = self.bytes(key)?;
        self.0.is_empty().then_some(Self(bytes))
    }
}

/// So many hold 28 bits, which is more than a frame's length takes.
const NUMBER_BYTES: u32 = 4;

// The keys of the fields in `tidewire.proto`.
const COMMAND: u8 = length_delimited(1);
const COMMAND_ID: u8 = varint(1);
const PUBLISH: u8 = length_delimited(2);
const CHANNEL: u8 = length_delimited(1);
const PUBLICATION_ID: u8 = length_delimited(2);
const PAYLOAD: u8 = length_delimited(3);
const DATA: u8 = length_delimited(1);
const KIND: u8 = varint(2);

const fn varint(tag: u8) -> u8 {
    tag << 3
}

const fn length_delimited(tag: u8) -> u8 {
    tag << 3 | 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::protobuf::wire;

    fn frame(command: wire::Command) -> Vec<u8> {
        wire::ClientFrame { commands: vec![command] }.encode_to_vec()
    }

    fn command(id: u32, publish: wire::Publish) -> wire::Command {
        wire::Command { id, command: Some(wire::command::Command::Publish(publish)) }
    }

    /// What the generated types hold of a frame that is one publish command.
    fn by_generated(frame: &[u8]) -> (u32, wire::Publish) {
        let frame = wire::ClientFrame::decode(frame).expect("the generated types read it, too");
        assert_eq!(frame.commands.len(), 1);
        let command = frame.commands.into_iter().next().expect("counted");
        match command.command {
            Some(wire::command::Command::Publish(publish)) => (command.id, publish),
            other => unreachable!("{other:?}"),
        }
    }

    #[track_caller]
    fn check(frame: &[u8]) -> bool {
        let Some(plain) = publish(frame) else { return false };
        let (id, publish) = by_generated(frame);
        let payload = publish.payload.expect("a payload");
        let generated = PlainPublish {
            id,
            channel: &publish.channel,
            publication_id: publish.id.as_deref(),
            data: &payload.data,
            kind: payload.kind,
        };
        assert_eq!(plain, generated, "{frame:?}");
        true
    }

    fn publishes() -> impl Strategy<Value = wire::Publish> {
        let payload = ("[ -~]{1,300}", 0..4)
            .prop_map(|(data, kind)| wire::Payload { data: data.into(), kind });
        ("[a-zé]{1,9}", proptest::option::of("[a-z]{0,3}"), payload).prop_map(
            |(channel, id, payload)| wire::Publish { channel, id, payload: Some(payload) },
        )
    }

    proptest! {
        #[test]
        fn what_programs_write_is_read_as_the_generated_types_read_it(
            id in 0_u32..1 << 28,
            publish in publishes(),
        ) {
            prop_assert!(check(&frame(command(id, publish))));
        }

        #[test]
        fn nothing_is_read_otherwise_than_the_generated_types_read_it(
            publish in publishes(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut frame = frame(command(7, publish));
            let at = at.index(frame.len());
            frame[at] = byte;

            check(&frame);
            check(&frame[..at]);
        }
    }

    #[test]
    fn everything_else_is_left_to_the_generated_types() {
        let publish = wire::Publish { channel: "a".into(), ..Default::default() };
        let ping = Some(wire::command::Command::Ping(wire::Ping {}));
        let twice = frame(command(1, publish.clone())).repeat(2);

        for frame in [
            Vec::new(),
            frame(wire::Command { id: 1, command: ping }),
            frame(command(u32::MAX, publish.clone())),
            frame(command(1, publish)),
            twice,
        ] {
            assert!(!check(&frame), "{frame:?}");
        }
    }
}
