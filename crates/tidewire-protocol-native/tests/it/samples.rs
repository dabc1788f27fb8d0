use std::sync::Arc;

use bytes::Bytes;
use tidewire_model::{
    Channel, Deltas, Envelope, Epoch, Event, Payload, Position, Publication, PublicationId, Tenant,
    TenantChannel, UserId,
};
use tidewire_protocol::{Decoded, Descriptor, Frame, ProtocolError};
use tidewire_protocol_native::{JSON, PROTOBUF};

pub(crate) const EPOCH: &str = "0mfabc1200010002";
pub(crate) const LATER_EPOCH: &str = "0mfabc9900010002";
pub(crate) const NONCE: &str = "000102030405060708090a0b0c0d0e0f";

pub(crate) fn channel(name: &str) -> Channel {
    Channel::parse(name).unwrap()
}

pub(crate) fn epoch(text: &str) -> Epoch {
    Epoch::parse(text).unwrap()
}

pub(crate) fn at(offset: u64) -> Position {
    Position::new(epoch(EPOCH), offset)
}

pub(crate) fn json_payload(text: &str) -> Payload {
    Payload::json(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

pub(crate) fn publication(name: &str, position: Position, payload: Payload) -> Publication {
    Publication {
        channel: TenantChannel::new(Tenant::parse("acme").unwrap(), channel(name)),
        position,
        id: None,
        time_ms: 1_790_000_000_000 + position.offset,
        publisher: None,
        payload,
    }
}

/// With an id and a user.
pub(crate) fn signed(publication: Publication) -> Publication {
    Publication {
        id: Some(PublicationId::parse("abc").unwrap()),
        publisher: Some(UserId::parse("ada").unwrap()),
        ..publication
    }
}

pub(crate) fn publications(of: impl IntoIterator<Item = Publication>) -> Event {
    let publications: Vec<_> = of.into_iter().map(|one| Arc::new(Envelope::new(one))).collect();
    Event::Publications {
        channel: publications[0].channel.channel.clone(),
        publications,
        deltas: Deltas::Unasked,
    }
}

pub(crate) fn text_frame(text: &str) -> Frame {
    Frame::Text(Bytes::copy_from_slice(text.as_bytes()))
}

pub(crate) fn binary_frame(bytes: Vec<u8>) -> Frame {
    Frame::Binary(bytes.into())
}

pub(crate) fn decode_json(text: &str) -> Result<Vec<Decoded>, ProtocolError> {
    (JSON.start)().decode(text_frame(text))
}

pub(crate) fn decode_protobuf(bytes: Vec<u8>) -> Result<Vec<Decoded>, ProtocolError> {
    (PROTOBUF.start)().decode(binary_frame(bytes))
}

pub(crate) fn encode(with: Descriptor, events: &[Event], soft_limit: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    (with.start)().encode(events, soft_limit, &mut frames);
    frames
}

pub(crate) fn encode_json(events: &[Event]) -> Vec<String> {
    encode(JSON, events, usize::MAX).iter().map(as_text).collect()
}

pub(crate) fn as_text(frame: &Frame) -> String {
    let Frame::Text(bytes) = frame else { panic!("not a text frame: {frame:?}") };
    String::from_utf8(bytes.to_vec()).unwrap()
}
