//! Commands as they stand in JSON, read by the server and written by the client.
//!
//! Members borrow from the frame. None of these types is `Debug`: some hold tokens.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::object::{Object, Offset, Str, object, present};

/// `{"id":1,"subscribe":{…}}`
#[derive(Default)]
pub(crate) struct CommandObject<'a> {
    pub(crate) id: u32,
    pub(crate) body: Option<CommandBody<'a>>,
    /// How many commands the object names; only one of them is in `body`.
    pub(crate) commands: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CommandBody<'a> {
    Connect(ConnectBody<'a>),
    Subscribe(SubscribeBody<'a>),
    Unsubscribe(UnsubscribeBody<'a>),
    Publish(PublishBody<'a>),
    History(HistoryBody<'a>),
    Watch(ChannelBody<'a>),
    Unwatch(ChannelBody<'a>),
    Enter(EnterBody<'a>),
    Leave(ChannelBody<'a>),
    Members(MembersBody<'a>),
    Ping(PingBody),
    Refresh(RefreshBody<'a>),
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct ConnectBody<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<Str<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) ticket: Option<Str<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) resume: Option<Object<ResumeBody<'a>>>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct ResumeBody<'a> {
    #[serde(borrow)]
    pub(crate) token: Str<'a>,
    #[serde(borrow)]
    pub(crate) nonce: Str<'a>,
    #[serde(borrow)]
    pub(crate) positions: Vec<Object<ChannelPositionBody<'a>>>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct ChannelPositionBody<'a> {
    #[serde(borrow)]
    pub(crate) channel: Str<'a>,
    #[serde(borrow)]
    pub(crate) epoch: Str<'a>,
    pub(crate) offset: Offset,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct PositionBody<'a> {
    #[serde(borrow)]
    pub(crate) epoch: Str<'a>,
    pub(crate) offset: Offset,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct SubscribeBody<'a> {
    #[serde(borrow)]
    pub(crate) channel: Str<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Object<PositionBody<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<u32>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) delta: Option<Str<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<Str<'a>>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct UnsubscribeBody<'a> {
    #[serde(borrow)]
    pub(crate) channel: Str<'a>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct PublishBody<'a> {
    #[serde(borrow)]
    pub(crate) channel: Str<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<Str<'a>>,
    #[serde(borrow, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) binary: Option<Str<'a>>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct HistoryBody<'a> {
    #[serde(borrow)]
    pub(crate) channel: Str<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) direction: Option<Str<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<Object<PositionBody<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u32>,
}

/// A command about a channel and nothing else.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct ChannelBody<'a> {
    #[serde(borrow)]
    pub(crate) channel: Str<'a>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct EnterBody<'a> {
    #[serde(borrow)]
    pub(crate) channel: Str<'a>,
    #[serde(borrow, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct MembersBody<'a> {
    #[serde(borrow)]
    pub(crate) channel: Str<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<Str<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u32>,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct PingBody {}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct RefreshBody<'a> {
    #[serde(borrow)]
    pub(crate) token: Str<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) channel: Option<Str<'a>>,
}

impl<'de> Deserialize<'de> for CommandObject<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(CommandVisitor)
    }
}

struct CommandVisitor;

impl<'de> Visitor<'de> for CommandVisitor {
    type Value = CommandObject<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut command = CommandObject::default();
        while let Some(name) = members.next_key::<Str<'de>>()? {
            let body = match &*name {
                "connect" => CommandBody::Connect(object(&mut members)?),
                "subscribe" => CommandBody::Subscribe(object(&mut members)?),
                "unsubscribe" => CommandBody::Unsubscribe(object(&mut members)?),
                "publish" => CommandBody::Publish(object(&mut members)?),
                "history" => CommandBody::History(object(&mut members)?),
                "watch" => CommandBody::Watch(object(&mut members)?),
                "unwatch" => CommandBody::Unwatch(object(&mut members)?),
                "enter" => CommandBody::Enter(object(&mut members)?),
                "leave" => CommandBody::Leave(object(&mut members)?),
                "members" => CommandBody::Members(object(&mut members)?),
                "ping" => CommandBody::Ping(object(&mut members)?),
                "refresh" => CommandBody::Refresh(object(&mut members)?),
                "id" => {
                    command.id = members.next_value()?;
                    continue;
                }
                _ => {
                    members.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            command.body = Some(body);
            command.commands += 1;
        }
        Ok(command)
    }
}

/// What of a command can still be told when the rest of it makes no sense.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct CommandName {
    pub(crate) id: u32,
}
