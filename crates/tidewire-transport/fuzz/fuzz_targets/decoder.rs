//! No bytes panic the decoder, pieces come to the same as the whole, and limits hold.
//!
//! The first two bytes choose the role and the size of the pieces, the rest is what the peer sends.
//! Run with `cargo +nightly fuzz run decoder`, in `crates/tidewire-transport`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewire_protocol::Frame;
use tidewire_transport::websocket::deflate::Inflater;
use tidewire_transport::websocket::{Decoder, Incoming};
use tidewire_transport::{Limits, Role, Violation};

const LIMITS: Limits = Limits { message_bytes: 300, fragments: 5 };

fuzz_target!(|data: &[u8]| {
    let [role, chunk, input @ ..] = data else { return };
    let role = if role % 2 == 0 { Role::Server } else { Role::Client };

    let whole = decode(role, input, input.len());

    assert_eq!(decode(role, input, usize::from(*chunk)), whole);
    whole.0.iter().for_each(check);
});

fn decode(role: Role, input: &[u8], chunk: usize) -> (Vec<Incoming>, Option<Violation>) {
    let mut decoder = Decoder::new(role, LIMITS);
    let mut inflater = Inflater::default();
    let mut all = Vec::new();
    for mut piece in input.chunks(chunk.max(1)) {
        loop {
            match decoder.decode(&mut piece, &mut inflater) {
                Ok(Some(incoming)) => all.push(incoming),
                Ok(None) => break,
                Err(violation) => return (all, Some(violation)),
            }
        }
        assert!(piece.is_empty(), "a decoder that wants more has taken all there was");
        assert!(decoder.held() <= 2 * LIMITS.message_bytes + 125);
    }
    (all, None)
}

fn check(incoming: &Incoming) {
    match incoming {
        Incoming::Frame(Frame::Text(text)) => {
            assert!(text.len() <= LIMITS.message_bytes);
            assert!(str::from_utf8(text).is_ok());
        }
        Incoming::Frame(Frame::Binary(bytes)) => assert!(bytes.len() <= LIMITS.message_bytes),
        Incoming::Ping(payload) | Incoming::Pong(payload) => assert!(payload.len() <= 125),
        Incoming::Close(close) => {
            assert!(close.as_ref().is_none_or(|close| close.reason.len() <= 123));
        }
    }
}
