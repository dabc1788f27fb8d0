//! The same cases against a [`Link`], and chapters 12 and 13 in a reduced form: the sizes, fragments
//! and parameters of their messages, a few of each in place of a thousand.

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};
use mio::{Events, Poll, Token};
use tidewire_protocol::Frame;
use tidewire_transport::{Flushed, Limits, Link, LinkSettings, Received, Scratch};
use tidewire_transport::{Stream, Then, TransportError};
use tokio::net::TcpStream;

use super::cases::{Case, UNDEFINED, cases};
use super::{Answer, End, LIMITS, converse, expected};
use crate::deflate::agreed;
use crate::wire::{BINARY, CONTINUATION, TEXT, Wire};

#[tokio::test]
async fn a_link_answers_every_case_as_the_suite_wants() {
    for case in cases() {
        for chunk in [1, 997, case.sent.len()] {
            // A byte at a time over a real socket takes seconds for the longest.
            if case.sent.len() / chunk > MOST_CHUNKS {
                continue;
            }
            let seen = play(&case, chunk, LinkSettings { limits: LIMITS, deflate: None }).await;
            let expected = expected(&case);
            let is_as_expected =
                if case.number == UNDEFINED { seen.1 == expected.1 } else { seen == expected };
            assert!(is_as_expected, "case {}, chunks of {chunk}: {seen:?}", case.number);
        }
    }
}

#[tokio::test]
async fn a_link_echoes_compressed_messages_of_every_size_and_fragmentation() {
    // The offers of chapter 13: the default, a small window, and both with no context takeover.
    let offers = [
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits; server_max_window_bits=9",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=15",
    ];
    for offer in offers {
        let deflate = agreed(offer);
        for (length, fragment) in SIZES {
            let case = compressed(length, fragment);
            let settings = LinkSettings { limits: WIDE, deflate };

            let seen = play(&case, case.sent.len(), settings).await;

            assert!(seen == expected(&case), "{offer}: {length} bytes in fragments of {fragment}");
        }
    }
}

/// Text and noise of `length` bytes each, twice, compressed and in fragments of `fragment` bytes.
fn compressed(length: usize, fragment: usize) -> Case {
    let lines = (0..length).map(|at| format!("{{\"at\":{at},\"it\":\"é\"}}\n"));
    let mut text: String = lines.take(length / 16 + 1).collect();
    text.truncate(text.floor_char_boundary(length));
    let noise: Vec<u8> =
        std::iter::successors(Some(1_u32), |seed| Some(seed.wrapping_mul(0x915F_77F5) + 1))
            .map(|seed| seed.to_be_bytes()[0])
            .take(length)
            .collect();
    let (text, noise) = (Bytes::from(text), Bytes::from(noise));
    let once = [(TEXT, &text), (BINARY, &noise)];
    let twice = [once, once].concat();
    let sent: Vec<_> =
        twice.iter().flat_map(|(opcode, bytes)| fragments(*opcode, bytes, fragment)).collect();
    let echoes = [Frame::Text(text.clone()), Frame::Binary(noise.clone())].map(Answer::Echo);
    Case::good("12", &sent, &[echoes.clone(), echoes].concat())
}

/// A compressed message as a client sends it; all in one frame if `fragment` is zero.
fn fragments(opcode: u8, message: &[u8], fragment: usize) -> Vec<Wire> {
    let mut packed = Vec::with_capacity(2 * message.len() + 1024);
    let mut state = Compress::new(Compression::default(), false);
    state.compress_vec(message, &mut packed, FlushCompress::Sync).unwrap();
    let payload = packed.strip_suffix(&[0, 0, 0xFF, 0xFF]).expect("a flush ends so");

    let length = if fragment == 0 { payload.len() } else { fragment };
    let opcodes = std::iter::once(opcode).chain(std::iter::repeat(CONTINUATION));
    let parts = opcodes.zip(payload.chunks(length));
    let mut frames: Vec<_> =
        parts.map(|(opcode, part)| Wire::masked(opcode, part).unfinished()).collect();
    frames[0].first |= DEFLATED;
    let last = frames.len() - 1;
    frames[last].first |= FINAL;
    frames
}

/// What the suite sees of a case that a link serves.
async fn play(case: &Case, chunk: usize, settings: LinkSettings) -> (Vec<Answer>, Option<End>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    far.set_nodelay(true).unwrap();
    let (near, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    let stream = Stream::Tcp(mio::net::TcpStream::from_std(near));
    let server = thread::spawn(move || serve(Link::new(stream, Bytes::new(), settings)));

    let seen = converse(far, case, chunk, settings.deflate).await;

    server.join().unwrap();
    seen
}

/// Sends everything back until the client has closed or hung up.
fn serve(mut link: Link) {
    let mut scratch = Scratch::new(0);
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(4);
    link.register(poll.registry(), Token(0)).unwrap();
    let mut is_refused = false;
    while !take_turn(&mut link, &mut scratch, &mut is_refused) {
        poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
        assert!(!events.is_empty(), "the client does something in time");
        if events.iter().any(mio::event::Event::is_read_closed) {
            link.note_read_closed();
        }
    }
}

/// Whether the connection is over.
fn take_turn(link: &mut Link, scratch: &mut Scratch, is_refused: &mut bool) -> bool {
    let mut frames = Vec::new();
    while link.flush(scratch).unwrap() == Flushed::All {
        let received = if *is_refused {
            link.drain(scratch)
        } else {
            link.receive(scratch, MOST_FRAMES, &mut frames)
        };
        let then = match received {
            Ok(Received { then, .. }) => then,
            Err(TransportError::Violation(violation)) => {
                link.close(violation.disconnect().into(), "");
                assert_eq!(link.flush(scratch).unwrap(), Flushed::All);
                link.shutdown_write().unwrap();
                *is_refused = true;
                Then::More
            }
            // A client that has been refused may reset.
            Err(_) => Then::Ended,
        };
        // Nothing follows the answer to a close.
        drop(link.queue(&frames, scratch));
        frames.clear();
        match then {
            Then::More => {}
            Then::Drained => {
                return link.flush(scratch).unwrap() == Flushed::All && link.is_parted();
            }
            Then::Ended => {
                drop(link.flush(scratch));
                return true;
            }
        }
    }
    false
}

/// Bytes in a message and in a fragment of it, as in both chapters; those that fit in a fragment are
/// left out.
const SIZES: [(usize, usize); 16] = [
    (16, 0),
    (64, 0),
    (256, 0),
    (1024, 0),
    (4096, 0),
    (8192, 0),
    (16_384, 0),
    (32_768, 0),
    (65_536, 0),
    (131_072, 0),
    (8192, 256),
    (32_768, 256),
    (131_072, 256),
    (131_072, 1024),
    (131_072, 4096),
    (131_072, 32_768),
];

const WIDE: Limits = Limits { message_bytes: 1 << 20, fragments: 1 << 10 };
const MOST_CHUNKS: usize = 2000;
const MOST_FRAMES: usize = 32;
const DEFLATED: u8 = 0x40;
const FINAL: u8 = 0x80;
