use bytes::Bytes;
use tidewire_model::Disconnect;
use tidewire_protocol::Frame;
use tidewire_transport::websocket::deflate::Inflater;
use tidewire_transport::websocket::{Decoder, Incoming, OpCode, encode_header};
use tidewire_transport::{Close, CloseCode, Limits, Role, Violation};

use crate::wire::{self, BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Wire, binary, text};

const SMALL: Limits = Limits { message_bytes: 200, fragments: 4 };

/// Whole, and byte by byte, which has to come to the same.
fn decode(input: &[u8]) -> (Vec<Incoming>, Option<Violation>) {
    let whole = wire::decode(input, input.len(), SMALL);
    for chunk in [1, 2, 3, 7] {
        assert_eq!(wire::decode(input, chunk, SMALL), whole, "in pieces of {chunk}");
    }
    whole
}

#[test]
fn messages_come_out_as_they_went_in() {
    let part = |opcode, payload: &str| Wire::masked(opcode, payload).unfinished();
    let last = |payload: &str| Wire::masked(CONTINUATION, payload);
    let [euro_begins, euro_ends] = [&"€".as_bytes()[..1], &"€".as_bytes()[1..]];
    let cases: Vec<(Vec<Wire>, Vec<Frame>)> = vec![
        (vec![Wire::masked(TEXT, "héllo")], vec![text("héllo")]),
        (vec![Wire::masked(TEXT, "")], vec![text("")]),
        (vec![Wire::masked(BINARY, [0xFF, 0])], vec![binary(&[0xFF, 0])]),
        (vec![Wire::masked(TEXT, "a".repeat(126))], vec![text(&"a".repeat(126))]),
        (vec![Wire::masked(BINARY, [7; 200])], vec![binary(&[7; 200])]),
        (vec![part(TEXT, "a"), part(CONTINUATION, ""), last("b")], vec![text("ab")]),
        (
            vec![
                Wire::masked(TEXT, euro_begins).unfinished(),
                Wire::masked(CONTINUATION, euro_ends),
            ],
            vec![text("€")],
        ),
        (
            vec![part(BINARY, "a"), part(CONTINUATION, "b"), part(CONTINUATION, "c"), last("d")],
            vec![binary(b"abcd")],
        ),
        (
            vec![part(BINARY, "a"), last("b"), part(TEXT, "c"), last("d")],
            vec![binary(b"ab"), text("cd")],
        ),
    ];
    for (frames, expected) in cases {
        let expected = expected.into_iter().map(Incoming::Frame).collect();
        assert_eq!(decode(&wire::join(&frames)), (expected, None), "{frames:?}");
    }
}

#[test]
fn control_frames_come_out_as_they_went_in() {
    let close = |code, reason: &str| {
        let code = CloseCode::parse(code).unwrap();
        Incoming::Close(Some(Close { code, reason: reason.to_owned() }))
    };
    let cases = [
        (Wire::masked(PING, ""), Incoming::Ping(Bytes::new())),
        (Wire::masked(PING, [1; 125]), Incoming::Ping(Bytes::from(vec![1; 125]))),
        (Wire::masked(PONG, "a"), Incoming::Pong(Bytes::from("a"))),
        (Wire::masked(CLOSE, ""), Incoming::Close(None)),
        (Wire::masked(CLOSE, b"\x03\xE8bye"), close(1000, "bye")),
        (Wire::masked(CLOSE, 1014_u16.to_be_bytes()), close(1014, "")),
        (Wire::masked(CLOSE, 4999_u16.to_be_bytes()), close(4999, "")),
    ];
    for (frame, expected) in cases {
        assert_eq!(decode(&frame.bytes()), (vec![expected], None), "{frame:?}");
    }
}

#[test]
fn a_ping_between_fragments_comes_before_their_message() {
    let input = wire::join(&[
        Wire::masked(TEXT, "a").unfinished(),
        Wire::masked(PING, "p"),
        Wire::masked(CONTINUATION, "b"),
    ]);

    let decoded = decode(&input);

    let expected = vec![Incoming::Ping(Bytes::from("p")), Incoming::Frame(text("ab"))];
    assert_eq!(decoded, (expected, None));
}

#[test]
fn every_violation_is_named_and_comes_after_what_was_valid() {
    let part = |opcode| Wire::masked(opcode, "a").unfinished();
    let overlong = |bytes: &[u8]| [bytes, &[0; 12]].concat();
    let cases: Vec<(Vec<u8>, Violation)> = vec![
        (Wire::masked(TEXT, "").with_bits(0x40).bytes(), Violation::ReservedBits),
        (Wire::masked(TEXT, "").with_bits(0x20).bytes(), Violation::ReservedBits),
        (Wire::masked(PING, "").with_bits(0x10).bytes(), Violation::ReservedBits),
        (Wire::masked(0x3, "").bytes(), Violation::ReservedOpCode),
        (Wire::masked(0xB, "").bytes(), Violation::ReservedOpCode),
        (Wire::masked(0xF, "").bytes(), Violation::ReservedOpCode),
        (Wire::plain(TEXT, "a").bytes(), Violation::Unmasked),
        (Wire::plain(PING, "").bytes(), Violation::Unmasked),
        (part(PING).bytes(), Violation::FragmentedControl),
        (part(CLOSE).bytes(), Violation::FragmentedControl),
        (Wire::masked(PING, [0; 126]).bytes(), Violation::ControlTooLong),
        (Wire::masked(PONG, [0; 126]).bytes(), Violation::ControlTooLong),
        (Wire::masked(CLOSE, [0; 200]).bytes(), Violation::ControlTooLong),
        (overlong(&[0x82, 0xFE, 0, 125]), Violation::LengthEncoding),
        (overlong(&[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]), Violation::LengthEncoding),
        (overlong(&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0]), Violation::LengthEncoding),
        (Wire::masked(CONTINUATION, "a").bytes(), Violation::UnexpectedContinuation),
        (part(CONTINUATION).bytes(), Violation::UnexpectedContinuation),
        (wire::join(&[part(TEXT), Wire::masked(TEXT, "b")]), Violation::InterruptedMessage),
        (wire::join(&[part(TEXT), part(BINARY)]), Violation::InterruptedMessage),
        (
            wire::join(&[
                part(TEXT),
                part(CONTINUATION),
                part(CONTINUATION),
                part(CONTINUATION),
                part(CONTINUATION),
            ]),
            Violation::TooManyFragments,
        ),
        (Wire::masked(BINARY, [0; 201]).bytes(), Violation::MessageTooLarge),
        (
            overlong(&[0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
            Violation::MessageTooLarge,
        ),
        (
            wire::join(&[part(TEXT), Wire::masked(CONTINUATION, [b'b'; 200])]),
            Violation::MessageTooLarge,
        ),
        (Wire::masked(TEXT, [0xC3]).bytes(), Violation::InvalidUtf8),
        (Wire::masked(TEXT, [0xED, 0xA0, 0x80]).bytes(), Violation::InvalidUtf8),
        (wire::join(&[part(TEXT), Wire::masked(CONTINUATION, [0xFF])]), Violation::InvalidUtf8),
        (Wire::masked(CLOSE, [3]).bytes(), Violation::CloseLength),
        (Wire::masked(CLOSE, b"\x03\xE8\xFF").bytes(), Violation::InvalidUtf8),
    ];
    for (wrong, violation) in cases {
        let input = [Wire::masked(TEXT, "good").bytes(), wrong.clone()].concat();

        let expected = (vec![Incoming::Frame(text("good"))], Some(violation));
        assert_eq!(decode(&input), expected, "{wrong:02x?}");
    }
}

#[test]
fn close_codes_that_may_not_be_sent_are_refused() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, u16::MAX] {
        let input = Wire::masked(CLOSE, code.to_be_bytes()).bytes();

        assert_eq!(decode(&input), (vec![], Some(Violation::CloseCode)), "{code}");
    }
}

#[test]
fn each_violation_has_the_close_code_rfc_6455_gives_it() {
    let cases = [
        (Violation::ReservedBits, Disconnect::ProtocolError, 1002),
        (Violation::Unmasked, Disconnect::ProtocolError, 1002),
        (Violation::CloseCode, Disconnect::ProtocolError, 1002),
        (Violation::InvalidUtf8, Disconnect::InvalidUtf8, 1007),
        (Violation::MessageTooLarge, Disconnect::MessageTooLarge, 1009),
        (Violation::TooManyFragments, Disconnect::MessageTooLarge, 1009),
    ];
    for (violation, disconnect, code) in cases {
        assert_eq!(violation.disconnect(), disconnect);
        assert_eq!(disconnect.code(), code);
    }
}

#[test]
fn a_client_refuses_a_masked_frame() {
    let mut decoder = Decoder::new(Role::Client, SMALL);

    let outcome =
        decoder.decode(&mut &Wire::masked(TEXT, "a").bytes()[..], &mut Inflater::default());

    assert_eq!(outcome, Err(Violation::Masked));
}

#[test]
fn a_message_that_is_too_large_is_refused_by_its_header_alone() {
    let mut decoder = Decoder::new(Role::Server, SMALL);
    let frame = Wire::masked(BINARY, [0; 201]).bytes();

    let outcome = decoder.decode(&mut &frame[..8], &mut Inflater::default());

    assert_eq!(outcome, Err(Violation::MessageTooLarge));
    assert_eq!(decoder.held(), 0);
}

#[test]
fn a_wrong_first_byte_is_refused_without_waiting_for_the_rest_of_the_header() {
    let mut decoder = Decoder::new(Role::Server, SMALL);

    let outcome = decoder.decode(&mut &[0xC1, 0xFF][..], &mut Inflater::default());

    assert_eq!(outcome, Err(Violation::ReservedBits));
}

#[test]
fn after_a_violation_nothing_is_understood_any_more() {
    let mut decoder = Decoder::new(Role::Server, SMALL);
    decoder.decode(&mut &Wire::plain(TEXT, "a").bytes()[..], &mut Inflater::default()).unwrap_err();

    let outcome =
        decoder.decode(&mut &Wire::masked(TEXT, "b").bytes()[..], &mut Inflater::default());

    assert_eq!(outcome, Err(Violation::Unmasked));
}

#[test]
fn between_messages_a_decoder_holds_no_memory() {
    let mut decoder = Decoder::new(Role::Server, Limits::default());
    let frames = [Wire::masked(PING, [1; 125]), Wire::masked(BINARY, [2; 5000])];

    let input = wire::join(&frames);
    let mut rest = &input[..];
    while decoder.decode(&mut rest, &mut Inflater::default()).unwrap().is_some() {}

    assert_eq!(decoder.held(), 0);
}

#[test]
fn announcing_a_huge_message_does_not_make_us_reserve_it() {
    let limits = Limits { message_bytes: 1 << 30, fragments: 1 };
    let mut decoder = Decoder::new(Role::Server, limits);
    let header = [&[0x82, 0xFF][..], &(1_u64 << 30).to_be_bytes(), &[0; 4], &[0; 100]].concat();

    decoder.decode(&mut &header[..], &mut Inflater::default()).unwrap();

    assert!(decoder.held() <= 8 * 1024, "{} bytes", decoder.held());
}

#[test]
fn a_large_message_in_many_pieces_arrives_whole() {
    let limits = Limits { message_bytes: 1 << 20, fragments: 1 };
    let payload: Vec<u8> = (0..1_000_000_u32).map(|i| i.to_le_bytes()[1]).collect();
    let input = Wire::masked(BINARY, &payload).bytes();

    let (decoded, violation) = wire::decode(&input, 4099, limits);

    assert_eq!(violation, None);
    assert!(decoded == [Incoming::Frame(binary(&payload))]);
}

#[test]
fn headers_are_as_short_as_their_length_allows() {
    let cases: [(usize, &[u8]); 6] = [
        (0, &[0x82, 0]),
        (125, &[0x82, 125]),
        (126, &[0x82, 126, 0, 126]),
        (65_535, &[0x82, 126, 0xFF, 0xFF]),
        (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        (1 << 30, &[0x82, 127, 0, 0, 0, 0, 0x40, 0, 0, 0]),
    ];
    for (length, expected) in cases {
        assert_eq!(encode_header(OpCode::Binary, length).as_ref(), expected);
    }
}

#[test]
fn a_masked_header_ends_in_its_key() {
    let header = encode_header(OpCode::Text, 5).masked([1, 2, 3, 4]);

    assert_eq!(header.as_ref(), [0x81, 0x85, 1, 2, 3, 4]);
}
