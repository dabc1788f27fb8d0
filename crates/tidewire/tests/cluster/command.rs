//! Commands as any client can make them, whether or not their names may be names.

use std::fmt::Write as _;

use tidewire_client::Codec;
use tidewire_protocol::Frame;

/// What both encodings are written from, so that no command is forgotten here.
const DEFINITIONS: &str =
    include_str!("../../../tidewire-protocol-native/proto/tidewire/v1/tidewire.proto");

#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) name: String,
    pub(crate) members: Vec<(&'static str, Member)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Member {
    Text(String),
    Number(u64),
    /// Whose text is JSON.
    Data(String),
    Message(Vec<(&'static str, Member)>),
    /// One entry of `positions`: channel, epoch, offset.
    Reached(String, String, u64),
}

impl Command {
    pub(crate) fn new(name: &str, members: Vec<(&'static str, Member)>) -> Self {
        Self { name: name.into(), members }
    }

    pub(crate) fn has(&self, member: &str) -> bool {
        self.members.iter().any(|(name, _)| *name == member)
    }

    /// What the definitions call all the commands there are.
    pub(crate) fn names() -> Vec<String> {
        let choices = block("Command").split_once("oneof command {").expect("it is a choice").1;
        fields(choices).map(|field| field.name.to_owned()).collect()
    }
}

/// One frame of these, numbered from `first` on.
pub(crate) fn frame(codec: Codec, commands: &[Command], first: u64) -> Frame {
    let numbered = (first..).zip(commands);
    match codec {
        Codec::Json => {
            let all: Vec<_> = numbered.map(|(id, command)| json_command(id, command)).collect();
            Frame::Text(format!("[{}]", all.join(",")).into())
        }
        Codec::Protobuf => {
            let all = numbered.flat_map(|(id, command)| part(1, &protobuf_command(id, command)));
            Frame::Binary(all.collect::<Vec<u8>>().into())
        }
    }
}

fn json_command(id: u64, command: &Command) -> String {
    format!("{{\"id\":{id},\"{}\":{}}}", command.name, json(&command.members))
}

fn json(members: &[(&'static str, Member)]) -> String {
    let mut text = String::new();
    for (name, member) in members {
        let value = match member {
            Member::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
            Member::Number(number) => number.to_string(),
            Member::Data(data) => data.clone(),
            Member::Message(members) => json(members),
            Member::Reached(channel, epoch, offset) => {
                let entry = serde_json::json!(
                    [{ "channel": channel, "epoch": epoch, "offset": offset }]
                );
                entry.to_string()
            }
        };
        let comma = if text.is_empty() { "" } else { "," };
        write!(text, "{comma}\"{name}\":{value}").expect("it is written to memory");
    }
    format!("{{{text}}}")
}

fn protobuf_command(id: u64, command: &Command) -> Vec<u8> {
    let Field { number, of, .. } = field("Command", &command.name).expect("it is defined");
    let mut bytes = varint(1 << 3);
    bytes.extend(varint(id));
    bytes.extend(part(number, &message(of, &command.members)));
    bytes
}

fn message(name: &str, members: &[(&'static str, Member)]) -> Vec<u8> {
    members.iter().flat_map(|(member, value)| protobuf(name, member, value)).collect()
}

fn protobuf(name: &str, member: &str, value: &Member) -> Vec<u8> {
    // A publication's `data` is in a message of its own, and that of a member is not.
    let Some(Field { number, of, .. }) = field(name, member) else {
        let Some(Field { number, of, .. }) = field(name, "payload") else {
            return part(99, b"unknown");
        };
        return part(number, &protobuf(of, member, value));
    };
    match value {
        Member::Text(text) | Member::Data(text) => part(number, text.as_bytes()),
        Member::Number(value) => [varint(number << 3), varint(*value)].concat(),
        // What is a text is none then.
        Member::Message(members) if of == "string" => part(number, json(members).as_bytes()),
        Member::Message(members) => part(number, &message(of, members)),
        Member::Reached(channel, epoch, offset) => {
            let position = [part(1, epoch.as_bytes()), varint(2 << 3), varint(*offset)].concat();
            part(number, &[part(1, channel.as_bytes()), part(2, &position)].concat())
        }
    }
}

/// A field whose bytes follow their length.
fn part(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut part = varint(number << 3 | 2);
    part.extend(varint(bytes.len() as u64));
    part.extend(bytes);
    part
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
    bytes
}

struct Field {
    name: &'static str,
    of: &'static str,
    number: u64,
}

fn field(message: &str, name: &str) -> Option<Field> {
    fields(block(message)).find(|field| field.name == name)
}

/// Such as `optional string from = 2;`
fn fields(text: &'static str) -> impl Iterator<Item = Field> {
    text.lines().filter_map(|line| {
        let (declared, number) = line.trim().strip_suffix(';')?.split_once(" = ")?;
        let mut words = declared.rsplit(' ');
        let (name, of) = (words.next()?, words.next()?);
        Some(Field { name, of, number: number.parse().ok()? })
    })
}

fn block(message: &str) -> &'static str {
    let (_, rest) = DEFINITIONS.split_once(&format!("message {message} {{")).expect("defined");
    rest.split("\n}").next().expect("it ends")
}
