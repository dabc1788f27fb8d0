//! Events in, frames out: each row is one event in both encodings, and back.

use std::time::Duration;

use bytes::Bytes;
use tidewire_model::{
    Channel, Connected, Disconnect, ErrorCode, Event, Failure, FormerMember, Gap, GapReason,
    HistoryPage, Limit, Member, MemberPage, MemberWord, NodeId, Occupancy, Payload, Position,
    PresenceChange, Publication, Recovery, RequestId, SessionId, Subscribed, Tenant, TenantChannel,
    UserId,
};
use tidewire_protocol_native::client::{
    Closing, Codec, ReachedLimit, Received, ReceivedPage, Refusal, ServerEvent,
};
use tidewire_protocol_native::{JSON, PROTOBUF};

use crate::samples::{
    EPOCH, LATER_EPOCH, at, binary_frame, channel, encode, encode_json, epoch, json_payload,
    publication, publications, signed, text_frame,
};
use crate::wire::{bytes, message, text, varint};

const REQUEST: RequestId = RequestId(3);

struct Row {
    event: Event,
    json: String,
    protobuf: Vec<u8>,
    heard: ServerEvent,
}

fn wire_position(field: u64, epoch: &str, offset: u64) -> Vec<u8> {
    message(field, &[text(1, epoch), varint(2, offset)])
}

fn connected() -> Row {
    let connected = Connected {
        request: REQUEST,
        session: SessionId::from_bytes(
            *b"\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f",
        ),
        resume_token: Some("sealed".into()),
        resume_window: Duration::from_mins(2),
        resumed: true,
        node: NodeId::parse("node-1").unwrap(),
        ping_interval: Duration::from_secs(25),
        expires_at: Some(1_790_000_000),
    };
    Row {
        event: Event::Connected(connected.clone()),
        json: r#"{"id":3,"connected":{"session":"000102030405060708090a0b0c0d0e0f","resume_token":"sealed","resume_window_ms":120000,"resumed":true,"node":"node-1","ping_interval_ms":25000,"expires_at":1790000000}}"#.into(),
        protobuf: [
            varint(1, 3),
            message(
                9,
                &[
                    text(1, "000102030405060708090a0b0c0d0e0f"),
                    text(2, "sealed"),
                    varint(3, 120_000),
                    varint(4, 1),
                    text(5, "node-1"),
                    varint(6, 25_000),
                    varint(7, 1_790_000_000),
                ],
            ),
        ]
        .concat(),
        heard: ServerEvent::Connected(connected),
    }
}

fn connections() -> Vec<Row> {
    vec![connected(), connected_without_a_kept_session()]
}

fn connected_without_a_kept_session() -> Row {
    let connected = Connected {
        request: REQUEST,
        session: SessionId::from_bytes([0; 16]),
        resume_token: None,
        resume_window: Duration::ZERO,
        resumed: false,
        node: NodeId::parse("node-1").unwrap(),
        ping_interval: Duration::from_secs(25),
        expires_at: None,
    };
    Row {
        event: Event::Connected(connected.clone()),
        json: r#"{"id":3,"connected":{"session":"00000000000000000000000000000000","resume_window_ms":0,"resumed":false,"node":"node-1","ping_interval_ms":25000}}"#.into(),
        protobuf: [
            varint(1, 3),
            message(
                9,
                &[
                    text(1, "00000000000000000000000000000000"),
                    text(5, "node-1"),
                    varint(6, 25_000),
                ],
            ),
        ]
        .concat(),
        heard: ServerEvent::Connected(connected),
    }
}

fn subscribed(recovery: Recovery, json: &str, protobuf: &[Vec<u8>]) -> Row {
    let subscribed = Subscribed {
        request: Some(REQUEST),
        channel: channel("a"),
        recovery,
        position: at(7),
        delta: None,
        sampled: false,
    };
    Row {
        event: Event::Subscribed(subscribed.clone()),
        json: format!(
            r#"{{"id":3,"subscribed":{{"channel":"a",{json}"epoch":"{EPOCH}","offset":7}}}}"#
        ),
        protobuf: [
            varint(1, 3),
            message(4, &[text(1, "a"), protobuf.concat(), wire_position(5, EPOCH, 7)]),
        ]
        .concat(),
        heard: ServerEvent::Subscribed(subscribed),
    }
}

fn subscriptions() -> Vec<Row> {
    let failed = |reason: &str| format!(r#""recovered":false,"reason":"{reason}","#);
    vec![
        subscribed(Recovery::NotAsked, "", &[]),
        subscribed(Recovery::Recovered, r#""recovered":true,"#, &[varint(2, 1)]),
        subscribed(
            Recovery::Rewound,
            r#""recovered":true,"rewound":true,"#,
            &[varint(2, 1), varint(3, 1)],
        ),
        subscribed(
            Recovery::Failed(GapReason::Window),
            &failed("window"),
            &[varint(2, 0), varint(4, 1)],
        ),
        subscribed(
            Recovery::Failed(GapReason::Reset),
            &failed("reset"),
            &[varint(2, 0), varint(4, 2)],
        ),
        subscribed(
            Recovery::Failed(GapReason::Rewind),
            &failed("rewind"),
            &[varint(2, 0), varint(4, 3)],
        ),
        subscribed(
            Recovery::Failed(GapReason::Limit),
            &failed("limit"),
            &[varint(2, 0), varint(4, 4)],
        ),
    ]
}

fn replies() -> Vec<Row> {
    let published = |duplicate: bool, json: &str, protobuf: Vec<u8>| Row {
        event: Event::Published { request: REQUEST, position: at(7), duplicate },
        json: format!(r#"{{"id":3,"published":{{"epoch":"{EPOCH}","offset":7{json}}}}}"#),
        protobuf: [varint(1, 3), message(3, &[wire_position(1, EPOCH, 7), protobuf])].concat(),
        heard: ServerEvent::Published { request: REQUEST, position: at(7), duplicate },
    };
    vec![
        published(false, "", vec![]),
        published(true, r#","duplicate":true"#, varint(2, 1)),
        Row {
            event: Event::Pong { request: REQUEST },
            json: r#"{"id":3,"pong":{}}"#.into(),
            protobuf: [varint(1, 3), message(7, &[])].concat(),
            heard: ServerEvent::Pong { request: REQUEST },
        },
        Row {
            event: Event::Refreshed { request: REQUEST, expires_at: Some(9) },
            json: r#"{"id":3,"refreshed":{"expires_at":9}}"#.into(),
            protobuf: [varint(1, 3), message(8, &[varint(1, 9)])].concat(),
            heard: ServerEvent::Refreshed { request: REQUEST, expires_at: Some(9) },
        },
        Row {
            event: Event::Refreshed { request: REQUEST, expires_at: None },
            json: r#"{"id":3,"refreshed":{}}"#.into(),
            protobuf: [varint(1, 3), message(8, &[])].concat(),
            heard: ServerEvent::Refreshed { request: REQUEST, expires_at: None },
        },
        Row {
            event: Event::Unsubscribed {
                request: Some(REQUEST),
                channel: channel("a"),
                failure: None,
            },
            json: r#"{"id":3,"unsubscribed":{"channel":"a"}}"#.into(),
            protobuf: [varint(1, 3), message(5, &[text(1, "a")])].concat(),
            heard: ServerEvent::Unsubscribed {
                request: Some(REQUEST),
                channel: channel("a"),
                refusal: None,
            },
        },
    ]
}

fn pages() -> Vec<Row> {
    let first = signed(publication("a", at(2), json_payload(r#"{"b" : 1.50e0}"#)));
    let later = Position::new(epoch(LATER_EPOCH), 3);
    let second = publication("a", later, Payload::binary(Bytes::from_static(&[0, 255, 16])));
    let page = HistoryPage {
        publications: vec![first.clone(), second.clone()],
        top: Position::new(epoch(LATER_EPOCH), 9),
        next: Some(later),
    };
    let empty = HistoryPage { publications: vec![], top: at(0), next: None };
    vec![
        Row {
            event: Event::History { request: REQUEST, page },
            json: format!(
                r#"{{"id":3,"history":{{"publications":[{{"epoch":"{EPOCH}","offset":2,"time":1790000000002,"id":"abc","user":"ada","data":{{"b" : 1.50e0}}}},{{"epoch":"{LATER_EPOCH}","offset":3,"time":1790000000003,"binary":"AP8Q"}}],"top":{{"epoch":"{LATER_EPOCH}","offset":9}},"next":{{"epoch":"{LATER_EPOCH}","offset":3}}}}}}"#
            ),
            protobuf: [
                varint(1, 3),
                message(
                    6,
                    &[
                        message(1, &[signed_item(2, r#"{"b" : 1.50e0}"#), text(6, EPOCH)]),
                        message(1, &[binary_item(3), text(6, LATER_EPOCH)]),
                        wire_position(2, LATER_EPOCH, 9),
                        wire_position(3, LATER_EPOCH, 3),
                    ],
                ),
            ]
            .concat(),
            heard: ServerEvent::History {
                request: REQUEST,
                page: ReceivedPage {
                    publications: vec![received(first), received(second)],
                    top: Position::new(epoch(LATER_EPOCH), 9),
                    next: Some(later),
                },
            },
        },
        Row {
            event: Event::History { request: REQUEST, page: empty },
            json: format!(
                r#"{{"id":3,"history":{{"publications":[],"top":{{"epoch":"{EPOCH}","offset":0}}}}}}"#
            ),
            protobuf: [varint(1, 3), message(6, &[message(2, &[text(1, EPOCH)])])].concat(),
            heard: ServerEvent::History {
                request: REQUEST,
                page: ReceivedPage { publications: vec![], top: at(0), next: None },
            },
        },
    ]
}

fn received(of: Publication) -> Received {
    Received {
        position: of.position,
        time_ms: of.time_ms,
        id: of.id,
        publisher: of.publisher,
        payload: of.payload,
    }
}

fn signed_item(offset: u64, json: &str) -> Vec<u8> {
    [
        varint(1, offset),
        varint(2, 1_790_000_000_000 + offset),
        text(3, "abc"),
        text(4, "ada"),
        message(5, &[text(1, json)]),
    ]
    .concat()
}

fn binary_item(offset: u64) -> Vec<u8> {
    [
        varint(1, offset),
        varint(2, 1_790_000_000_000 + offset),
        message(5, &[bytes(1, &[0, 255, 16]), varint(2, 1)]),
    ]
    .concat()
}

fn deliveries() -> Vec<Row> {
    let raw = "{\n\"x\" :\t1E400}";
    let first = signed(publication("say \"hi\"/ü", at(7), json_payload(raw)));
    let second =
        publication("say \"hi\"/ü", at(8), Payload::binary(Bytes::from_static(&[0, 255, 16])));
    let gap = Gap { reason: GapReason::Window, position: at(7), missed: Some(12) };
    let skipped = Gap { reason: GapReason::Skipped, position: at(7), missed: Some(2) };
    let unknown = Gap { reason: GapReason::Rewind, position: at(7), missed: None };
    vec![
        Row {
            event: publications([first.clone(), second.clone()]),
            json: format!(
                r#"{{"publications":{{"channel":"say \"hi\"/ü","epoch":"{EPOCH}","items":[{{"offset":7,"time":1790000000007,"id":"abc","user":"ada","data":{raw}}},{{"offset":8,"time":1790000000008,"binary":"AP8Q"}}]}}}}"#
            ),
            protobuf: message(
                2,
                &[
                    text(1, "say \"hi\"/ü"),
                    text(2, EPOCH),
                    message(3, &[signed_item(7, raw)]),
                    message(3, &[binary_item(8)]),
                ],
            ),
            heard: ServerEvent::Publications {
                channel: channel("say \"hi\"/ü"),
                publications: vec![received(first), received(second)],
            },
        },
        Row {
            event: Event::Gap { channel: channel("a"), gap },
            json: format!(
                r#"{{"gap":{{"channel":"a","reason":"window","epoch":"{EPOCH}","offset":7,"missed":12}}}}"#
            ),
            protobuf: message(
                10,
                &[text(1, "a"), varint(2, 1), wire_position(3, EPOCH, 7), varint(4, 12)],
            ),
            heard: ServerEvent::Gap { channel: channel("a"), gap },
        },
        Row {
            event: Event::Gap { channel: channel("a"), gap: unknown },
            json: format!(
                r#"{{"gap":{{"channel":"a","reason":"rewind","epoch":"{EPOCH}","offset":7}}}}"#
            ),
            protobuf: message(10, &[text(1, "a"), varint(2, 3), wire_position(3, EPOCH, 7)]),
            heard: ServerEvent::Gap { channel: channel("a"), gap: unknown },
        },
        Row {
            event: Event::Gap { channel: channel("a"), gap: skipped },
            json: format!(
                r#"{{"gap":{{"channel":"a","reason":"skipped","epoch":"{EPOCH}","offset":7,"missed":2}}}}"#
            ),
            protobuf: message(
                10,
                &[text(1, "a"), varint(2, 5), wire_position(3, EPOCH, 7), varint(4, 2)],
            ),
            heard: ServerEvent::Gap { channel: channel("a"), gap: skipped },
        },
    ]
}

fn failures() -> Vec<Row> {
    let denied = Failure::new(ErrorCode::PermissionDenied, "no permission to publish here");
    let busy =
        Failure::new(ErrorCode::Overloaded, "slow down").retry_after(Duration::from_millis(250));
    let heard_denied = refusal(1100, "permission_denied", "no permission to publish here");
    let heard_busy = Refusal {
        retryable: true,
        retry_after: Some(Duration::from_millis(250)),
        ..refusal(2002, "overloaded", "slow down")
    };
    let json_denied = r#"{"code":1100,"name":"permission_denied","message":"no permission to publish here","retryable":false}"#;
    let wire_denied =
        [varint(1, 1100), text(2, "permission_denied"), text(3, "no permission to publish here")]
            .concat();
    vec![
        Row {
            event: Event::Failed { request: None, failure: denied.clone() },
            json: format!(r#"{{"error":{json_denied}}}"#),
            protobuf: bytes(13, &wire_denied),
            heard: ServerEvent::Failed { request: None, refusal: heard_denied.clone() },
        },
        Row {
            event: Event::Failed { request: Some(REQUEST), failure: busy },
            json: r#"{"id":3,"error":{"code":2002,"name":"overloaded","message":"slow down","retryable":true,"retry_after_ms":250}}"#.into(),
            protobuf: [
                varint(1, 3),
                message(
                    13,
                    &[
                        varint(1, 2002),
                        text(2, "overloaded"),
                        text(3, "slow down"),
                        varint(4, 1),
                        varint(5, 250),
                    ],
                ),
            ]
            .concat(),
            heard: ServerEvent::Failed { request: Some(REQUEST), refusal: heard_busy },
        },
        Row {
            event: Event::Unsubscribed {
                request: None,
                channel: channel("a"),
                failure: Some(denied),
            },
            json: format!(r#"{{"unsubscribed":{{"channel":"a","error":{json_denied}}}}}"#),
            protobuf: message(5, &[text(1, "a"), bytes(2, &wire_denied)]),
            heard: ServerEvent::Unsubscribed {
                request: None,
                channel: channel("a"),
                refusal: Some(heard_denied),
            },
        },
    ]
}

fn limits() -> Vec<Row> {
    let exceeded = Failure::new(ErrorCode::RateExceeded, "too fast")
        .retry_after(Duration::from_millis(120))
        .exceeding(Limit::ConnectionPublishRate, 50);
    let heard_exceeded = Refusal {
        retryable: true,
        retry_after: Some(Duration::from_millis(120)),
        limit: Some(Box::new(ReachedLimit { name: "connection_publish_rate".into(), value: 50 })),
        ..refusal(2005, "rate_exceeded", "too fast")
    };
    vec![
        Row {
            event: Event::Failed { request: None, failure: exceeded },
            json: r#"{"error":{"code":2005,"name":"rate_exceeded","message":"too fast","retryable":true,"retry_after_ms":120,"limit":{"name":"connection_publish_rate","value":50}}}"#.into(),
            protobuf: message(
                13,
                &[
                    varint(1, 2005),
                    text(2, "rate_exceeded"),
                    text(3, "too fast"),
                    varint(4, 1),
                    varint(5, 120),
                    message(6, &[text(1, "connection_publish_rate"), varint(2, 50)]),
                ],
            ),
            heard: ServerEvent::Failed { request: None, refusal: heard_exceeded },
        },
    ]
}

fn refusal(code: u16, name: &str, message: &str) -> Refusal {
    let (name, message) = (name.into(), message.into());
    Refusal { code, name, message, retryable: false, retry_after: None, limit: None }
}

fn partings() -> Vec<Row> {
    let (after, window) = (Duration::from_millis(1_500), Duration::from_secs(15));
    let closing = |disconnect: Disconnect, code: u16, name: &str, reconnect: bool| Row {
        event: Event::Closing(disconnect),
        json: format!(r#"{{"closing":{{"code":{code},"name":"{name}","reconnect":{reconnect}}}}}"#),
        protobuf: message(
            14,
            &[varint(1, code.into()), text(2, name), if reconnect { varint(3, 1) } else { vec![] }],
        ),
        heard: ServerEvent::Closing(Closing { code, name: name.into(), reconnect }),
    };
    vec![
        Row {
            event: Event::Reconnect { after, window, token: None, endpoints: vec![] },
            json: r#"{"reconnect":{"after_ms":1500,"window_ms":15000}}"#.into(),
            protobuf: message(11, &[varint(1, 1500), varint(2, 15_000)]),
            heard: ServerEvent::Reconnect { after, window, token: None, endpoints: vec![] },
        },
        Row {
            event: Event::Reconnect {
                after,
                window,
                token: Some("sealed".into()),
                endpoints: vec!["wss://a".into(), "wss://b:8443".into()],
            },
            json: r#"{"reconnect":{"after_ms":1500,"window_ms":15000,"token":"sealed","endpoints":["wss://a","wss://b:8443"]}}"#.into(),
            protobuf: message(
                11,
                &[
                    varint(1, 1500),
                    varint(2, 15_000),
                    text(3, "sealed"),
                    text(4, "wss://a"),
                    text(4, "wss://b:8443"),
                ],
            ),
            heard: ServerEvent::Reconnect {
                after,
                window,
                token: Some("sealed".into()),
                endpoints: vec!["wss://a".into(), "wss://b:8443".into()],
            },
        },
        Row {
            event: Event::Expiring { at: 1_790_000_000, closes_at: 1_790_000_025 },
            json: r#"{"expiring":{"at":1790000000,"closes_at":1790000025}}"#.into(),
            protobuf: message(12, &[varint(1, 1_790_000_000), varint(2, 1_790_000_025)]),
            heard: ServerEvent::Expiring { at: 1_790_000_000, closes_at: 1_790_000_025 },
        },
        closing(Disconnect::Draining, 1012, "draining", true),
        closing(Disconnect::BadToken, 4401, "bad_token", false),
    ]
}

fn presence() -> Vec<Row> {
    [coming_and_going(), lists_of_members(), changes(), watching()].into_iter().flatten().collect()
}

fn member(data: Option<&str>) -> Member {
    Member {
        id: ADA.parse().unwrap(),
        user: UserId::parse("ada").unwrap(),
        data: data.map(|text| MemberWord::parse(text.to_owned().into()).unwrap()),
    }
}

fn wire_member(field: u64, data: &[u8]) -> Vec<u8> {
    message(field, &[text(1, ADA), text(2, "ada"), data.to_vec()])
}

fn room() -> Channel {
    channel("room:42")
}

fn reserved() -> Channel {
    room().presence().unwrap()
}

fn occupancy() -> Occupancy {
    Occupancy { count: 4, position: at(10) }
}

fn coming_and_going() -> Vec<Row> {
    vec![
        Row {
            event: Event::Entered { request: REQUEST, channel: room(), member: member(None).id },
            json: format!(r#"{{"id":3,"entered":{{"channel":"room:42","member":"{ADA}"}}}}"#),
            protobuf: [varint(1, 3), message(16, &[text(1, "room:42"), text(2, ADA)])].concat(),
            heard: ServerEvent::Entered {
                request: REQUEST,
                channel: room(),
                member: member(None).id,
            },
        },
        Row {
            event: Event::Left { request: REQUEST, channel: room() },
            json: r#"{"id":3,"left":{"channel":"room:42"}}"#.into(),
            protobuf: [varint(1, 3), message(17, &[text(1, "room:42")])].concat(),
            heard: ServerEvent::Left { request: REQUEST, channel: room() },
        },
    ]
}

fn lists_of_members() -> Vec<Row> {
    let mark = "mfabc1200001:17";
    let page = MemberPage {
        members: vec![member(Some("[1.50]")), member(None)],
        occupancy: occupancy(),
        next: mark.parse().ok(),
    };
    vec![Row {
        event: Event::Members { request: REQUEST, channel: room(), page: page.clone() },
        json: format!(
            r#"{{"id":3,"members":{{"channel":"room:42","items":[{{"member":"{ADA}","user":"ada","data":[1.50]}},{{"member":"{ADA}","user":"ada"}}],"count":4,"epoch":"{EPOCH}","offset":10,"next":"{mark}"}}}}"#
        ),
        protobuf: [
            varint(1, 3),
            message(
                18,
                &[
                    text(1, "room:42"),
                    wire_member(2, &text(3, "[1.50]")),
                    wire_member(2, &[]),
                    varint(3, 4),
                    wire_position(4, EPOCH, 10),
                    text(5, mark),
                ],
            ),
        ]
        .concat(),
        heard: ServerEvent::Members { request: REQUEST, channel: room(), page },
    }]
}

fn changes() -> Vec<Row> {
    let change = PresenceChange {
        joined: vec![member(Some("[1.50]"))],
        left: vec![FormerMember { id: ADA.parse().unwrap(), user: member(None).user }],
        ..PresenceChange::at(occupancy())
    };
    let publication = Publication {
        channel: TenantChannel::new(Tenant::parse("acme").unwrap(), reserved()),
        ..publication("room:42", at(1), change.to_payload())
    };
    vec![
        Row {
            event: publications([publication]),
            json: format!(
                r#"{{"presence":{{"channel":"room:42","items":[{{"epoch":"{EPOCH}","offset":10,"joined":[{{"member":"{ADA}","user":"ada","data":[1.50]}}],"left":[{{"member":"{ADA}","user":"ada"}}],"count":4}}]}}}}"#
            ),
            protobuf: message(
                15,
                &[
                    text(1, "room:42"),
                    message(
                        3,
                        &[
                            wire_position(1, EPOCH, 10),
                            wire_member(2, &text(3, "[1.50]")),
                            wire_member(4, &[]),
                            varint(5, 4),
                        ],
                    ),
                ],
            ),
            heard: ServerEvent::Presence { channel: room(), changes: vec![change] },
        },
        Row {
            event: Event::Gap {
                channel: reserved(),
                gap: Gap { reason: GapReason::Reset, position: at(1), missed: None },
            },
            json: r#"{"presence":{"channel":"room:42","items":[{"lost":true}]}}"#.into(),
            protobuf: message(15, &[text(1, "room:42"), message(3, &[varint(6, 1)])]),
            heard: ServerEvent::Presence { channel: room(), changes: vec![PresenceChange::loss()] },
        },
    ]
}

fn watching() -> Vec<Row> {
    vec![
        Row {
            event: Event::Subscribed(Subscribed {
                request: Some(REQUEST),
                channel: reserved(),
                recovery: Recovery::NotAsked,
                position: at(1),
                delta: None,
                sampled: false,
            }),
            json: r#"{"id":3,"watching":{"channel":"room:42"}}"#.into(),
            protobuf: [varint(1, 3), message(19, &[text(1, "room:42")])].concat(),
            heard: ServerEvent::Watching { request: REQUEST, channel: room() },
        },
        Row {
            event: Event::Unsubscribed {
                request: Some(REQUEST),
                channel: reserved(),
                failure: None,
            },
            json: r#"{"id":3,"unwatched":{"channel":"room:42"}}"#.into(),
            protobuf: [varint(1, 3), message(20, &[text(1, "room:42")])].concat(),
            heard: ServerEvent::Unwatched {
                request: Some(REQUEST),
                channel: room(),
                refusal: None,
            },
        },
    ]
}

const ADA: &str = "6f1f63a5b7d94f0c";

fn rows() -> Vec<Row> {
    [
        connections(),
        subscriptions(),
        replies(),
        pages(),
        deliveries(),
        failures(),
        limits(),
        partings(),
        presence(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn an_event_alone_is_one_json_object() {
    for row in rows() {
        assert_eq!(encode_json(&[row.event]), [row.json]);
    }
}

#[test]
fn an_event_alone_is_one_protobuf_message() {
    for row in rows() {
        let frames = encode(PROTOBUF, &[row.event], usize::MAX);

        assert_eq!(frames, [binary_frame(bytes(1, &row.protobuf))], "{}", row.json);
    }
}

#[test]
fn several_events_are_one_frame() {
    let rows = rows();
    let array: Vec<_> = rows.iter().map(|row| row.json.clone()).collect();
    let joined: Vec<_> = rows.iter().map(|row| bytes(1, &row.protobuf)).collect();
    let events: Vec<_> = rows.into_iter().map(|row| row.event).collect();

    assert_eq!(encode_json(&events), [format!("[{}]", array.join(","))]);
    assert_eq!(encode(PROTOBUF, &events, usize::MAX), [binary_frame(joined.concat())]);
}

#[test]
fn a_client_hears_what_the_server_said() {
    for row in rows() {
        let by_json = Codec::Json.decode(&text_frame(&row.json));
        let by_protobuf = Codec::Protobuf.decode(&binary_frame(bytes(1, &row.protobuf)));

        assert_eq!(by_json.as_deref(), Ok([row.heard.clone()].as_slice()), "{}", row.json);
        assert_eq!(by_protobuf.as_deref(), Ok([row.heard].as_slice()), "{}", row.json);
    }
}

#[test]
fn no_events_make_no_frame() {
    assert_eq!(encode_json(&[]), [""; 0]);
    assert_eq!(encode(PROTOBUF, &[], usize::MAX), []);
}

#[test]
fn a_command_without_an_id_gets_no_reply_unless_it_changed_something_or_failed() {
    let zero = RequestId(0);
    let page = HistoryPage { publications: vec![], top: at(0), next: None };
    let failure = Failure::new(ErrorCode::Timeout, "x");
    let replies = [
        Event::Pong { request: zero },
        Event::Published { request: zero, position: at(1), duplicate: false },
        Event::Refreshed { request: zero, expires_at: None },
        Event::History { request: zero, page },
    ];
    let changes = [
        Event::Unsubscribed { request: Some(zero), channel: channel("a"), failure: None },
        Event::Failed { request: Some(zero), failure },
    ];

    for (codec, descriptor) in [(Codec::Json, JSON), (Codec::Protobuf, PROTOBUF)] {
        assert_eq!(encode(descriptor, &replies, usize::MAX), []);

        let heard = codec.decode(&encode(descriptor, &changes, usize::MAX)[0]).unwrap();
        assert!(matches!(
            &heard[..],
            [
                ServerEvent::Unsubscribed { request: None, .. },
                ServerEvent::Failed { request: None, .. }
            ]
        ));
    }
}

#[test]
fn every_code_reaches_the_client_as_what_it_is() {
    for code in ErrorCode::ALL {
        let event = Event::Failed { request: None, failure: Failure::new(code, "x") };
        for (codec, frames) in both(&event) {
            let heard = codec.decode(&frames[0]).unwrap();
            let [ServerEvent::Failed { refusal, .. }] = &heard[..] else { panic!("{heard:?}") };
            assert_eq!(refusal.error_code(), Some(code));
            assert_eq!(refusal.retryable, code.is_retryable());
        }
    }
    for disconnect in Disconnect::ALL {
        for (codec, frames) in both(&Event::Closing(disconnect)) {
            let heard = codec.decode(&frames[0]).unwrap();
            let [ServerEvent::Closing(closing)] = &heard[..] else { panic!("{heard:?}") };
            assert_eq!(closing.disconnect(), Some(disconnect));
            assert_eq!(closing.reconnect, disconnect.invites_back());
        }
    }
}

fn both(event: &Event) -> [(Codec, Vec<tidewire_protocol::Frame>); 2] {
    let events = std::slice::from_ref(event);
    [
        (Codec::Json, encode(JSON, events, usize::MAX)),
        (Codec::Protobuf, encode(PROTOBUF, events, usize::MAX)),
    ]
}
