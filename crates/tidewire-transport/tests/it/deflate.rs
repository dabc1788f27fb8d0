use std::time::Duration;

use flate2::{Compress, Compression as Level, Decompress, FlushCompress, FlushDecompress};
use hyper::Request;
use hyper::header::{HeaderValue, SEC_WEBSOCKET_EXTENSIONS};
use proptest::collection::vec;
use proptest::prelude::*;
use tidewire_protocol::Frame;
use tidewire_transport::client::{Settings, connect};
use tidewire_transport::websocket::deflate::{Deflater, Inflater};
use tidewire_transport::websocket::{Decoder, Incoming};
use tidewire_transport::{
    CloseCode, Compression, ConnectError, Deflate, Limits, Prepared, Role, Scratch, Transport,
    Violation, upgrade,
};

use crate::wire::{self, BINARY, CONTINUATION, PING, TEXT, Wire, binary, text};
use crate::{client, server};

const LIMITS: Limits = Limits { message_bytes: 100_000, fragments: 8 };
const RSV1: u8 = 0x40;

/// What `payload` is on the wire, made by zlib's own means.
fn packed(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 1024);
    let mut state = Compress::new(Level::best(), false);
    state.compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
    out.strip_suffix(&[0, 0, 0xFF, 0xFF]).expect("a flush ends so").to_vec()
}

fn compressed(opcode: u8, payload: &[u8]) -> Wire {
    Wire::masked(opcode, packed(payload)).with_bits(RSV1)
}

/// What a server that agreed to compression makes of `input`, which does not depend on the pieces.
fn decode(input: &[u8]) -> (Vec<Incoming>, Option<Violation>) {
    let whole = decode_in_pieces(input, input.len());
    for piece in [1, 2, 5] {
        assert_eq!(decode_in_pieces(input, piece), whole, "in pieces of {piece}");
    }
    whole
}

fn decode_in_pieces(input: &[u8], piece: usize) -> (Vec<Incoming>, Option<Violation>) {
    let mut decoder = Decoder::new(Role::Server, LIMITS).deflated();
    let mut inflater = Inflater::default();
    let mut all = Vec::new();
    for mut piece in input.chunks(piece.max(1)) {
        loop {
            match decoder.decode(&mut piece, &mut inflater) {
                Ok(Some(incoming)) => all.push(incoming),
                Ok(None) => break,
                Err(violation) => return (all, Some(violation)),
            }
        }
    }
    (all, None)
}

#[test]
fn compressed_messages_come_out_as_they_went_in() {
    let hello = packed(b"hello, hello, hello");
    let (first, second) = hello.split_at(4);
    let finished = |payload: &[u8]| {
        let mut out = Vec::with_capacity(1024);
        let mut state = Compress::new(Level::best(), false);
        state.compress_vec(payload, &mut out, FlushCompress::Finish).unwrap();
        out
    };
    let cases: Vec<(Vec<Wire>, Frame)> = vec![
        (vec![compressed(TEXT, "héllo".as_bytes())], text("héllo")),
        (vec![compressed(BINARY, &[0xFF; 5_000])], binary(&[0xFF; 5_000])),
        (vec![compressed(TEXT, b"")], text("")),
        (vec![Wire::masked(TEXT, "").with_bits(RSV1)], text("")),
        (vec![Wire::masked(TEXT, "as it is")], text("as it is")),
        (
            vec![
                Wire::masked(TEXT, first).with_bits(RSV1).unfinished(),
                Wire::masked(CONTINUATION, "").unfinished(),
                Wire::masked(CONTINUATION, second),
            ],
            text("hello, hello, hello"),
        ),
        // RFC 7692 section 7.2.3.4: a final block, and the empty one that has to follow it.
        (
            vec![Wire::masked(TEXT, [finished(b"Hello"), vec![0]].concat()).with_bits(RSV1)],
            text("Hello"),
        ),
        (vec![Wire::masked(TEXT, finished(b"bare")).with_bits(RSV1)], text("bare")),
        // Section 7.2.3.1 and 7.2.3.3 verbatim.
        (vec![Wire::masked(TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00").with_bits(RSV1)], text("Hello")),
        (
            vec![
                Wire::masked(TEXT, b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00").with_bits(RSV1),
            ],
            text("Hello"),
        ),
    ];
    for (frames, expected) in cases {
        let decoded = decode(&wire::join(&frames));

        assert_eq!(decoded, (vec![Incoming::Frame(expected)], None), "{frames:?}");
    }
}

#[test]
fn a_ping_between_compressed_fragments_is_as_it_is() {
    let hello = packed(b"hello, hello");
    let frames = [
        Wire::masked(TEXT, &hello[..3]).with_bits(RSV1).unfinished(),
        Wire::masked(PING, "p"),
        Wire::masked(CONTINUATION, &hello[3..]),
    ];

    let decoded = decode(&wire::join(&frames));

    let expected = vec![Incoming::Ping("p".into()), Incoming::Frame(text("hello, hello"))];
    assert_eq!(decoded, (expected, None));
}

#[test]
fn every_misuse_of_compression_is_named() {
    let cases = [
        (vec![Wire::masked(PING, "").with_bits(RSV1)], Violation::ReservedBits),
        (
            vec![
                Wire::masked(TEXT, packed(b"a")).with_bits(RSV1).unfinished(),
                Wire::masked(CONTINUATION, "").with_bits(RSV1),
            ],
            Violation::ReservedBits,
        ),
        (vec![compressed(TEXT, b"a").with_bits(0x20)], Violation::ReservedBits),
        (vec![Wire::masked(0x3, "").with_bits(RSV1)], Violation::ReservedBits),
        (vec![Wire::masked(TEXT, [0xFF; 40]).with_bits(RSV1)], Violation::BadCompression),
        // Cut in the middle of a block.
        (
            vec![Wire::masked(BINARY, &packed(&[b'x'; 9000])[..10]).with_bits(RSV1)],
            Violation::BadCompression,
        ),
        (vec![compressed(TEXT, &[0xC3])], Violation::InvalidUtf8),
        (vec![compressed(BINARY, &[0; 100_001])], Violation::MessageTooLarge),
    ];
    for (frames, violation) in cases {
        assert_eq!(decode(&wire::join(&frames)), (vec![], Some(violation)), "{frames:?}");
    }
}

#[test]
fn compressed_frames_are_refused_where_compression_was_not_agreed() {
    let input = compressed(TEXT, b"a").bytes();

    assert_eq!(wire::decode(&input, 1, LIMITS), (vec![], Some(Violation::ReservedBits)));
}

#[test]
fn corrupt_data_ends_a_connection_with_1007() {
    assert_eq!(Violation::BadCompression.disconnect().code(), 1007);
}

#[test]
fn a_bomb_is_refused_before_it_is_inflated() {
    let bomb = packed(&vec![0; 4 << 20]);
    assert!(bomb.len() < 6_000);
    let mut inflater = Inflater::default();

    let by_size = inflater.inflate(&bomb, 1 << 20).unwrap_err();
    let by_ratio = inflater.inflate(&bomb, usize::MAX / 2).unwrap_err();
    let afterwards = inflater.inflate(&packed(b"fine"), 100).unwrap().to_vec();

    assert_eq!((by_size, by_ratio), (Violation::MessageTooLarge, Violation::MessageTooLarge));
    assert_eq!(afterwards, b"fine");
}

#[test]
fn a_message_may_be_exactly_as_long_as_the_limit() {
    let mut inflater = Inflater::default();
    for length in [1, 4095, 4096, 4097, 65_536, 65_537] {
        let payload = packed(&(0..length).map(|n: u32| n.to_le_bytes()[1]).collect::<Vec<_>>());
        let length = length as usize;

        assert_eq!(inflater.inflate(&payload, length).unwrap().len(), length);
        let refused = inflater.inflate(&payload, length - 1);
        assert_eq!(refused, Err(Violation::MessageTooLarge), "{length}");
    }
}

#[test]
fn short_messages_and_those_that_do_not_shrink_go_as_they_are() {
    let mut deflater = Deflater::new(100);
    let mut random = 1_u64;
    let noise = [(); 2000].map(|()| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        random.to_be_bytes()[0]
    });
    let deflate = agreed("permessage-deflate").unwrap();

    assert_eq!(deflater.deflate(deflate, &[b'a'; 99]), None);
    assert_eq!(deflater.deflate(deflate, &noise), None);
    assert!(deflater.deflate(deflate, &[b'a'; 100]).unwrap().len() < 20);
}

#[test]
fn where_the_window_is_small_only_messages_that_fit_it_are_compressed() {
    let mut deflater = Deflater::new(0);
    let deflate = agreed("permessage-deflate; server_max_window_bits=9").unwrap();

    assert_eq!(deflater.deflate(deflate, &[b'a'; 513]), None);
    let packed = deflater.deflate(deflate, &[b'a'; 512]).unwrap();

    let mut state = Decompress::new_with_window_bits(false, 9);
    let mut out = Vec::with_capacity(1024);
    state.decompress_vec(packed, &mut out, FlushDecompress::Sync).unwrap();
    assert_eq!(out, [b'a'; 512]);
}

#[test]
fn prepared_frames_are_compressed_for_those_who_agreed() {
    let (long, short) = ("tide ".repeat(400), "tide");
    let mut scratch = Scratch::default();
    let mut prepared = Prepared::new(&[text(&long), text(short)]);
    let plain = wire::join(&[Wire::plain(TEXT, &long), Wire::plain(TEXT, short)]);
    let small_window = agreed("permessage-deflate; server_max_window_bits=10");

    assert_eq!(prepared.wire(None, &mut scratch), &plain);
    assert_eq!(prepared.wire(small_window, &mut scratch), &plain);
    let deflated = prepared.wire(agreed("permessage-deflate"), &mut scratch).clone();

    assert!(deflated.len() < 100, "{}", deflated.len());
    assert_eq!(deflated[0], 0x80 | RSV1 | TEXT);
    let mut reader = Decoder::new(Role::Client, LIMITS).deflated();
    let (mut rest, mut inflater) = (&deflated[..], Inflater::default());
    for expected in [text(&long), text(short)] {
        let decoded = reader.decode(&mut rest, &mut inflater).unwrap();
        assert_eq!(decoded, Some(Incoming::Frame(expected)));
    }
}

#[test]
fn the_first_offer_that_can_be_met_is_answered() {
    const PLAIN: &str =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let windowed = |bits| format!("{PLAIN}; server_max_window_bits={bits}");
    let cases: Vec<(&[&str], Option<String>)> = vec![
        (&[], None),
        (&["permessage-bzip2"], None),
        (&["permessage-deflate"], Some(PLAIN.into())),
        (&["permessage-deflate; client_max_window_bits"], Some(PLAIN.into())),
        (&["permessage-deflate;client_max_window_bits=9"], Some(PLAIN.into())),
        (&["permessage-deflate; server_no_context_takeover"], Some(PLAIN.into())),
        (&["permessage-deflate; client_no_context_takeover"], Some(PLAIN.into())),
        (&["permessage-deflate; server_max_window_bits=15"], Some(windowed(15))),
        (&["permessage-deflate; server_max_window_bits=\"8\""], Some(windowed(8))),
        (&["permessage-deflate; server_max_window_bits"], None),
        (&["permessage-deflate; server_max_window_bits=7"], None),
        (&["permessage-deflate; server_max_window_bits=16"], None),
        (&["permessage-deflate; server_max_window_bits=010"], None),
        (&["permessage-deflate; server_max_window_bits=+9"], None),
        (&["permessage-deflate; client_max_window_bits=7"], None),
        (&["permessage-deflate; client_max_window_bits; client_max_window_bits"], None),
        (&["permessage-deflate; server_max_window_bits=9; server_max_window_bits=9"], None),
        (&["permessage-deflate; server_no_context_takeover=1"], None),
        (&["permessage-deflate; server_no_context_takeover; server_no_context_takeover"], None),
        (&["permessage-deflate; unknown"], None),
        (&["permessage-deflate; unknown, permessage-deflate"], Some(PLAIN.into())),
        (&["x, permessage-deflate; unknown=1", "permessage-deflate"], Some(PLAIN.into())),
        (&["permessage-deflate;"], None),
    ];
    for (lines, expected) in cases {
        let mut request = request(lines);

        let upgrade = upgrade(&mut request, &["v1.json"], Compression::On).unwrap();

        let answer = upgrade.response.headers().get(SEC_WEBSOCKET_EXTENSIONS);
        let answer = answer.map(|it| it.to_str().unwrap().to_owned());
        assert_eq!(answer, expected, "{lines:?}");
        assert_eq!(upgrade.deflate.is_some(), expected.is_some());
    }
}

#[test]
fn nothing_is_agreed_where_compression_is_off() {
    let mut request = request(&["permessage-deflate"]);

    let upgrade = upgrade(&mut request, &["v1.json"], Compression::Off).unwrap();

    assert_eq!(upgrade.deflate, None);
    assert!(!upgrade.response.headers().contains_key(SEC_WEBSOCKET_EXTENSIONS));
}

#[tokio::test]
async fn client_and_server_compress_if_both_want_to() {
    let (listener, url) = server::listen().await;
    let long = text(&"tide ".repeat(1000));
    for compression in [Compression::On, Compression::Off] {
        let settings = Settings { limits: Limits::default(), compression };
        let connecting = connect(&url, "v1.json", settings);
        let ((mut server, _), client) =
            tokio::join!(server::accept(&listener, &["v1.json"]), connecting);
        let mut client = client.unwrap();

        server.queue(&[long.clone(), text("short")]).unwrap();
        let unsent = server.unsent();
        server.flush().await.unwrap();
        client.send(std::slice::from_ref(&long)).await.unwrap();

        assert_eq!(client.receive().await.unwrap(), Some(long.clone()));
        assert_eq!(client.receive().await.unwrap(), Some(text("short")));
        assert_eq!(server.receive().await.unwrap(), Some(long.clone()));
        let is_agreed = compression == Compression::On;
        assert_eq!((client.deflate().is_some(), unsent < 200), (is_agreed, is_agreed));
        let _ = client.close(CloseCode::NORMAL, "", Duration::ZERO).await;
    }
}

#[tokio::test]
async fn a_server_that_agrees_to_what_was_not_offered_is_not_believed() {
    let answers = [
        "x",
        "permessage-deflate",
        "permessage-deflate; server_no_context_takeover; client_max_window_bits=10",
        "permessage-deflate; server_no_context_takeover, permessage-deflate",
    ];
    for answer in answers {
        let settings = Settings { compression: Compression::On, ..Settings::default() };
        let connected = client::connect_to_with(settings, |key| {
            let line = format!("\r\nSec-WebSocket-Extensions: {answer}\r\n\r\n");
            client::agreeing(key).replace("\r\n\r\n", &line).into_bytes()
        });

        let error = connected.await.unwrap_err();

        assert!(matches!(error, ConnectError::Handshake(_)), "{answer}: {error:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_is_deflated_inflates_to_the_same(
        payload in vec(prop_oneof![4 => Just(b'a'), 1 => any::<u8>()], 0..5000),
    ) {
        let deflate = agreed("permessage-deflate").unwrap();
        let mut deflater = Deflater::new(0);

        if let Some(packed) = deflater.deflate(deflate, &payload) {
            prop_assert!(packed.len() < payload.len());
            let inflated = Inflater::default().inflate(packed, payload.len()).map(<[u8]>::to_vec);
            prop_assert_eq!(inflated, Ok(payload));
        }
    }

    #[test]
    fn no_payload_panics_the_inflater_or_passes_its_limit(
        payload in vec(any::<u8>(), 0..300),
        limit in 0_usize..2000,
    ) {
        let mut inflater = Inflater::default();

        if let Ok(inflated) = inflater.inflate(&payload, limit) {
            prop_assert!(inflated.len() <= limit);
        }

        prop_assert_eq!(inflater.inflate(&packed(b"next"), 4), Ok(&b"next"[..]));
    }
}

/// What a server agrees on with a client that offers `offer`.
pub(crate) fn agreed(offer: &str) -> Option<Deflate> {
    upgrade(&mut request(&[offer]), &["v1.json"], Compression::On).unwrap().deflate
}

fn request(extensions: &[&str]) -> Request<()> {
    let mut request = Request::get("/")
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(())
        .unwrap();
    for line in extensions {
        let line = HeaderValue::from_str(line).unwrap();
        request.headers_mut().append(SEC_WEBSOCKET_EXTENSIONS, line);
    }
    request
}

#[test]
fn a_message_that_does_not_shrink_leaves_nothing_for_the_next() {
    let deflate = agreed("permessage-deflate").unwrap();
    let mut deflater = Deflater::new(0);
    let shrinking = b"hello, ".repeat(200);
    let noise: Vec<u8> = std::iter::successors(Some(1_u64), |seed| {
        let seed = seed ^ (seed << 13);
        let seed = seed ^ (seed >> 7);
        Some(seed ^ (seed << 17))
    })
    .map(|seed| seed.to_le_bytes()[3])
    .take(8192)
    .collect();

    for _ in 0..40 {
        assert_eq!(deflater.deflate(deflate, &noise), None);
        let packed = deflater.deflate(deflate, &shrinking).unwrap();

        assert_eq!(Inflater::default().inflate(packed, 100_000).unwrap(), shrinking);
    }
}
