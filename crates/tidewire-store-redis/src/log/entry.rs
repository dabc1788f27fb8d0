//! A publication as an entry of a stream: field `m` holds all but the payload, `p` the payload.
//!
//! `m` is the time, then a zero byte, the kind (`j` for JSON, `b` for anything else), the batch, the
//! place in it, and after another zero byte each the id and the publisher, either of which may be
//! empty. The function in Redis writes the time and what is before the kind.

use bytes::Bytes;
use tidewire_broker::{Draft, Lineage};
use tidewire_model::{Epoch, Payload, Position, Publication, PublicationId, TenantChannel, UserId};

use crate::error::CallError;
use crate::random;
use crate::reply::{Reply, unexpected};

/// Under what name the id of a draft is remembered; empty if it has none.
pub(super) fn dedupe_field(channel: &TenantChannel, draft: &Draft) -> Vec<u8> {
    // Channels of several tenants share a bucket, and the key does not tell them apart.
    draft.dedupe_key(&channel.channel).map_or_else(Vec::new, |key| {
        [key.as_bytes().as_slice(), channel.tenant.as_str().as_bytes()].concat()
    })
}

pub(super) fn describe(draft: &Draft, batch: [u8; 8], place: usize) -> Vec<u8> {
    let kind: &[u8] = if draft.payload.is_json() { b"j" } else { b"b" };
    let id = draft.id.as_ref().map_or("", PublicationId::as_str);
    let publisher = draft.publisher.as_ref().map_or("", UserId::as_str);
    let place = random::four_digits(place);
    [kind, &batch, &place, b"\0", id.as_bytes(), b"\0", publisher.as_bytes()].concat()
}

/// `text` is `epoch:first offset` for each era, with spaces between.
pub(super) fn parse_lineage(text: &str) -> Result<Lineage, CallError> {
    let era = |era: &str| {
        let (epoch, first) = era.split_once(':')?;
        Some((Epoch::parse(epoch).ok()?, first.parse().ok()?))
    };
    let eras: Option<Vec<(Epoch, u64)>> = text.split(' ').map(era).collect();
    let rising = |eras: &Vec<(Epoch, u64)>| eras[0].1 >= 1 && eras.is_sorted_by_key(|era| era.1);
    eras.filter(rising).map(Lineage::new).ok_or_else(|| unexpected("a lineage"))
}

pub(super) fn parse_all(
    mut entries: Reply,
    channel: &TenantChannel,
    lineage: &Lineage,
) -> Result<Vec<Publication>, CallError> {
    let mut publications = Vec::new();
    while !entries.is_empty() {
        publications.push(parse(entries.nested()?, channel, lineage)?);
    }
    Ok(publications)
}

fn parse(
    mut entry: Reply,
    channel: &TenantChannel,
    lineage: &Lineage,
) -> Result<Publication, CallError> {
    let offset = parse_offset(&entry.text()?).ok_or_else(|| unexpected("an offset"))?;
    let mut fields = entry.nested()?;
    let (_, description, _, payload) =
        (fields.bytes()?, fields.text()?, fields.bytes()?, fields.bytes()?);
    let described = Described::parse(&description)
        .ok_or_else(|| CallError::Corrupt("the description of a publication".into()))?;
    Ok(Publication {
        channel: channel.clone(),
        position: Position::new(lineage.epoch_of(offset), offset),
        id: described.id,
        time_ms: described.time_ms,
        publisher: described.publisher,
        payload: described.kind.wrap(payload),
    })
}

fn parse_offset(id: &str) -> Option<u64> {
    id.strip_suffix("-0")?.parse().ok()
}

struct Described {
    time_ms: u64,
    kind: Kind,
    id: Option<PublicationId>,
    publisher: Option<UserId>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Json,
    Binary,
}

impl Kind {
    fn wrap(self, payload: Bytes) -> Payload {
        match self {
            Self::Json => Payload::checked_json(payload),
            Self::Binary => Payload::binary(payload),
        }
    }
}

impl Described {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('\0');
        let (time, kind, id, publisher) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let kind = match kind.bytes().next()? {
            b'j' => Kind::Json,
            b'b' => Kind::Binary,
            _ => return None,
        };
        Some(Self {
            time_ms: time.parse().ok()?,
            kind,
            id: unless_empty(id, PublicationId::parse)?,
            publisher: unless_empty(publisher, UserId::parse)?,
        })
    }
}

/// `Some(None)` for an empty text, `None` for one that cannot be read.
#[expect(clippy::option_option, reason = "absent and unreadable are two things")]
fn unless_empty<T, E>(text: &str, parse: impl Fn(&str) -> Result<T, E>) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { parse(text).ok().map(Some) }
}

/// How many follow `base` one by one. Something else than the log must have removed an entry for it
/// to be fewer than all; reading on from there tells of the hole.
pub(super) fn count_without_hole(publications: &[Publication], base: u64) -> usize {
    let follows = |(one, expected): &(&Publication, u64)| one.position.offset == *expected;
    publications.iter().zip(base + 1..).take_while(follows).count()
}

#[cfg(test)]
mod tests {
    use tidewire_model::{Channel, Tenant};

    use super::*;

    #[test]
    fn what_is_described_is_read_back() {
        let draft = Draft {
            id: Some(PublicationId::parse("1").expect("valid")),
            publisher: Some(UserId::parse("ann").expect("valid")),
            payload: Payload::binary(Bytes::new()),
        };

        let text = String::from_utf8(describe(&draft, *b"01234567", 3)).expect("text");
        let described = Described::parse(&format!("99\0{text}")).expect("readable");

        assert_eq!(text, "b012345670003\x001\x00ann");
        assert_eq!((described.time_ms, described.kind), (99, Kind::Binary));
        assert_eq!((described.id, described.publisher), (draft.id, draft.publisher));
    }

    #[test]
    fn an_id_of_one_tenant_is_not_known_again_in_another() {
        let draft = Draft {
            id: Some(PublicationId::parse("1").expect("valid")),
            publisher: Some(UserId::parse("ann").expect("valid")),
            payload: Payload::binary(Bytes::new()),
        };
        let of = |tenant| {
            let tenant = Tenant::parse(tenant).expect("valid");
            let channel = Channel::parse("room").expect("valid");
            dedupe_field(&TenantChannel::new(tenant, channel), &draft)
        };

        assert_eq!(of("acme"), of("acme"));
        assert_ne!(of("acme"), of("globex"));
        assert_ne!(of("acme"), of("acme2"));
    }

    #[test]
    fn what_is_no_description_is_refused() {
        for text in ["", "1", "x\0j\0\0", "1\0\0\0", "1\0k\0\0", "1\0j\0\0\x01", "1\0j\0"] {
            assert!(Described::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_lineage_is_refused() {
        let epoch = "0123456789abcdef";
        for text in ["", "x:1", epoch, &format!("{epoch}:0"), &format!("{epoch}:2 {epoch}:1")] {
            assert!(parse_lineage(text).is_err(), "{text:?}");
        }
        assert!(parse_lineage(&format!("{epoch}:1 {epoch}:1")).is_ok());
    }
}
