//! What the codec costs: `cargo run --release -p tidewire-transport --example codec_cost`.
//!
//! Each line is the best of several rounds, in time of the wall, and wants a quiet machine.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::error::Error;
use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use tidewire_protocol::Frame;
use tidewire_transport::websocket::deflate::{Deflater, Inflater};
use tidewire_transport::websocket::{Decoder, OpCode, encode_header};
use tidewire_transport::{Deflate, Limits, Link, Prepared, Role};
use tokio::time::Instant;

const ROUNDS: u32 = 9;
const COMMAND_BYTES: usize = 156;
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

fn main() -> Result<(), Box<dyn Error>> {
    println!("size of an idle link: {} bytes", size_of::<Link>());
    decode();
    prepare();
    compress()
}

fn decode() {
    const FRAMES: u32 = 256;
    let header = encode_header(OpCode::Text, COMMAND_BYTES).masked(MASK);
    let payload = (0..COMMAND_BYTES).map(|at| b'a' ^ MASK[at % MASK.len()]);
    let frame: Vec<u8> = header.as_ref().iter().copied().chain(payload).collect();
    let input = frame.repeat(FRAMES as usize);
    let mut decoder = Decoder::new(Role::Server, Limits::default());
    let mut inflater = Inflater::default();
    let took = best(100, || {
        let mut rest = &input[..];
        while let Ok(Some(incoming)) = decoder.decode(&mut rest, &mut inflater) {
            black_box(incoming);
        }
    });
    println!("decode a masked frame of {} bytes: {:?}", frame.len(), took / FRAMES);
}

fn prepare() {
    let frames = [Frame::Text(Bytes::from(vec![b'a'; 128]))];
    let took = best(10_000, || {
        black_box(Prepared::new(black_box(&frames)));
    });
    println!("prepare a frame of 128 bytes: {took:?}");
}

fn compress() -> Result<(), Box<dyn Error>> {
    let payload = json(1024);
    let mut deflater = Deflater::default();
    let packed = deflater.deflate(Deflate::WIDEST, &payload).ok_or("it shrinks")?.to_vec();
    let took = best(1000, || {
        black_box(deflater.deflate(Deflate::WIDEST, black_box(&payload)));
    });
    println!("deflate {} bytes of json to {}: {took:?}", payload.len(), packed.len());

    let mut inflater = Inflater::default();
    inflater.inflate(&packed, payload.len())?;
    let took = best(1000, || {
        let _ = black_box(inflater.inflate(black_box(&packed), payload.len()));
    });
    println!("inflate them: {took:?}");
    Ok(())
}

/// Something like what applications publish.
fn json(length: usize) -> Vec<u8> {
    let entry =
        |n: u32| format!(r#"{{"id":{n},"price":{}.{n},"side":"buy","user":"u{n}"}},"#, n * 37);
    let mut text: String = (1000..).map(entry).take(length / 40).collect();
    text.truncate(length);
    text.into_bytes()
}

/// The time of one call, in the best round.
fn best(calls: u32, mut call: impl FnMut()) -> Duration {
    let mut rounds: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            (0..calls).for_each(|_| call());
            began.elapsed() / calls
        })
        .collect();
    rounds.sort_unstable();
    rounds[0]
}
