//! What travels over NATS: one envelope per message, version 1.
//!
//! All numbers are big-endian. Every envelope begins with eight bytes:
//!
//! | Byte | Publication | Announcement | Session moved | Probe | Beat |
//! |---|---|---|---|---|---|
//! | 0 version | 1 | 1 | 1 | 1 | 1 |
//! | 1 kind | 1 | 2 | 3 | 4 | 5 |
//! | 2 flags | bit 0: payload is JSON | 0 | 0 | 0 | 0 |
//! | 3 length of tenant | 1–32 | 1–32 | 1–32 | 0 | 0 |
//! | 4 length of channel | 1–255 | 1–255 | 0 | 0 | 0 |
//! | 5 length of id | 0 (none)–64 | 0 | 0 | 0 | 1–64, of the node's |
//! | 6 length of publisher | 0 (none)–128 | 0 | 0 | 0 | 0 |
//! | 7 reserved | 0 | 0 | 0 | 0 | 0 |
//!
//! Then come, without padding:
//!
//! - publication: epoch (16), offset (8), time in ms (8), tenant, channel, id, publisher, payload (the
//!   rest);
//! - announcement: epoch (16), offset (8), tenant, channel;
//! - session moved, a notice: session (16), generation (8), tenant;
//! - drain, a notice: nothing;
//! - a publication of kind 8 is of presence: its channel is a reserved one, which no other has;
//! - news, a notice of kind 7 with zeros up to here: of what (1), 1 for tenants, 2 for revocations;
//! - probe: number (8);
//! - beat: id of the node.
//!
//! A reader drops what has another version or kind, a flag or reserved byte it does not know, a
//! name it would not accept from a client, or a length that does not add up. A change that an older
//! node must not misread takes a new version or kind.

use bytes::{BufMut, Bytes, BytesMut};
use tidewire_broker::{News, Notice};
use tidewire_model::{
    Channel, Epoch, Generation, InvalidChannel, NodeId, Payload, Position, Publication,
    PublicationId, SessionId, Tenant, TenantChannel, UserId,
};

/// What an envelope holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Publication(Publication),
    Announcement {
        channel: TenantChannel,
        position: Position,
    },
    Notice(Notice),
    /// A node's message to itself.
    Probe(u64),
    /// A node can be heard.
    Beat(NodeId),
}

/// Why an envelope was not understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Misread {
    /// From a newer or foreign program.
    Version,
    Kind,
    Malformed,
}

pub(crate) fn encode_publication(publication: &Publication) -> Bytes {
    let TenantChannel { tenant, channel } = &publication.channel;
    let id = publication.id.as_ref().map_or("", PublicationId::as_str);
    let publisher = publication.publisher.as_ref().map_or("", UserId::as_str);
    let names = [tenant.as_str(), channel.as_str(), id, publisher];
    let flags = if publication.payload.is_json() { FLAG_JSON } else { 0 };
    let kind = if channel.is_reserved() { KIND_PRESENCE } else { KIND_PUBLICATION };

    let mut out = begin(kind, flags, names, publication.payload.len());
    put_position(&mut out, publication.position);
    out.put_u64(publication.time_ms);
    put_names(&mut out, names);
    out.put_slice(publication.payload.bytes());
    out.freeze()
}

pub(crate) fn encode_announcement(channel: &TenantChannel, position: Position) -> Bytes {
    let names = [channel.tenant.as_str(), channel.channel.as_str(), "", ""];
    let mut out = begin(KIND_ANNOUNCEMENT, 0, names, 0);
    put_position(&mut out, position);
    put_names(&mut out, names);
    out.freeze()
}

pub(crate) fn encode_notice(notice: &Notice) -> Bytes {
    match notice {
        Notice::SessionMoved { tenant, session, generation } => {
            let mut out = begin(KIND_SESSION_MOVED, 0, [tenant.as_str(), "", "", ""], 0);
            out.put_slice(session.as_bytes());
            out.put_u64(generation.0);
            out.put_slice(tenant.as_str().as_bytes());
            out.freeze()
        }
        Notice::Drain => begin(KIND_DRAIN, 0, [""; 4], 0).freeze(),
        Notice::News(news) => {
            let mut out = begin(KIND_NEWS, 0, [""; 4], 0);
            out.put_u8(match news {
                News::Tenants => NEWS_TENANTS,
                News::Revocations => NEWS_REVOCATIONS,
            });
            out.freeze()
        }
    }
}

pub(crate) fn encode_probe(number: u64) -> Bytes {
    let mut out = begin(KIND_PROBE, 0, [""; 4], 0);
    out.put_u64(number);
    out.freeze()
}

pub(crate) fn encode_beat(node: &NodeId) -> Bytes {
    let names = ["", "", node.as_str(), ""];
    let mut out = begin(KIND_BEAT, 0, names, 0);
    put_names(&mut out, names);
    out.freeze()
}

/// Writes the first eight bytes into a buffer that has room for the rest.
fn begin(kind: u8, flags: u8, names: [&str; 4], payload: usize) -> BytesMut {
    const LARGEST_FIXED: usize = 8 + 16 + 8 + 8;
    let names_len: usize = names.iter().map(|name| name.len()).sum();
    let mut out = BytesMut::with_capacity(LARGEST_FIXED + names_len + payload);
    out.put_slice(&[VERSION, kind, flags]);
    for name in names {
        out.put_u8(u8::try_from(name.len()).expect("no name is longer than 255 bytes"));
    }
    out.put_u8(0);
    out
}

fn put_names(out: &mut BytesMut, names: [&str; 4]) {
    for name in names {
        out.put_slice(name.as_bytes());
    }
}

fn put_position(out: &mut BytesMut, position: Position) {
    out.put_slice(position.epoch.as_str().as_bytes());
    out.put_u64(position.offset);
}

/// Reads an envelope. The payload of a publication is a copy: a slice would keep the connection's
/// whole read buffer for as long as the publication is remembered.
pub(crate) fn decode(mut envelope: Bytes) -> Result<Content, Misread> {
    let malformed = Misread::Malformed;
    if *envelope.first().ok_or(malformed)? != VERSION {
        return Err(Misread::Version);
    }
    let [_, kind, flags, names @ .., reserved] = take::<8>(&mut envelope).ok_or(malformed)?;
    if !(KIND_PUBLICATION..=KIND_PRESENCE).contains(&kind) {
        return Err(Misread::Kind);
    }
    let content = match (kind, flags) {
        (KIND_PUBLICATION, _) => decode_publication(envelope, flags, names, Channel::parse),
        (KIND_PRESENCE, FLAG_JSON) => {
            decode_publication(envelope, flags, names, Channel::parse_reserved)
        }
        (KIND_ANNOUNCEMENT, 0) => decode_announcement(envelope, names),
        (KIND_SESSION_MOVED, 0) => decode_session_moved(envelope, names),
        (KIND_PROBE, 0) => decode_probe(envelope, names),
        (KIND_BEAT, 0) => decode_beat(envelope, names),
        (KIND_DRAIN, 0) => {
            (envelope.is_empty() && names == [0; 4]).then_some(Content::Notice(Notice::Drain))
        }
        (KIND_NEWS, 0) => decode_news(envelope, names),
        _ => None,
    };
    content.filter(|_| reserved == 0).ok_or(malformed)
}

fn decode_publication(
    mut rest: Bytes,
    flags: u8,
    names: [u8; 4],
    parse: fn(&str) -> Result<Channel, InvalidChannel>,
) -> Option<Content> {
    if flags & !FLAG_JSON != 0 {
        return None;
    }
    let [tenant, channel, id, publisher] = names;
    let position = take_position(&mut rest)?;
    let time_ms = take_number(&mut rest)?;
    let channel = take_channel(&mut rest, tenant, channel, parse)?;
    let id = match id {
        0 => None,
        len => Some(take_name(&mut rest, len, |text| PublicationId::parse(text).ok())?),
    };
    let publisher = match publisher {
        0 => None,
        len => Some(take_name(&mut rest, len, |text| UserId::parse(text).ok())?),
    };
    // The node that published it has checked that it is JSON, and NATS is inside the wall.
    let rest = Bytes::copy_from_slice(&rest);
    let payload =
        if flags == FLAG_JSON { Payload::checked_json(rest) } else { Payload::binary(rest) };
    Some(Content::Publication(Publication { channel, position, id, time_ms, publisher, payload }))
}

fn decode_announcement(mut rest: Bytes, names: [u8; 4]) -> Option<Content> {
    let [tenant, channel, 0, 0] = names else { return None };
    let position = take_position(&mut rest)?;
    let channel = take_channel(&mut rest, tenant, channel, Channel::parse)?;
    rest.is_empty().then_some(Content::Announcement { channel, position })
}

fn decode_session_moved(mut rest: Bytes, names: [u8; 4]) -> Option<Content> {
    let [tenant, 0, 0, 0] = names else { return None };
    let session = SessionId::from_bytes(take(&mut rest)?);
    let generation = Generation(take_number(&mut rest)?);
    let tenant = take_name(&mut rest, tenant, |text| Tenant::parse(text).ok())?;
    let notice = Notice::SessionMoved { tenant, session, generation };
    rest.is_empty().then_some(Content::Notice(notice))
}

fn decode_news(mut rest: Bytes, names: [u8; 4]) -> Option<Content> {
    let news = match take(&mut rest)? {
        [NEWS_TENANTS] => News::Tenants,
        [NEWS_REVOCATIONS] => News::Revocations,
        _ => return None,
    };
    (rest.is_empty() && names == [0; 4]).then_some(Content::Notice(Notice::News(news)))
}

fn decode_probe(mut rest: Bytes, names: [u8; 4]) -> Option<Content> {
    let number = take_number(&mut rest)?;
    (rest.is_empty() && names == [0; 4]).then_some(Content::Probe(number))
}

fn decode_beat(mut rest: Bytes, names: [u8; 4]) -> Option<Content> {
    let [0, 0, node, 0] = names else { return None };
    let node = take_name(&mut rest, node, |text| NodeId::parse(text).ok())?;
    rest.is_empty().then_some(Content::Beat(node))
}

fn take<const N: usize>(rest: &mut Bytes) -> Option<[u8; N]> {
    if rest.len() < N {
        return None;
    }
    rest.split_to(N).as_ref().try_into().ok()
}

fn take_number(rest: &mut Bytes) -> Option<u64> {
    take(rest).map(u64::from_be_bytes)
}

fn take_position(rest: &mut Bytes) -> Option<Position> {
    let epoch = take::<16>(rest)?;
    let epoch = Epoch::parse(std::str::from_utf8(&epoch).ok()?).ok()?;
    let offset = take_number(rest)?;
    (offset <= Position::MAX_OFFSET).then_some(Position::new(epoch, offset))
}

fn take_channel(
    rest: &mut Bytes,
    tenant: u8,
    channel: u8,
    parse: fn(&str) -> Result<Channel, InvalidChannel>,
) -> Option<TenantChannel> {
    let tenant = take_name(rest, tenant, |text| Tenant::parse(text).ok())?;
    let channel = take_name(rest, channel, |text| parse(text).ok())?;
    Some(TenantChannel::new(tenant, channel))
}

fn take_name<T>(rest: &mut Bytes, len: u8, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let len = usize::from(len);
    if rest.len() < len {
        return None;
    }
    parse(std::str::from_utf8(&rest.split_to(len)).ok()?)
}

const VERSION: u8 = 1;
const KIND_PUBLICATION: u8 = 1;
const KIND_ANNOUNCEMENT: u8 = 2;
const KIND_SESSION_MOVED: u8 = 3;
const KIND_PROBE: u8 = 4;
const KIND_BEAT: u8 = 5;
const KIND_DRAIN: u8 = 6;
const KIND_NEWS: u8 = 7;
const KIND_PRESENCE: u8 = 8;
const NEWS_TENANTS: u8 = 1;
const NEWS_REVOCATIONS: u8 = 2;
const FLAG_JSON: u8 = 1;

#[cfg(test)]
mod tests;
