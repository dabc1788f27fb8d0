//! The client's side: what it sends, and what it makes of servers newer or worse than itself.

use tidewire_model::{Command, GapReason, Recovery, Request, RequestId};
use tidewire_protocol::{Decoded, Frame, ProtocolError};
use tidewire_protocol_native::client::{Codec, ServerEvent};
use tidewire_protocol_native::{JSON, MAX_COMMANDS, PROTOBUF};

use crate::samples::{EPOCH, as_text, binary_frame, text_frame};
use crate::wire::{message, text, varint};

fn ping(id: u32) -> Request {
    Request { id: RequestId(id), command: Command::Ping }
}

#[test]
fn a_request_alone_is_one_object() {
    assert_eq!(as_text(&Codec::Json.encode(&ping(3))), r#"{"id":3,"ping":{}}"#);
    assert_eq!(as_text(&Codec::Json.encode(&ping(0))), r#"{"ping":{}}"#);
}

#[test]
fn no_frame_holds_more_requests_than_a_server_takes() {
    let requests: Vec<_> = (1..=150).map(ping).collect();
    for (codec, descriptor) in [(Codec::Json, JSON), (Codec::Protobuf, PROTOBUF)] {
        let mut frames = Vec::new();

        codec.encode_all(&requests, usize::MAX, &mut frames);

        let decoded = frames.into_iter().map(|frame| (descriptor.start)().decode(frame).unwrap());
        let decoded: Vec<_> = decoded.collect();
        let counts: Vec<_> = decoded.iter().map(Vec::len).collect();
        assert_eq!(counts, [MAX_COMMANDS, MAX_COMMANDS, 22]);
        let sent = requests.iter().cloned().map(Decoded::Request);
        assert_eq!(decoded.concat(), sent.collect::<Vec<_>>());
    }
}

#[test]
fn events_and_members_this_version_does_not_know_are_ignored() {
    let json = r#"[{"applause":{"from":["ada"]}},{"id":3,"pong":{"load":0.5},"trace":"x"}]"#;
    let protobuf = [
        message(1, &[message(99, &[text(1, "ada")])]),
        message(1, &[varint(1, 3), message(7, &[text(8, "x")])]),
    ];
    let pong = ServerEvent::Pong { request: RequestId(3) };

    assert_eq!(Codec::Json.decode(&text_frame(json)).as_deref(), Ok([pong.clone()].as_slice()));
    assert_eq!(
        Codec::Protobuf.decode(&binary_frame(protobuf.concat())).as_deref(),
        Ok([pong].as_slice())
    );
}

#[test]
fn a_reason_this_version_does_not_know_means_reset() {
    let json = format!(
        r#"{{"subscribed":{{"channel":"a","recovered":false,"reason":"later","epoch":"{EPOCH}","offset":7}}}}"#
    );
    let position = message(5, &[text(1, EPOCH), varint(2, 7)]);
    let subscribed = message(4, &[text(1, "a"), varint(2, 0), varint(4, 99), position]);

    let heard = [
        Codec::Json.decode(&text_frame(&json)).unwrap(),
        Codec::Protobuf.decode(&binary_frame(message(1, &[subscribed]))).unwrap(),
    ];

    for events in heard {
        let [ServerEvent::Subscribed(subscribed)] = &events[..] else { panic!("{events:?}") };
        assert_eq!(subscribed.recovery, Recovery::Failed(GapReason::Reset));
    }
}

#[test]
fn a_code_this_version_does_not_know_keeps_its_number() {
    let json = r#"{"error":{"code":2999,"name":"later","message":"x","retryable":true}}"#;

    let heard = Codec::Json.decode(&text_frame(json)).unwrap();

    let [ServerEvent::Failed { refusal, .. }] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!((refusal.code, refusal.error_code()), (2999, None));
    assert_eq!(refusal.to_string(), "later (2999): x");
}

#[test]
fn what_is_no_frame_of_events_is_malformed() {
    let json = [
        "",
        "5",
        "{",
        "[5]",
        r#"{"pong":null}"#,
        r#"{"expiring":{}}"#,
        r#"{"publications":{"channel":"a*","epoch":"0mfabc1200010002","items":[]}}"#,
        r#"{"publications":{"channel":"a","epoch":"x","items":[]}}"#,
        r#"{"publications":{"channel":"a","epoch":"0mfabc1200010002","items":[{"offset":1,"time":1}]}}"#,
        r#"{"reconnect":{"after_ms":1,"window_ms":1,"token":5}}"#,
    ];
    for text in json {
        assert_malformed(Codec::Json, &text_frame(text));
    }
    let protobuf = [
        vec![0xff],
        message(1, &[message(2, &[text(1, "a"), text(2, "x")])]),
        message(1, &[message(3, &[])]),
        message(1, &[message(13, &[varint(1, 70_000)])]),
        message(1, &[message(2, &[text(1, "a"), text(2, EPOCH), message(3, &[varint(1, 1)])])]),
    ];
    for bytes in protobuf {
        assert_malformed(Codec::Protobuf, &binary_frame(bytes));
    }
}

fn assert_malformed(codec: Codec, frame: &Frame) {
    let decoded = codec.decode(frame);
    assert!(matches!(decoded, Err(ProtocolError::Malformed { .. })), "{frame:?}: {decoded:?}");
}

#[test]
fn a_malformed_event_is_not_quoted() {
    let frame = text_frame(r#"{"connected":{"session":5,"resume_token":"hunter2"}}"#);
    let other = text_frame(r#"{"reconnect":{"after_ms":"hunter2"}}"#);

    for frame in [frame, other] {
        let error = Codec::Json.decode(&frame).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn what_a_client_hears_shows_no_token() {
    let frame = text_frame(r#"{"reconnect":{"after_ms":1,"window_ms":1,"token":"hunter2"}}"#);

    let shown = format!("{:?}", Codec::Json.decode(&frame).unwrap());

    assert!(shown.contains("Token(..)") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn each_codec_takes_its_own_kind_of_frame_only() {
    assert!(matches!(
        Codec::Json.decode(&binary_frame(vec![])),
        Err(ProtocolError::WrongKind { expected: "text" })
    ));
    assert!(matches!(
        Codec::Protobuf.decode(&text_frame("{}")),
        Err(ProtocolError::WrongKind { expected: "binary" })
    ));
    assert_eq!(Codec::Json.subprotocol(), JSON.subprotocol);
    assert_eq!(Codec::Protobuf.subprotocol(), PROTOBUF.subprotocol);
}
