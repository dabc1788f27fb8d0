//! Any bytes at all, into our decoder and into one that shares no code with it.
//!
//! Also compiled into the fuzz target `differential`, so nothing here may need a test harness.
//!
//! The two have to hear the same messages, pings and closes, and to refuse the same input, save for
//! what we decided otherwise:
//!
//! 1. A length that is not written in its shortest form (RFC 6455 section 5.2): we refuse it, they
//!    read it. In a control frame we do so for any length that takes more than one byte.
//! 2. Close codes that may not be sent (section 7.4): we refuse them, they answer them.
//! 3. A message in more fragments than the limit: they have no such limit.
//! 4. What is wrong we refuse with the first byte that shows it, they when the frame or its header
//!    is complete. So they get the rest of it.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};
use tidewire_protocol::Frame;
use tidewire_transport::websocket::deflate::Inflater;
use tidewire_transport::websocket::{Decoder, Incoming};
use tidewire_transport::{Limits, Role, Violation};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{Role as TheirRole, WebSocket, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

const LIMITS: Limits = Limits { message_bytes: 300, fragments: 5 };

/// Completes whatever frame was cut off: its header, and as much payload as is allowed.
const REST: [u8; 400] = [0xFF; 400];

/// What a peer was heard to say.
#[derive(Debug, PartialEq)]
enum Heard {
    Frame(Frame),
    Ping(Bytes),
    Pong(Bytes),
    Close,
}

#[derive(Debug, PartialEq)]
enum End<V> {
    /// The input ended first.
    Cut,
    Closed,
    Refused(V),
}

/// Panics if our server's decoder and theirs disagree on `input` in pieces of `piece` bytes.
pub(crate) fn agree(input: &[u8], piece: usize) {
    let (ours, our_end) = our_verdict(input, piece);
    let (theirs, their_end) = their_verdict(input, piece);
    match our_end {
        End::Refused(
            Violation::LengthEncoding
            | Violation::ControlTooLong
            | Violation::CloseCode
            | Violation::TooManyFragments,
        ) => assert_eq!(theirs.get(..ours.len()), Some(&ours[..])),
        End::Refused(violation) => {
            let (theirs, their_end) = their_verdict(&[input, &REST].concat(), piece);
            assert_eq!(ours, theirs);
            assert_eq!(their_end, End::Refused(()), "we refused it: {violation}");
        }
        End::Cut => assert_eq!((ours, End::Cut), (theirs, their_end)),
        End::Closed => assert_eq!((ours, End::Closed), (theirs, their_end)),
    }
}

/// Panics if our inflater makes something else of `payload` than zlib does.
pub(crate) fn inflates_alike(payload: &[u8]) {
    let mut inflater = Inflater::default();
    let ours = inflater.inflate(payload, INFLATED_BYTES);
    match (ours, their_inflated(payload)) {
        (Ok(ours), Inflated::Whole(theirs)) => assert_eq!(ours, theirs),
        // A final block may be followed by another stream, which zlib leaves to its caller.
        (Ok(ours), Inflated::UpToFinalBlock(theirs)) => assert!(ours.starts_with(&theirs)),
        (Ok(_), Inflated::Wrong) => unreachable!("we inflated what zlib refuses"),
        // We also refuse a payload that is too long when inflated or that ends inside a block.
        (Err(_), _) => {}
    }
}

fn our_verdict(input: &[u8], piece: usize) -> (Vec<Heard>, End<Violation>) {
    let mut decoder = Decoder::new(Role::Server, LIMITS);
    let mut inflater = Inflater::default();
    let mut heard = Vec::new();
    for mut piece in input.chunks(piece.max(1)) {
        loop {
            match decoder.decode(&mut piece, &mut inflater) {
                Ok(None) => break,
                Ok(Some(Incoming::Frame(frame))) => heard.push(Heard::Frame(frame)),
                Ok(Some(Incoming::Ping(payload))) => heard.push(Heard::Ping(payload)),
                Ok(Some(Incoming::Pong(payload))) => heard.push(Heard::Pong(payload)),
                Ok(Some(Incoming::Close(_))) => {
                    heard.push(Heard::Close);
                    return (heard, End::Closed);
                }
                Err(violation) => return (heard, End::Refused(violation)),
            }
        }
    }
    (heard, End::Cut)
}

fn their_verdict(input: &[u8], piece: usize) -> (Vec<Heard>, End<()>) {
    let limit = Some(LIMITS.message_bytes);
    let config = WebSocketConfig::default().max_message_size(limit).max_frame_size(limit);
    let stream = Pieces { rest: input, piece: piece.max(1) };
    let mut server = WebSocket::from_raw_socket(stream, TheirRole::Server, Some(config));
    let mut heard = Vec::new();
    loop {
        match server.read() {
            Ok(Message::Text(text)) => heard.push(Heard::Frame(Frame::Text(text.into()))),
            Ok(Message::Binary(bytes)) => heard.push(Heard::Frame(Frame::Binary(bytes))),
            Ok(Message::Ping(payload)) => heard.push(Heard::Ping(payload)),
            Ok(Message::Pong(payload)) => heard.push(Heard::Pong(payload)),
            Ok(Message::Frame(_)) => unreachable!("only written, never read"),
            Ok(Message::Close(_)) => {
                heard.push(Heard::Close);
                return (heard, End::Closed);
            }
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return (heard, End::Cut);
            }
            Err(_) => return (heard, End::Refused(())),
        }
    }
}

/// A stream that is read in pieces and takes whatever is written.
struct Pieces<'a> {
    rest: &'a [u8],
    piece: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.piece.min(buffer.len());
        let read = Read::take(self.rest, length as u64).read(buffer)?;
        self.rest = &self.rest[read..];
        Ok(read)
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What zlib makes of a payload.
enum Inflated {
    Whole(Vec<u8>),
    UpToFinalBlock(Vec<u8>),
    Wrong,
}

fn their_inflated(payload: &[u8]) -> Inflated {
    let input = [payload, &[0x00, 0x00, 0xFF, 0xFF]].concat();
    let mut output = Vec::with_capacity(2 * INFLATED_BYTES);
    let mut state = Decompress::new(false);
    match state.decompress_vec(&input, &mut output, FlushDecompress::Sync) {
        Ok(Status::StreamEnd) => Inflated::UpToFinalBlock(output),
        Ok(_) => Inflated::Whole(output),
        Err(_) => Inflated::Wrong,
    }
}

/// The most that is inflated: less than either side judges by the ratio.
const INFLATED_BYTES: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{self, Wire};

    /// Bytes that often mean something: a header of any kind, with a payload that fits it.
    fn any_frame() -> impl Strategy<Value = Wire> {
        let first = prop_oneof![
            6 => prop_oneof![Just(0x81_u8), Just(0x82), Just(0x01), Just(0x02), Just(0), Just(0x80)],
            3 => prop_oneof![Just(0x88_u8), Just(0x89), Just(0x8A)],
            1 => any::<u8>(),
        ];
        let payload = prop_oneof![
            4 => "[a-zé€😀]{0,40}".prop_map(String::into_bytes),
            3 => vec(any::<u8>(), 0..140),
            1 => (990..5010_u16, "[a-zé]{0,9}")
                .prop_map(|(code, reason)| [&code.to_be_bytes(), reason.as_bytes()].concat()),
        ];
        (first, prop::option::weighted(0.97, any::<[u8; 4]>()), payload)
            .prop_map(|(first, mask, payload)| Wire { first, mask, payload })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn they_agree_on_any_frames_cut_anywhere(
            frames in vec(any_frame(), 0..12),
            length in any::<prop::sample::Index>(),
            piece in 1_usize..300,
        ) {
            let input = wire::join(&frames);

            agree(&input[..length.index(input.len() + 1)], piece);
            agree(&input, piece);
        }

        #[test]
        fn they_agree_on_any_bytes(input in vec(any::<u8>(), 0..200), piece in 1_usize..60) {
            agree(&input, piece);
        }

        #[test]
        fn zlib_and_we_inflate_alike(payload in vec(any::<u8>(), 0..120)) {
            inflates_alike(&payload);
        }
    }

    proptest! {
        // Without optimizations, setting zlib up takes longer than all the rest.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_zlib_compresses_we_inflate(
            message in vec(prop_oneof![any::<u8>(), Just(b'a')], 0..1000),
            level in 0..=9_u32,
        ) {
            let mut packed = Vec::with_capacity(2 * message.len() + 1024);
            let mut state = Compress::new(Compression::new(level), false);
            state.compress_vec(&message, &mut packed, FlushCompress::Sync).unwrap();
            let payload = packed.strip_suffix(&[0, 0, 0xFF, 0xFF]).unwrap();

            let mut inflater = Inflater::default();

            prop_assert_eq!(inflater.inflate(payload, INFLATED_BYTES).unwrap(), &message[..]);
            inflates_alike(payload);
        }
    }
}
