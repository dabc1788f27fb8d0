use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use tidewire_broker::{DedupeKey, Lineage, SavedChannel, SavedId};
use tidewire_model::{
    Channel, Epoch, Generation, NodeId, Payload, Position, Publication, PublicationId, SessionId,
    SessionNonce, Tenant, TenantChannel, UserId,
};
use tidewire_session::Snapshot;
use tidewire_store::{SavedSession, SessionKey};

use super::super::dev::Secrets;

/// One line of the file, in JSON. A channel is followed by its publications; the file opens with a
/// header and closes with an end. Times are in milliseconds.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Header(Header),
    Session(SessionLine),
    Channel(ChannelLine),
    Publication(PublicationLine),
    End(End),
}

/// The only version there is. A change that this program could not read takes another one.
pub(super) const VERSION: u32 = 1;

#[derive(Deserialize, Serialize)]
pub(super) struct Header {
    pub(super) version: u32,
    /// When the node had gone; missing while it runs, and after a crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) saved_at_ms: Option<u64>,
    /// When the log's life began.
    pub(super) started_ms: u64,
    pub(super) secrets: Secrets,
}

/// What stands before it is whole.
#[derive(Deserialize, Serialize)]
pub(super) struct End {
    /// Of all lines before, with their ends, in hexadecimal.
    pub(super) sha256: String,
}

#[derive(Deserialize, Serialize)]
pub(super) struct SessionLine {
    tenant: Tenant,
    session: SessionId,
    generation: Generation,
    owner: NodeId,
    snapshot: Snapshot,
    unconfirmed: Option<(SessionNonce, NodeId)>,
    left_ms: u64,
}

#[derive(Deserialize, Serialize)]
pub(super) struct ChannelLine {
    tenant: Tenant,
    channel: Channel,
    lineage: Vec<(Epoch, u64)>,
    top: u64,
    /// How many follow. The last of them has the offset `top`.
    pub(super) publications: u64,
    appended_ms: u64,
    touched_ms: u64,
    ids: Vec<IdLine>,
}

/// Key in base64, offset, time left.
#[derive(Deserialize, Serialize)]
struct IdLine(String, u64, u64);

#[derive(Deserialize, Serialize)]
pub(super) struct PublicationLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    publisher: Option<UserId>,
    time_ms: u64,
    payload: PayloadLine,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum PayloadLine {
    Json(String),
    /// In base64.
    Binary(String),
}

impl Line {
    /// With its end.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("names are texts and nothing can fail");
        line.push(b'\n');
        line
    }
}

impl From<&SavedSession> for SessionLine {
    fn from(saved: &SavedSession) -> Self {
        Self {
            tenant: saved.key.tenant.clone(),
            session: saved.key.session,
            generation: saved.generation,
            owner: saved.owner.clone(),
            snapshot: saved.snapshot.clone(),
            unconfirmed: saved.unconfirmed.clone(),
            left_ms: millis(saved.left),
        }
    }
}

impl SessionLine {
    pub(super) fn decode(self) -> SavedSession {
        SavedSession {
            key: SessionKey { tenant: self.tenant, session: self.session },
            generation: self.generation,
            owner: self.owner,
            snapshot: self.snapshot,
            unconfirmed: self.unconfirmed,
            left: Duration::from_millis(self.left_ms),
        }
    }
}

impl From<&SavedChannel> for ChannelLine {
    fn from(saved: &SavedChannel) -> Self {
        let id = |id: &SavedId| {
            IdLine(STANDARD_NO_PAD.encode(id.key.as_bytes()), id.position.offset, millis(id.left))
        };
        Self {
            tenant: saved.channel.tenant.clone(),
            channel: saved.channel.channel.clone(),
            lineage: saved.lineage.entries().to_vec(),
            top: saved.top,
            publications: saved.publications.len() as u64,
            appended_ms: millis(saved.appended),
            touched_ms: millis(saved.touched),
            ids: saved.ids.iter().map(id).collect(),
        }
    }
}

impl ChannelLine {
    /// The channel without its publications; `None` if no log can have written that.
    pub(super) fn decode(self) -> Option<SavedChannel> {
        if self.lineage.is_empty() {
            return None;
        }
        let lineage = Lineage::new(self.lineage);
        let id = |IdLine(key, offset, left_ms): IdLine| {
            let key = STANDARD_NO_PAD.decode(key).ok()?.try_into().ok()?;
            Some(SavedId {
                key: DedupeKey::from_bytes(key),
                position: Position::new(lineage.epoch_of(offset), offset),
                left: Duration::from_millis(left_ms),
            })
        };
        Some(SavedChannel {
            channel: TenantChannel::new(self.tenant, self.channel),
            ids: self.ids.into_iter().map(id).collect::<Option<_>>()?,
            lineage,
            top: self.top,
            appended: Duration::from_millis(self.appended_ms),
            touched: Duration::from_millis(self.touched_ms),
            publications: Vec::new(),
        })
    }
}

impl From<&Publication> for PublicationLine {
    fn from(publication: &Publication) -> Self {
        let bytes = publication.payload.bytes();
        let payload = match &publication.payload {
            Payload::Json(_) => PayloadLine::Json(String::from_utf8_lossy(bytes).into_owned()),
            Payload::Binary(_) => PayloadLine::Binary(STANDARD_NO_PAD.encode(bytes)),
        };
        Self {
            id: publication.id.as_ref().map(ToString::to_string),
            publisher: publication.publisher.clone(),
            time_ms: publication.time_ms,
            payload,
        }
    }
}

impl PublicationLine {
    /// The publication at `offset` of `channel`; `None` if no log can have written that.
    pub(super) fn decode(self, channel: &SavedChannel, offset: u64) -> Option<Publication> {
        let id = self.id.map(|id| PublicationId::parse(&id)).transpose().ok()?;
        let payload = match self.payload {
            PayloadLine::Json(text) => Payload::json(text.into()).ok()?,
            PayloadLine::Binary(text) => Payload::binary(STANDARD_NO_PAD.decode(text).ok()?.into()),
        };
        Some(Publication {
            channel: channel.channel.clone(),
            position: Position::new(channel.lineage.epoch_of(offset), offset),
            id,
            time_ms: self.time_ms,
            publisher: self.publisher,
            payload,
        })
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
