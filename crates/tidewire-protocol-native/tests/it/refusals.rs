//! What is not a command: refused one by one, or the end of the connection.

use tidewire_model::{Disconnect, ErrorCode, Payload, RequestId};
use tidewire_protocol::{Decoded, ProtocolError};
use tidewire_protocol_native::{JSON, MAX_COMMANDS, PROTOBUF};

use crate::samples::{EPOCH, NONCE, binary_frame, decode_json, decode_protobuf, text_frame};
use crate::wire::{bytes, message, text, varint};

const ID: Option<RequestId> = Some(RequestId(3));

#[track_caller]
fn refusal(decoded: Result<Vec<Decoded>, ProtocolError>) -> (Option<RequestId>, ErrorCode, String) {
    match decoded.unwrap().as_slice() {
        [Decoded::Refused { id, failure }] => (*id, failure.code, failure.message.to_string()),
        other => panic!("not one refusal: {other:?}"),
    }
}

fn bad_channels() -> Vec<(String, Vec<u8>, ErrorCode)> {
    let long = "x".repeat(256);
    ["", "$sys", "a//b", "a*", "a\u{7f}", &long]
        .map(|name| {
            (
                format!(r#""subscribe":{{"channel":"{name}"}}"#),
                message(3, &[text(1, name)]),
                ErrorCode::BadChannel,
            )
        })
        .into()
}

fn bad_positions() -> Vec<(String, Vec<u8>, ErrorCode)> {
    let since = |epoch: &str, offset: u64| {
        (
            format!(
                r#""subscribe":{{"channel":"a","since":{{"epoch":"{epoch}","offset":{offset}}}}}"#
            ),
            message(3, &[text(1, "a"), message(2, &[text(1, epoch), varint(2, offset)])]),
            ErrorCode::BadPosition,
        )
    };
    let resumed = (
        format!(
            r#""connect":{{"resume":{{"token":"t","nonce":"{NONCE}","positions":[{{"channel":"a","epoch":"x","offset":1}}]}}}}"#
        ),
        message(
            8,
            &[message(
                2,
                &[
                    text(1, "t"),
                    text(2, NONCE),
                    message(3, &[text(1, "a"), message(2, &[text(1, "x"), varint(2, 1)])]),
                ],
            )],
        ),
        ErrorCode::BadPosition,
    );
    vec![
        since("", 1),
        since("0MFABC1200010002", 1),
        since(EPOCH, 1 << 53),
        since(EPOCH, u64::MAX),
        resumed,
    ]
}

fn bad_publishes() -> Vec<(String, Vec<u8>, ErrorCode)> {
    let long_id = "x".repeat(65);
    let with_id = |id: &str| {
        (
            format!(r#""publish":{{"channel":"a","id":"{id}","data":1}}"#),
            message(2, &[text(1, "a"), text(2, id), message(3, &[text(1, "1")])]),
            ErrorCode::BadPublicationId,
        )
    };
    vec![
        with_id(""),
        with_id(&long_id),
        (r#""publish":{"channel":"a"}"#.into(), message(2, &[text(1, "a")]), ErrorCode::BadRequest),
        (
            r#""publish":{"channel":"a b*","data":1}"#.into(),
            message(2, &[text(1, "a b*"), message(3, &[text(1, "1")])]),
            ErrorCode::BadChannel,
        ),
    ]
}

fn bad_credentials() -> Vec<(String, Vec<u8>, ErrorCode)> {
    let refused = |json: &str, protobuf| (json.to_owned(), protobuf, ErrorCode::BadRequest);
    vec![
        refused(r#""connect":{}"#, message(8, &[])),
        refused(r#""connect":{"token":""}"#, message(8, &[text(1, "")])),
        refused(r#""refresh":{}"#, message(7, &[])),
        refused(
            r#""connect":{"resume":{"token":"t","nonce":"00"}}"#,
            message(8, &[message(2, &[text(1, "t"), text(2, "00")])]),
        ),
        (
            format!(r#""connect":{{"resume":{{"nonce":"{NONCE}"}}}}"#),
            message(8, &[message(2, &[text(2, NONCE)])]),
            ErrorCode::BadRequest,
        ),
        refused(
            r#""history":{"channel":"a","limit":0}"#,
            message(5, &[text(1, "a"), varint(4, 0)]),
        ),
        (r#""teleport":{"to":"mars"}"#.into(), text(99, "mars"), ErrorCode::UnknownCommand),
    ]
}

#[test]
fn both_encodings_refuse_the_same_with_the_same_words() {
    let rows = [bad_channels(), bad_positions(), bad_publishes(), bad_credentials()];
    for (json, protobuf, code) in rows.into_iter().flatten() {
        // JSON has no way to write a raw control character.
        let frame = format!(r#"{{"id":3,{json}}}"#).replace('\u{7f}', "\\u007f");

        let by_json = refusal(decode_json(&frame));
        let by_protobuf = refusal(decode_protobuf(message(1, &[varint(1, 3), protobuf])));

        assert_eq!((by_json.0, by_json.1), (ID, code), "{frame}");
        assert_eq!(by_json, by_protobuf, "{frame}");
    }
}

#[test]
fn json_of_the_wrong_shape_is_refused_by_the_command() {
    let rows = [
        (r#"{"id":3,"ping":{},"ping":{}}"#, ID, ErrorCode::BadRequest),
        (r#"{"id":3,"ping":{},"subscribe":{"channel":"a"}}"#, ID, ErrorCode::BadRequest),
        (r#"{"id":3}"#, ID, ErrorCode::UnknownCommand),
        (r"{}", None, ErrorCode::UnknownCommand),
        (r#"{"Ping":{}}"#, None, ErrorCode::UnknownCommand),
        (r#"{"id":3,"ping":null}"#, ID, ErrorCode::BadRequest),
        (r#"{"id":3,"ping":[]}"#, ID, ErrorCode::BadRequest),
        (r#"{"id":3,"subscribe":["a"]}"#, ID, ErrorCode::BadRequest),
        (r#"{"id":3,"subscribe":{"channel":5}}"#, ID, ErrorCode::BadRequest),
        (r#"{"id":3,"subscribe":{"channel":"a","channel":"b"}}"#, ID, ErrorCode::BadRequest),
        (r#"{"id":3,"subscribe":{"channel":"\ud800"}}"#, ID, ErrorCode::BadRequest),
        (r#"{"id":3,"subscribe":{"channel":"a","last":-1}}"#, ID, ErrorCode::BadRequest),
        (r#"{"id":3,"subscribe":{"channel":"a","since":"x"}}"#, ID, ErrorCode::BadRequest),
        (r#"{"id":3,"history":{"channel":"a","direction":"up"}}"#, ID, ErrorCode::BadRequest),
        (r#"{"id":3,"publish":{"channel":"a","data":1,"binary":""}}"#, ID, ErrorCode::BadRequest),
        (r#"{"id":3,"publish":{"channel":"a","binary":"?"}}"#, ID, ErrorCode::BadPayload),
        (r#"{"id":3,"publish":{"channel":"a","binary":"AA"}}"#, ID, ErrorCode::BadPayload),
        (r#"{"id":-1,"ping":{}}"#, None, ErrorCode::BadRequest),
        (r#"{"id":4294967296,"ping":{}}"#, None, ErrorCode::BadRequest),
        (r#"{"id":1e999,"ping":{}}"#, None, ErrorCode::BadRequest),
    ];
    for (frame, id, code) in rows {
        let (refused, found, _) = refusal(decode_json(frame));

        assert_eq!((refused, found), (id, code), "{frame}");
    }
}

#[test]
fn since_and_last_exclude_each_other() {
    let frame = format!(
        r#"{{"id":3,"subscribe":{{"channel":"a","last":1,"since":{{"epoch":"{EPOCH}","offset":1}}}}}}"#
    );

    assert_eq!(refusal(decode_json(&frame)).1, ErrorCode::BadRequest);
}

#[test]
fn an_offset_that_is_no_whole_number_is_a_bad_position() {
    for offset in ["-1", "1.0", "1e3", "\"1\"", "null", "{}"] {
        let frame = format!(
            r#"{{"id":3,"subscribe":{{"channel":"a","since":{{"epoch":"{EPOCH}","offset":{offset}}}}}}}"#
        );
        assert_eq!(refusal(decode_json(&frame)).1, ErrorCode::BadPosition, "{frame}");
    }
}

#[test]
fn protobuf_of_the_wrong_shape_is_refused_by_the_command() {
    let publish = |payload: &[Vec<u8>]| message(2, &[text(1, "a"), message(3, payload)]);
    let rows = [
        (publish(&[text(1, "{")]), ErrorCode::BadPayload),
        (publish(&[]), ErrorCode::BadPayload),
        (publish(&[text(1, "1"), varint(2, 7)]), ErrorCode::BadPayload),
        (message(5, &[text(1, "a"), varint(2, 9)]), ErrorCode::BadRequest),
        (message(3, &[bytes(1, b"\xff")]), ErrorCode::BadRequest),
        (varint(3, 1), ErrorCode::BadRequest),
    ];
    for (command, code) in rows {
        let frame = message(1, &[varint(1, 3), command]);

        let (id, found, _) = refusal(decode_protobuf(frame.clone()));

        assert_eq!((id, found), (ID, code), "{frame:?}");
    }
}

#[test]
fn a_bad_command_does_not_spoil_the_others_of_its_frame() {
    let json = r#"[{"id":1,"ping":{}},{"id":2,"nope":{}},5,[6],{"id":4,"ping":{}}]"#;
    let ping = |id| message(1, &[varint(1, id), message(6, &[])]);
    let unknown = message(1, &[varint(1, 2), message(99, &[])]);
    let protobuf = [ping(1), unknown, text(1, "\u{7}"), text(1, "\u{7}"), ping(4)].concat();

    for decoded in [decode_json(json), decode_protobuf(protobuf)] {
        let decoded = decoded.unwrap();
        let outline = decoded.iter().map(|one| match one {
            Decoded::Request(request) => (Some(request.id), None),
            Decoded::Refused { id, failure } => (*id, Some(failure.code)),
        });
        assert_eq!(
            outline.collect::<Vec<_>>(),
            [
                (Some(RequestId(1)), None),
                (Some(RequestId(2)), Some(ErrorCode::UnknownCommand)),
                (None, Some(ErrorCode::BadRequest)),
                (None, Some(ErrorCode::BadRequest)),
                (Some(RequestId(4)), None),
            ]
        );
    }
}

#[test]
fn json_nested_too_deeply_is_refused_in_both_encodings() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for (depth, is_refused) in [(Payload::MAX_DEPTH, false), (Payload::MAX_DEPTH + 1, true)] {
        let data = nested(depth);
        let json = format!(r#"{{"id":3,"publish":{{"channel":"a","data":{data}}}}}"#);
        let publish = message(2, &[text(1, "a"), message(3, &[text(1, &data)])]);
        let protobuf = message(1, &[varint(1, 3), publish]);

        for decoded in [decode_json(&json), decode_protobuf(protobuf)] {
            if is_refused {
                let (id, code, message) = refusal(decoded);
                assert_eq!((id, code), (Some(RequestId(3)), ErrorCode::BadPayload));
                assert!(message.contains("at most 32 levels"), "{message}");
            } else {
                assert!(matches!(decoded.unwrap()[..], [Decoded::Request(_)]));
            }
        }
    }
}

#[test]
fn a_refusal_quotes_nothing_of_what_was_sent() {
    let frames = [
        r#"{"id":"hunter2","connect":{"token":"x"}}"#,
        r#"{"connect":"hunter2"}"#,
        r#"{"connect":{"token":"x","resume":"hunter2"}}"#,
        r#"{"connect":{"resume":{"token":"x","nonce":"hunter2"}}}"#,
        r#"{"publish":{"channel":"a","binary":"hunter2!"}}"#,
        r#"["hunter2"]"#,
    ];
    for frame in frames {
        let (_, _, message) = refusal(decode_json(frame));

        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn what_is_no_frame_of_commands_ends_the_connection() {
    let too_many = format!("[{}]", vec!["{}"; MAX_COMMANDS + 1].join(","));
    let frames = [
        "",
        " ",
        "5",
        "\"ping\"",
        "null",
        "ping",
        "{",
        "[",
        "[]",
        "{}{}",
        "[{}],",
        "[{},]",
        r#"{"ping":{}} x"#,
        r#"{"ping":{}"#,
        r#"{"id":"x","#,
        &too_many,
    ];
    for frame in frames {
        let error = decode_json(frame).unwrap_err();

        assert!(matches!(error, ProtocolError::Malformed { .. }), "{frame}: {error}");
        assert_eq!(error.disconnect(), Disconnect::BadFrame);
    }
}

#[test]
fn what_is_no_client_frame_message_ends_the_connection() {
    let too_many = message(1, &[]).repeat(MAX_COMMANDS + 1);
    let frames = [vec![], text(2, "no commands"), vec![0x0a, 5, 1], vec![0xff], too_many];
    for frame in frames {
        let error = decode_protobuf(frame.clone()).unwrap_err();

        assert!(matches!(error, ProtocolError::Malformed { .. }), "{frame:?}: {error}");
    }
}

#[test]
fn bytes_that_are_not_utf_8_end_the_connection_and_do_not_panic() {
    let frame =
        tidewire_protocol::Frame::Text(::bytes::Bytes::from_static(b"{\"ping\":{\"\xff\":1}}"));

    let error = (JSON.start)().decode(frame).unwrap_err();

    assert!(matches!(error, ProtocolError::Malformed { .. }), "{error}");
}

#[test]
fn each_encoding_takes_its_own_kind_of_frame_only() {
    assert_eq!(
        (JSON.start)().decode(binary_frame(b"{}".to_vec())),
        Err(ProtocolError::WrongKind { expected: "text" })
    );
    assert_eq!(
        (PROTOBUF.start)().decode(text_frame("{}")),
        Err(ProtocolError::WrongKind { expected: "binary" })
    );
}
