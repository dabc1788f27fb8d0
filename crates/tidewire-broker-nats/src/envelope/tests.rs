use proptest::prelude::*;
use tidewire_model::Incarnation;

use super::*;

#[test]
fn a_publication_is_written_exactly_like_this() {
    let envelope = encode_publication(&publication());

    let mut expected = vec![1, 1, 1, 4, 7, 2, 3, 0];
    expected.extend(b"0000000z00010002");
    expected.extend([0, 0, 0, 0, 0, 0, 1, 2]);
    expected.extend([0, 0, 1, 0xa0, 0xc4, 0xb3, 0x54, 0]);
    expected.extend("acmegrößei1ann[1,2]".bytes());
    assert_eq!(envelope, expected);
}

#[test]
fn the_other_kinds_are_written_exactly_like_this() {
    let announcement = encode_announcement(&publication().channel, publication().position);
    let notice = encode_notice(&notice());
    let probe = encode_probe(0x0102);
    let beat = encode_beat(&NodeId::parse("edge-1").unwrap());

    let mut expected = vec![1, 2, 0, 4, 7, 0, 0, 0];
    expected.extend(b"0000000z00010002\0\0\0\0\0\0\x01\x02");
    expected.extend("acmegröße".bytes());
    assert_eq!(announcement, expected);
    assert_eq!(notice, &b"\x01\x03\0\x04\0\0\0\x000123456789abcdef\0\0\0\0\0\0\0\x09acme"[..]);
    assert_eq!(probe, &b"\x01\x04\0\0\0\0\0\0\0\0\0\0\0\0\x01\x02"[..]);
    assert_eq!(beat, &b"\x01\x05\0\0\0\x06\0\0edge-1"[..]);
    assert_eq!(encode_notice(&Notice::Drain), &b"\x01\x06\0\0\0\0\0\0"[..]);
}

#[test]
fn presence_is_a_kind_of_its_own_for_reserved_channels_alone() {
    let plain = publication();
    let reserved = plain.channel.channel.presence().unwrap();
    let channel = TenantChannel::new(plain.channel.tenant.clone(), reserved);
    let presence = Publication { channel, ..plain.clone() };

    let envelope = encode_publication(&presence);

    assert_eq!(envelope[..2], [1, 8]);
    assert_eq!(decode(envelope.clone()), Ok(Content::Publication(presence)));
    assert_eq!(decode(with(&envelope, 1, 1)), Err(Misread::Malformed));
    assert_eq!(decode(with(&encode_publication(&plain), 1, 8)), Err(Misread::Malformed));
    assert_eq!(decode(with(&envelope, 2, 0)), Err(Misread::Malformed), "it is not JSON");
}

#[test]
fn a_payload_does_not_keep_the_buffer_it_came_in() {
    let envelope = encode_publication(&publication());

    let Ok(Content::Publication(decoded)) = decode(envelope.clone()) else {
        panic!("a publication was encoded")
    };

    let payload = decoded.payload.bytes();
    assert_eq!(payload, publication().payload.bytes());
    assert!(!envelope.as_ptr_range().contains(&payload.as_ptr()));
}

#[test]
fn another_version_or_kind_is_told_from_rubbish() {
    let good = encode_publication(&publication());

    assert_eq!(decode(with(&good, 0, 2)), Err(Misread::Version));
    assert_eq!(decode(with(&good, 1, 9)), Err(Misread::Kind));
    assert_eq!(decode(with(&good, 1, 0)), Err(Misread::Kind));
    assert_eq!(decode(Bytes::new()), Err(Misread::Malformed));
    assert_eq!(decode(good.slice(..7)), Err(Misread::Malformed));
}

#[test]
fn what_is_not_understood_in_full_is_refused() {
    let good = encode_publication(&publication());
    let unknown_flag = with(&good, 2, 3);
    let reserved = with(&good, 7, 1);
    let bad_epoch = with(&good, 8, b'A');
    let huge_offset = with(&good, 24, 0xff);
    let bad_tenant = with(&good, 40, b'A');
    let bad_channel = with(&good, 44, b'*');
    let not_utf8 = with(&good, 44, 0xff);
    let no_tenant = with(&good, 3, 0);
    let too_long = with(&good, 6, 200);

    for bad in [
        unknown_flag,
        reserved,
        bad_epoch,
        huge_offset,
        bad_tenant,
        bad_channel,
        not_utf8,
        no_tenant,
        too_long,
    ] {
        assert_eq!(decode(bad.clone()), Err(Misread::Malformed), "{bad:?}");
    }
}

#[test]
fn only_a_publication_may_have_something_after_its_last_field() {
    let others = [
        encode_announcement(&publication().channel, publication().position),
        encode_notice(&notice()),
        encode_probe(1),
        encode_beat(&NodeId::parse("edge-1").unwrap()),
    ];
    for envelope in others {
        assert!(decode(envelope.clone()).is_ok());
        let longer = [envelope.as_ref(), b"x"].concat();
        assert_eq!(decode(longer.into()), Err(Misread::Malformed));
    }
}

#[test]
fn no_shortened_envelope_is_taken_for_a_whole_one() {
    let envelope = encode_publication(&publication());
    let payload = publication().payload.len();

    for len in 0..envelope.len() - payload {
        assert_eq!(decode(envelope.slice(..len)), Err(Misread::Malformed), "{len} bytes");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(bytes.into());
    }

    #[test]
    fn damaged_envelopes_never_panic(at in 0_usize..61, byte in any::<u8>(), cut in 0_usize..70) {
        let damaged = with(&encode_publication(&publication()), at, byte);
        let _ = decode(damaged.slice(..cut.min(damaged.len())));
    }

    #[test]
    fn every_publication_survives(publication in any_publication()) {
        let decoded = decode(encode_publication(&publication));

        prop_assert_eq!(decoded, Ok(Content::Publication(publication)));
    }

    #[test]
    fn every_announcement_survives(publication in any_publication()) {
        let Publication { channel, position, .. } = publication;

        let decoded = decode(encode_announcement(&channel, position));

        prop_assert_eq!(decoded, Ok(Content::Announcement { channel, position }));
    }

    #[test]
    fn every_notice_probe_and_beat_survives(
        session in any::<[u8; 16]>(),
        number in any::<u64>(),
        tenant in "[a-z0-9_-]{1,32}",
        node in "[a-zA-Z0-9_-]{1,64}",
    ) {
        let node = NodeId::parse(&node).unwrap();
        let notice = Notice::SessionMoved {
            tenant: Tenant::parse(&tenant).unwrap(),
            session: SessionId::from_bytes(session),
            generation: Generation(number),
        };

        prop_assert_eq!(decode(encode_notice(&notice)), Ok(Content::Notice(notice)));
        prop_assert_eq!(decode(encode_probe(number)), Ok(Content::Probe(number)));
        prop_assert_eq!(decode(encode_beat(&node)), Ok(Content::Beat(node)));
    }
}

prop_compose! {
    fn any_publication()(
        tenant in "[a-z0-9_-]{1,32}",
        channel in "[a-zé房🚪:. ]{1,20}(/[a-z~]{1,20}){0,3}",
        (offset, time_ms) in (0..=Position::MAX_OFFSET, any::<u64>()),
        (life, nonce) in (any::<u64>(), any::<u32>()),
        id in prop::option::of("[ -~]{1,64}"),
        publisher in prop::option::of("[a-zü@]{1,64}"),
        payload in prop::collection::vec(any::<u8>(), 0..200),
        json in any::<bool>(),
    ) -> Publication {
        let payload = Bytes::from(payload);
        Publication {
            channel: TenantChannel::new(
                Tenant::parse(&tenant).unwrap(),
                Channel::parse(&channel).unwrap(),
            ),
            position: Position::new(Incarnation::new(life, nonce).epoch(nonce), offset),
            id: id.map(|id| PublicationId::parse(&id).unwrap()),
            time_ms,
            publisher: publisher.map(|user| UserId::parse(&user).unwrap()),
            payload: if json { Payload::checked_json(payload) } else { Payload::binary(payload) },
        }
    }
}

fn publication() -> Publication {
    Publication {
        channel: TenantChannel::new(
            Tenant::parse("acme").unwrap(),
            Channel::parse("größe").unwrap(),
        ),
        position: Position::new(Incarnation::new(35, 1).epoch(2), 0x0102),
        id: Some(PublicationId::parse("i1").unwrap()),
        time_ms: 0x01a0_c4b3_5400,
        publisher: Some(UserId::parse("ann").unwrap()),
        payload: Payload::json(Bytes::from_static(b"[1,2]")).unwrap(),
    }
}

fn notice() -> Notice {
    Notice::SessionMoved {
        tenant: Tenant::parse("acme").unwrap(),
        session: SessionId::from_bytes(*b"0123456789abcdef"),
        generation: Generation(9),
    }
}

fn with(envelope: &Bytes, at: usize, byte: u8) -> Bytes {
    let mut changed = envelope.to_vec();
    changed[at] = byte;
    changed.into()
}

#[test]
fn a_drain_is_told_by_its_kind_alone() {
    let drain = encode_notice(&Notice::Drain);

    assert_eq!(decode(drain.clone()), Ok(Content::Notice(Notice::Drain)));
    assert_eq!(decode([&drain[..], b"x"].concat().into()), Err(Misread::Malformed));
    assert_eq!(decode(with(&drain, 3, 1)), Err(Misread::Malformed));
}

#[test]
fn news_are_told_by_one_byte() {
    let told = [(News::Tenants, 1), (News::Revocations, 2)];
    for (news, byte) in told {
        let notice = Notice::News(news);
        let envelope = encode_notice(&notice);

        assert_eq!(envelope, [1, 7, 0, 0, 0, 0, 0, 0, byte][..]);
        assert_eq!(decode(envelope.clone()), Ok(Content::Notice(notice)));
        assert_eq!(decode(envelope.slice(..8)), Err(Misread::Malformed));
        assert_eq!(decode([&envelope[..], b"x"].concat().into()), Err(Misread::Malformed));
        assert_eq!(decode(with(&envelope, 3, 1)), Err(Misread::Malformed));
        assert_eq!(decode(with(&envelope, 8, 3)), Err(Misread::Malformed));
    }
}
