//! What the paths work on: values of the size that production has.

use bytes::Bytes;
use tidewire_model::{
    Channel, Command, Identity, Incarnation, Payload, Permissions, Position, Publication,
    PublicationId, Publish, Request, RequestId, Tenant, TenantChannel, UserId,
};

/// Milliseconds since the Unix epoch: some day in 2026, so that numbers have as many digits as
/// they have now.
const TIME_MS: u64 = 1_780_000_000_000;

/// A byte that a publication has once, and nothing else in its frame but perhaps the length.
pub(crate) const MARK: u8 = b'^';

pub(crate) fn channel() -> TenantChannel {
    numbered_channel(17)
}

pub(crate) fn numbered_channel(number: u32) -> TenantChannel {
    let tenant = Tenant::parse("acme").expect("a tenant");
    let channel = Channel::parse(&format!("chat/room-{number}")).expect("a channel");
    TenantChannel::new(tenant, channel)
}

pub(crate) fn user() -> UserId {
    UserId::parse("user-4711").expect("a user")
}

pub(crate) fn identity() -> Identity {
    let tenant = channel().tenant;
    Identity {
        tenant,
        user: user(),
        permissions: Permissions::all(),
        expires_at: None,
        provenance: None,
    }
}

pub(crate) fn position(offset: u64) -> Position {
    Position::new(Incarnation::new(TIME_MS, 1).epoch(0), offset)
}

/// A JSON string of `bytes` bytes, quotes included, of text that compresses as prose does and has
/// one [`MARK`].
pub(crate) fn payload(bytes: usize) -> Payload {
    const TEXT: &str =
        "the quick brown fox jumps over the lazy dog while seven boxing wizards go; ";
    let text: String = TEXT.chars().cycle().take(bytes - 3).collect();
    let text = format!("\"{}{text}\"", char::from(MARK));
    Payload::json(Bytes::from(text)).expect("a JSON string")
}

/// 164 bytes on the wire as JSON, header and mask included.
pub(crate) fn publish() -> Request {
    let id = PublicationId::parse("01J9ZQ4T6W8XA3C5E7G9K2M4P6").expect("an id");
    let channel = channel().channel;
    let publish = Publish { channel, id: Some(id), payload: payload(66) };
    Request { id: RequestId(4_711), command: Command::Publish(publish) }
}

/// A publication of 128 bytes.
pub(crate) fn publication(offset: u64) -> Publication {
    Publication {
        channel: channel(),
        position: position(offset),
        id: None,
        time_ms: TIME_MS,
        publisher: Some(user()),
        payload: payload(128),
    }
}
