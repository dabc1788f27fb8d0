//! Frames in, commands out: each row is one command in both encodings.

use bytes::Bytes;
use tidewire_model::{
    Command, Connect, Direction, HistoryQuery, MemberWord, Payload, PublicationId, Publish,
    Request, RequestId, Resume, Since,
};
use tidewire_protocol::Decoded;
use tidewire_protocol_native::MAX_COMMANDS;

use crate::samples::{EPOCH, NONCE, at, channel, decode_json, decode_protobuf, json_payload};
use crate::wire::{bytes, message, text, varint};

struct Row {
    json: String,
    protobuf: Vec<u8>,
    command: Command,
}

fn row(json: impl Into<String>, protobuf: Vec<u8>, command: Command) -> Row {
    Row { json: json.into(), protobuf, command }
}

fn connecting() -> Vec<Row> {
    let resume = Resume {
        token: "sealed".into(),
        nonce: NONCE.parse().unwrap(),
        positions: vec![(channel("a"), at(7)), (channel("b/c"), at(0))],
    };
    let positions = format!(
        r#"[{{"channel":"a","epoch":"{EPOCH}","offset":7}},{{"channel":"b/c","epoch":"{EPOCH}","offset":0}}]"#
    );
    let wire_resume = message(
        2,
        &[
            text(1, "sealed"),
            text(2, NONCE),
            message(3, &[text(1, "a"), message(2, &[text(1, EPOCH), varint(2, 7)])]),
            message(3, &[text(1, "b/c"), message(2, &[text(1, EPOCH)])]),
        ],
    );
    vec![
        row(
            r#""connect":{"token":"jwt"}"#,
            message(8, &[text(1, "jwt")]),
            Command::Connect(Connect { token: Some("jwt".into()), ..Connect::default() }),
        ),
        row(
            format!(
                r#""connect":{{"resume":{{"token":"sealed","nonce":"{NONCE}","positions":{positions}}}}}"#
            ),
            message(8, &[wire_resume]),
            Command::Connect(Connect { resume: Some(resume), ..Connect::default() }),
        ),
        row(
            format!(
                r#""connect":{{"token":"jwt","resume":{{"token":"sealed","nonce":"{NONCE}"}}}}"#
            ),
            message(8, &[text(1, "jwt"), message(2, &[text(1, "sealed"), text(2, NONCE)])]),
            Command::Connect(Connect {
                token: Some("jwt".into()),
                resume: Some(Resume {
                    token: "sealed".into(),
                    nonce: NONCE.parse().unwrap(),
                    positions: Vec::new(),
                }),
                ticket: None,
            }),
        ),
        row(
            r#""connect":{"ticket":"once"}"#,
            message(8, &[text(3, "once")]),
            Command::Connect(Connect { ticket: Some("once".into()), ..Connect::default() }),
        ),
        row(
            r#""refresh":{"token":"newer"}"#,
            message(7, &[text(1, "newer")]),
            Command::Refresh { token: "newer".into(), channel: None },
        ),
        row(r#""ping":{}"#, message(6, &[]), Command::Ping),
    ]
}

fn subscribing() -> Vec<Row> {
    let subscribe =
        |since| Command::Subscribe { channel: channel("room:42"), since, delta: None, token: None };
    vec![
        row(
            r#""subscribe":{"channel":"room:42"}"#,
            message(3, &[text(1, "room:42")]),
            subscribe(Since::Now),
        ),
        row(
            format!(
                r#""subscribe":{{"channel":"room:42","since":{{"epoch":"{EPOCH}","offset":9007199254740991}}}}"#
            ),
            message(
                3,
                &[
                    text(1, "room:42"),
                    message(2, &[text(1, EPOCH), varint(2, 9_007_199_254_740_991)]),
                ],
            ),
            subscribe(Since::Position(at(9_007_199_254_740_991))),
        ),
        row(
            r#""subscribe":{"channel":"room:42","last":20}"#,
            message(3, &[text(1, "room:42"), varint(3, 20)]),
            subscribe(Since::Last(20)),
        ),
        row(
            r#""subscribe":{"channel":"room:42","token":"of-it"}"#,
            message(3, &[text(1, "room:42"), text(5, "of-it")]),
            Command::Subscribe {
                channel: channel("room:42"),
                since: Since::Now,
                delta: None,
                token: Some("of-it".into()),
            },
        ),
        row(
            r#""refresh":{"token":"newer","channel":"room:42"}"#,
            message(7, &[text(1, "newer"), text(2, "room:42")]),
            Command::Refresh { token: "newer".into(), channel: Some(channel("room:42")) },
        ),
        row(
            r#""unsubscribe":{"channel":"gr\u00f6\u00dfe"}"#,
            message(4, &[text(1, "größe")]),
            Command::Unsubscribe { channel: channel("größe") },
        ),
    ]
}

fn presence() -> Vec<Row> {
    let word = |text: &str| MemberWord::parse(text.to_owned().into()).ok();
    let (room, mark) = (|| channel("room:42"), "mfabc1200001:17");
    vec![
        row(
            r#""watch":{"channel":"room:42"}"#,
            message(9, &[text(1, "room:42")]),
            Command::Watch { channel: room() },
        ),
        row(
            r#""unwatch":{"channel":"room:42"}"#,
            message(10, &[text(1, "room:42")]),
            Command::Unwatch { channel: room() },
        ),
        row(
            r#""enter":{"channel":"room:42"}"#,
            message(11, &[text(1, "room:42")]),
            Command::Enter { channel: room(), word: None },
        ),
        row(
            r#""enter":{"channel":"room:42","data":{"a":1.50}}"#,
            message(11, &[text(1, "room:42"), text(2, r#"{"a":1.50}"#)]),
            Command::Enter { channel: room(), word: word(r#"{"a":1.50}"#) },
        ),
        row(
            r#""leave":{"channel":"room:42"}"#,
            message(12, &[text(1, "room:42")]),
            Command::Leave { channel: room() },
        ),
        row(
            format!(r#""members":{{"channel":"room:42","from":"{mark}","limit":7}}"#),
            message(13, &[text(1, "room:42"), text(2, mark), varint(3, 7)]),
            Command::Members { channel: room(), from: mark.parse().ok(), limit: 7 },
        ),
    ]
}

fn publishing() -> Vec<Row> {
    let publish = |id: Option<&str>, payload| {
        Command::Publish(Publish {
            channel: channel("room:42"),
            id: id.map(|id| PublicationId::parse(id).unwrap()),
            payload,
        })
    };
    let raw = r#"{"b" : 1.50e0, "a":"\u00e9"}"#;
    vec![
        row(
            format!(r#""publish":{{"channel":"room:42","id":"abc","data":{raw}}}"#),
            message(2, &[text(1, "room:42"), text(2, "abc"), message(3, &[text(1, raw)])]),
            publish(Some("abc"), json_payload(raw)),
        ),
        row(
            r#""publish":{"channel":"room:42","data":null}"#,
            message(2, &[text(1, "room:42"), message(3, &[text(1, "null")])]),
            publish(None, json_payload("null")),
        ),
        row(
            r#""publish":{"channel":"room:42","binary":"AP8Q"}"#,
            message(2, &[text(1, "room:42"), message(3, &[bytes(1, &[0, 255, 16]), varint(2, 1)])]),
            publish(None, Payload::binary(Bytes::from_static(&[0, 255, 16]))),
        ),
        row(
            r#""publish":{"channel":"room:42","binary":""}"#,
            message(2, &[text(1, "room:42"), message(3, &[varint(2, 1)])]),
            publish(None, Payload::binary(Bytes::new())),
        ),
    ]
}

fn looking_back() -> Vec<Row> {
    let history = |direction, from, limit| Command::History {
        channel: channel("c"),
        query: HistoryQuery { direction, from, limit },
    };
    vec![
        row(
            r#""history":{"channel":"c"}"#,
            message(5, &[text(1, "c")]),
            history(Direction::Backward, None, 100),
        ),
        row(
            r#""history":{"channel":"c","direction":"backward","limit":1}"#,
            message(5, &[text(1, "c"), varint(2, 0), varint(4, 1)]),
            history(Direction::Backward, None, 1),
        ),
        row(
            format!(
                r#""history":{{"channel":"c","direction":"forward","from":{{"epoch":"{EPOCH}","offset":7}},"limit":50}}"#
            ),
            message(
                5,
                &[
                    text(1, "c"),
                    varint(2, 1),
                    message(3, &[text(1, EPOCH), varint(2, 7)]),
                    varint(4, 50),
                ],
            ),
            history(Direction::Forward, Some(at(7)), 50),
        ),
    ]
}

fn rows() -> Vec<Row> {
    [connecting(), subscribing(), presence(), publishing(), looking_back()]
        .into_iter()
        .flatten()
        .collect()
}

fn request(id: u32, command: Command) -> Decoded {
    Decoded::Request(Request { id: RequestId(id), command })
}

#[test]
fn a_json_object_is_the_command_it_names() {
    for row in rows() {
        let frame = format!(r#"{{"id":3,{}}}"#, row.json);

        assert_eq!(decode_json(&frame), Ok(vec![request(3, row.command)]), "{frame}");
    }
}

#[test]
fn a_protobuf_message_is_the_command_it_holds() {
    for row in rows() {
        let frame = message(1, &[varint(1, 3), row.protobuf]);

        assert_eq!(decode_protobuf(frame), Ok(vec![request(3, row.command)]), "{}", row.json);
    }
}

#[test]
fn a_command_without_an_id_is_the_request_zero() {
    let expected = Ok(vec![request(0, Command::Ping)]);

    assert_eq!(decode_json(r#"{"ping":{}}"#), expected);
    assert_eq!(decode_json(r#"{"ping":{},"id":0}"#), expected);
    assert_eq!(decode_protobuf(message(1, &[message(6, &[])])), expected);
}

#[test]
fn members_this_version_does_not_know_are_ignored() {
    let json = r#" { "trace":[{"a":1}], "id":3, "\u0070ing":{"padding":"xx"}, "priority":null } "#;
    let protobuf =
        message(1, &[varint(1, 3), text(100, "trace"), message(6, &[text(9, "padding")])]);

    assert_eq!(decode_json(json), Ok(vec![request(3, Command::Ping)]));
    assert_eq!(
        decode_protobuf([protobuf, text(77, "later")].concat()),
        Ok(vec![request(3, Command::Ping)])
    );
}

#[test]
fn the_commands_of_a_frame_keep_their_order() {
    let rows = rows();
    let objects: Vec<_> = rows.iter().map(|row| format!("{{\"id\":3,{}}}", row.json)).collect();
    let json = format!(" [ {} ] ", objects.join(" , "));
    let messages = rows.iter().map(|row| message(1, &[varint(1, 3), row.protobuf.clone()]));
    let protobuf = messages.collect::<Vec<_>>().concat();

    let expected: Vec<_> = rows.into_iter().map(|row| request(3, row.command)).collect();
    assert_eq!(decode_json(&json), Ok(expected.clone()));
    assert_eq!(decode_protobuf(protobuf), Ok(expected));
}

#[test]
fn a_frame_holds_as_many_commands_as_the_limit_says() {
    let json = format!("[{}]", vec![r#"{"ping":{}}"#; MAX_COMMANDS].join(","));
    let protobuf = message(1, &[message(6, &[])]).repeat(MAX_COMMANDS);

    assert_eq!(decode_json(&json).map(|commands| commands.len()), Ok(MAX_COMMANDS));
    assert_eq!(decode_protobuf(protobuf).map(|commands| commands.len()), Ok(MAX_COMMANDS));
}

#[test]
fn a_small_payload_does_not_keep_its_frame_alive() {
    let padding = "x".repeat(10_000);
    let frame =
        Bytes::from(format!(r#"{{"padding":"{padding}","publish":{{"channel":"a","data":[1]}}}}"#));
    let within = frame.as_ptr_range();

    let decoded = (tidewire_protocol_native::JSON.start)()
        .decode(tidewire_protocol::Frame::Text(frame.clone()))
        .unwrap();

    let [Decoded::Request(Request { command: Command::Publish(publish), .. })] = &decoded[..]
    else {
        panic!("not one publish: {decoded:?}")
    };
    assert_eq!(publish.payload, json_payload("[1]"));
    assert!(!within.contains(&publish.payload.bytes().as_ptr()));
}
