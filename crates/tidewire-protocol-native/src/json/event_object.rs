//! Events as they stand in JSON, written by the server and read by the client.
//!
//! None of these types is `Debug`: some hold tokens.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidewire_model::{Member, MemberId, PresenceChange};

use super::command_object::ChannelBody;
use super::object::{Str, object, present};

/// `{"id":1,"pong":{}}`, as read: without a body if this version does not know the event.
#[derive(Default)]
pub(crate) struct EventObject<'a> {
    pub(crate) id: u32,
    pub(crate) body: Option<EventBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EventBody<'a> {
    Connected(ConnectedBody<'a>),
    Subscribed(SubscribedBody<'a>),
    Unsubscribed(UnsubscribedBody<'a>),
    Published(PublishedBody<'a>),
    History(HistoryPageBody<'a>),
    Pong(PongBody),
    Refreshed(RefreshedBody),
    Publications(PublicationsBody<'a>),
    Gap(GapBody<'a>),
    Reconnect(ReconnectBody<'a>),
    Expiring(ExpiringBody),
    Error(ErrorBody<'a>),
    Closing(ClosingBody<'a>),
    Presence(PresenceBody<'a>),
    Entered(EnteredBody<'a>),
    Left(ChannelBody<'a>),
    Members(MemberPageBody<'a>),
    Watching(ChannelBody<'a>),
    Unwatched(UnsubscribedBody<'a>),
}

#[derive(Deserialize, Serialize)]
pub(crate) struct ConnectedBody<'a> {
    #[serde(borrow)]
    pub(crate) session: Str<'a>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(crate) resume_token: Option<Str<'a>>,
    pub(crate) resume_window_ms: u64,
    pub(crate) resumed: bool,
    #[serde(borrow)]
    pub(crate) node: Str<'a>,
    pub(crate) ping_interval_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<u64>,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct SubscribedBody<'a> {
    #[serde(borrow)]
    pub(crate) channel: Str<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recovered: Option<bool>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) rewound: bool,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Str<'a>>,
    #[serde(borrow)]
    pub(crate) epoch: Str<'a>,
    pub(crate) offset: u64,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) delta: Option<Str<'a>>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) sampled: bool,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct UnsubscribedBody<'a> {
    #[serde(borrow)]
    pub(crate) channel: Str<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<ErrorBody<'a>>,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct PresenceBody<'a> {
    #[serde(borrow)]
    pub(crate) channel: Str<'a>,
    pub(crate) items: Vec<PresenceChange>,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct EnteredBody<'a> {
    #[serde(borrow)]
    pub(crate) channel: Str<'a>,
    pub(crate) member: MemberId,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct MemberPageBody<'a> {
    #[serde(borrow)]
    pub(crate) channel: Str<'a>,
    pub(crate) items: Vec<Member>,
    pub(crate) count: u64,
    #[serde(borrow)]
    pub(crate) epoch: Str<'a>,
    pub(crate) offset: u64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<Str<'a>>,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct PublishedBody<'a> {
    #[serde(borrow)]
    pub(crate) epoch: Str<'a>,
    pub(crate) offset: u64,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) duplicate: bool,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct HistoryPageBody<'a> {
    #[serde(borrow)]
    pub(crate) publications: Vec<PublicationBody<'a>>,
    #[serde(borrow)]
    pub(crate) top: PointBody<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<PointBody<'a>>,
}

/// A position the server names.
#[derive(Deserialize, Serialize)]
pub(crate) struct PointBody<'a> {
    #[serde(borrow)]
    pub(crate) epoch: Str<'a>,
    pub(crate) offset: u64,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct PongBody {}

#[derive(Deserialize, Serialize)]
pub(crate) struct RefreshedBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<u64>,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct PublicationsBody<'a> {
    #[serde(borrow)]
    pub(crate) channel: Str<'a>,
    #[serde(borrow)]
    pub(crate) epoch: Str<'a>,
    #[serde(borrow)]
    pub(crate) items: Vec<PublicationBody<'a>>,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct PublicationBody<'a> {
    /// In a history page only.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<Str<'a>>,
    pub(crate) offset: u64,
    pub(crate) time: u64,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<Str<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<Str<'a>>,
    #[serde(
        borrow,
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) data: Option<&'a RawValue>,
    /// As `data`, its text in a string: what deltas are applied to.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<Str<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) binary: Option<Str<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) delta: Option<Str<'a>>,
    /// As `delta`, in base64: of a payload that is not JSON.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) binary_delta: Option<Str<'a>>,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct GapBody<'a> {
    #[serde(borrow)]
    pub(crate) channel: Str<'a>,
    #[serde(borrow)]
    pub(crate) reason: Str<'a>,
    #[serde(borrow)]
    pub(crate) epoch: Str<'a>,
    pub(crate) offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) missed: Option<u64>,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct ReconnectBody<'a> {
    pub(crate) after_ms: u64,
    pub(crate) window_ms: u64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<Str<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) endpoints: Vec<Str<'a>>,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct ExpiringBody {
    pub(crate) at: u64,
    /// Absent in what older servers send, which end the connection at `at`.
    #[serde(default)]
    pub(crate) closes_at: u64,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct ErrorBody<'a> {
    pub(crate) code: u16,
    #[serde(borrow)]
    pub(crate) name: Str<'a>,
    #[serde(borrow)]
    pub(crate) message: Str<'a>,
    pub(crate) retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_ms: Option<u64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<LimitBody<'a>>,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct LimitBody<'a> {
    #[serde(borrow)]
    pub(crate) name: Str<'a>,
    pub(crate) value: u64,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct ClosingBody<'a> {
    pub(crate) code: u16,
    #[serde(borrow)]
    pub(crate) name: Str<'a>,
    pub(crate) reconnect: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl<'de> Deserialize<'de> for EventObject<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EventVisitor)
    }
}

struct EventVisitor;

impl<'de> Visitor<'de> for EventVisitor {
    type Value = EventObject<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut event = EventObject::default();
        while let Some(name) = members.next_key::<Str<'de>>()? {
            let body = match &*name {
                "publications" => EventBody::Publications(object(&mut members)?),
                "published" => EventBody::Published(object(&mut members)?),
                "connected" => EventBody::Connected(object(&mut members)?),
                "subscribed" => EventBody::Subscribed(object(&mut members)?),
                "unsubscribed" => EventBody::Unsubscribed(object(&mut members)?),
                "history" => EventBody::History(object(&mut members)?),
                "pong" => EventBody::Pong(object(&mut members)?),
                "refreshed" => EventBody::Refreshed(object(&mut members)?),
                "gap" => EventBody::Gap(object(&mut members)?),
                "reconnect" => EventBody::Reconnect(object(&mut members)?),
                "expiring" => EventBody::Expiring(object(&mut members)?),
                "error" => EventBody::Error(object(&mut members)?),
                "closing" => EventBody::Closing(object(&mut members)?),
                "presence" => EventBody::Presence(object(&mut members)?),
                "entered" => EventBody::Entered(object(&mut members)?),
                "left" => EventBody::Left(object(&mut members)?),
                "members" => EventBody::Members(object(&mut members)?),
                "watching" => EventBody::Watching(object(&mut members)?),
                "unwatched" => EventBody::Unwatched(object(&mut members)?),
                "id" => {
                    event.id = members.next_value()?;
                    continue;
                }
                _ => {
                    members.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            event.body = Some(body);
        }
        Ok(event)
    }
}
