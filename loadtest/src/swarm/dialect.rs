//! What to say to which server.

use clap::ValueEnum;
use serde_json::{Value, json};

use super::frames::{OPCODE_BINARY, OPCODE_TEXT};

/// What a server understands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Dialect {
    /// The native protocol in JSON
    Json,
    /// The same with permessage-deflate (RFC 7692), whose publications are counted by frames
    JsonDeflate,
    /// The native protocol in protobuf
    Protobuf,
    /// A letter, a channel and a payload: what the floor, uWebSockets and `ws` are wrapped in
    Bare,
    /// Socket.IO 4 over WebSocket
    Socketio,
    /// NATS over WebSocket
    Nats,
}

/// The channel of those that only publish.
pub(crate) const PUBLISHERS: u32 = 65_535;
/// What every payload holds exactly once, and nothing else that a server sends holds: in protobuf
/// the second byte would be a tag of a group, and the first never ends a varint of an offset before
/// one.
pub(crate) const MARK: [u8; 2] = *b"|#";

/// What a connection waits for.
pub(crate) enum Cue {
    /// Bytes somewhere in what the server said.
    Bytes(Vec<u8>),
    /// So many messages since the upgrade, where bytes say nothing.
    Messages(u64),
}

/// One publication.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) channel: u32,
    /// A JSON string with its quotes.
    pub(crate) payload: &'a str,
    /// Asks for a reply if not 0.
    pub(crate) id: u32,
}

/// Who a connection is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) token: &'a str,
    pub(crate) channel: u32,
    /// The resume token of the connection before.
    pub(crate) resume: Option<&'a str>,
}

impl Dialect {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Json | Self::JsonDeflate | Self::Protobuf => "/v1/ws",
            Self::Bare | Self::Nats => "/",
            Self::Socketio => "/socket.io/?EIO=4&transport=websocket",
        }
    }

    pub(crate) fn subprotocol(self) -> Option<&'static str> {
        match self {
            Self::Json | Self::JsonDeflate => Some("tidewire.v1.json"),
            Self::Protobuf => Some("tidewire.v1.protobuf"),
            _ => None,
        }
    }

    pub(crate) fn opcode(self) -> u8 {
        match self {
            Self::Protobuf | Self::Nats => OPCODE_BINARY,
            _ => OPCODE_TEXT,
        }
    }

    /// Whether what comes cannot be read without inflating it.
    pub(crate) fn is_deflated(self) -> bool {
        self == Self::JsonDeflate
    }

    /// What a connection waits for before it says its `step`, the first of which is 0; `None` after
    /// the last one.
    pub(crate) fn cue(self, step: usize, channel: u32) -> Option<Cue> {
        let cues: &[&str] = match self {
            Self::Json => &["", "\"subscribed\":{"],
            Self::JsonDeflate => return (step < 3).then_some(Cue::Messages(step as u64)),
            // Its name, which nothing before `subscribed` holds.
            Self::Protobuf if step == 1 => return Some(Cue::Bytes(name(channel).into_bytes())),
            Self::Protobuf => &[""],
            Self::Bare => &["", "joined"],
            Self::Socketio => &["0{", "40{", "430["],
            Self::Nats => &["INFO", "PONG"],
        };
        cues.get(step).map(|cue| Cue::Bytes(cue.as_bytes().to_vec()))
    }

    /// What a connection says at the cue of this step; the last cue is answered by nothing.
    pub(crate) fn say(self, step: usize, member: Member<'_>) -> Option<Vec<u8>> {
        let channel = name(member.channel);
        match (self, step) {
            (Self::Json, 0) => Some(hello_json(member, &channel)),
            (Self::JsonDeflate, 0) => Some(connect_json(member).to_string().into_bytes()),
            (Self::JsonDeflate, 1) => Some(subscribe_json(&channel).to_string().into_bytes()),
            (Self::Protobuf, 0) => Some(hello_protobuf(member, &channel)),
            (Self::Bare, 0) => Some(format!("S{}", member.channel).into_bytes()),
            (Self::Socketio, 0) => Some(b"40".to_vec()),
            (Self::Socketio, 1) => Some(format!("420[\"subscribe\",\"{channel}\"]").into_bytes()),
            (Self::Nats, 0) => Some(
                format!(
                    "CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\n\
                     SUB c{} 1\r\nPING\r\n",
                    member.channel
                )
                .into_bytes(),
            ),
            _ => None,
        }
    }

    /// The frames' contents that publish all of `wishes` at once.
    pub(crate) fn publish(self, wishes: &[Wish<'_>]) -> Vec<Vec<u8>> {
        match self {
            Self::Json | Self::JsonDeflate if wishes.len() > 1 => {
                let commands: Vec<String> = wishes.iter().map(publish_json).collect();
                vec![format!("[{}]", commands.join(",")).into_bytes()]
            }
            Self::Json | Self::JsonDeflate => {
                wishes.iter().map(|wish| publish_json(wish).into_bytes()).collect()
            }
            Self::Protobuf => vec![wishes.iter().flat_map(publish_protobuf).collect()],
            Self::Bare => wishes.iter().map(publish_bare).collect(),
            Self::Socketio => wishes.iter().map(publish_socketio).collect(),
            Self::Nats => vec![wishes.iter().flat_map(publish_nats).collect()],
        }
    }
}

/// A JSON string of so many bytes, quotes included, with the mark in it.
///
/// Words with numbers between them that do not repeat, so that compression finds what it would find
/// in somebody's message and not one line over and over.
pub(crate) fn payload(bytes: usize) -> String {
    const WORDS: [&str; 8] = ["tide", "wind", "north-west", "harbour", "at", "berth", "due", "eta"];
    // A linear congruential generator with the multiplier and increment of Numerical Recipes.
    const GENERATOR: (u32, u32) = (1_664_525, 1_013_904_223);

    // Bytes of a piece: a word of two letters, five digits, and what separates them.
    const SHORTEST: usize = 10;

    let len = bytes.saturating_sub(MARK.len() + 2);
    let mut state = 1_u32;
    let pieces = WORDS.iter().cycle().map(|word| {
        state = state.wrapping_mul(GENERATOR.0).wrapping_add(GENERATOR.1);
        format!("{word} {:05}; ", state >> 16)
    });
    let mut filling: String = pieces.take(len / SHORTEST + 1).collect();
    filling.truncate(len);
    format!("\"{}{filling}\"", String::from_utf8_lossy(&MARK))
}

fn name(channel: u32) -> String {
    format!("bench/{channel}")
}

fn hello_json(member: Member<'_>, channel: &str) -> Vec<u8> {
    let connect = connect_json(member);
    let frame = match member.resume {
        // The session brings the subscription back.
        Some(_) => connect,
        None => Value::from(vec![connect, subscribe_json(channel)]),
    };
    frame.to_string().into_bytes()
}

fn connect_json(member: Member<'_>) -> Value {
    let connect = match member.resume {
        Some(resume) => json!({"token": member.token, "resume": {
            "token": resume, "nonce": "000102030405060708090a0b0c0d0e0f"}}),
        None => json!({"token": member.token}),
    };
    json!({"id": 1, "connect": connect})
}

fn subscribe_json(channel: &str) -> Value {
    json!({"id": 2, "subscribe": {"channel": channel}})
}

fn publish_json(wish: &Wish<'_>) -> String {
    let Wish { channel, payload, id } = wish;
    let publish = format!("\"publish\":{{\"channel\":\"bench/{channel}\",\"data\":{payload}}}");
    if *id == 0 { format!("{{{publish}}}") } else { format!("{{\"id\":{id},{publish}}}") }
}

fn hello_protobuf(member: Member<'_>, channel: &str) -> Vec<u8> {
    // Tags of tidewire.proto: ClientFrame.commands 1; Command.id 1, subscribe 3, connect 8.
    let connect = field(1, member.token.as_bytes());
    let connect = [number(1, 1), field(8, &connect)].concat();
    let subscribe = [number(1, 2), field(3, &field(1, channel.as_bytes()))].concat();
    [field(1, &connect), field(1, &subscribe)].concat()
}

fn publish_protobuf(wish: &Wish<'_>) -> Vec<u8> {
    // Publish: channel 1, payload 3; Payload.data 1, its kind JSON is the default.
    let payload = field(1, wish.payload.as_bytes());
    let publish = [field(1, name(wish.channel).as_bytes()), field(3, &payload)].concat();
    let id = if wish.id == 0 { Vec::new() } else { number(1, wish.id) };
    field(1, &[id, field(2, &publish)].concat())
}

fn publish_bare(wish: &Wish<'_>) -> Vec<u8> {
    let letter = if wish.id == 0 { 'P' } else { 'A' };
    format!("{letter}{}\n{}", wish.channel, wish.payload).into_bytes()
}

fn publish_socketio(wish: &Wish<'_>) -> Vec<u8> {
    let id = if wish.id == 0 { String::new() } else { wish.id.to_string() };
    format!("42{id}[\"publish\",\"bench/{}\",{}]", wish.channel, wish.payload).into_bytes()
}

fn publish_nats(wish: &Wish<'_>) -> Vec<u8> {
    format!("PUB c{} {}\r\n{}\r\n", wish.channel, wish.payload.len(), wish.payload).into_bytes()
}

fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    const LENGTH_DELIMITED: u8 = 2;

    let mut bytes = vec![tag << 3 | LENGTH_DELIMITED];
    varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

fn number(tag: u8, value: u32) -> Vec<u8> {
    let mut bytes = vec![tag << 3];
    varint(value.into(), &mut bytes);
    bytes
}

fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value > 0x7f {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push((value & 0x7f) as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_its_size_and_one_mark() {
        let payload = payload(128);

        assert_eq!(payload.len(), 128);
        assert_eq!(payload.matches("|#").count(), 1);
        assert!(serde_json::from_str::<String>(&payload).is_ok());
    }

    #[test]
    fn a_burst_in_json_is_one_array_and_bare_one_frame_each() {
        let wish = Wish { channel: 7, payload: "\"x\"", id: 0 };

        let json = Dialect::Json.publish(&[wish, Wish { id: 3, ..wish }]);
        let bare = Dialect::Bare.publish(&[wish, Wish { id: 3, ..wish }]);

        assert_eq!(
            json,
            [br#"[{"publish":{"channel":"bench/7","data":"x"}},{"id":3,"publish":{"channel":"bench/7","data":"x"}}]"#]
        );
        assert_eq!(bare, [b"P7\n\"x\"", b"A7\n\"x\""]);
    }

    #[test]
    fn protobuf_is_as_protoc_encodes_it() {
        let wish = Wish { channel: 7, payload: "1", id: 300 };

        let frames = Dialect::Protobuf.publish(&[wish]);

        let publish = [&[0x0a, 7][..], b"bench/7", &[0x1a, 3, 0x0a, 1, b'1']].concat();
        let expected = [&[0x0a, 19, 0x08, 0xac, 0x02, 0x12, 14][..], &publish].concat();
        assert_eq!(frames, [expected]);
    }

    #[test]
    fn a_connection_that_comes_back_shows_its_resume_token_and_does_not_subscribe() {
        let member = Member { token: "t", channel: 0, resume: Some("r") };

        let hello = Dialect::Json.say(0, member).expect("it speaks first");

        let hello: Value = serde_json::from_slice(&hello).expect("JSON");
        assert_eq!(hello["connect"]["resume"]["token"], "r");
    }
}
