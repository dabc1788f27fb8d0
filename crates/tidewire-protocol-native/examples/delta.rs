//! What a delta costs and saves: `cargo run --release -p tidewire-protocol-native --example delta`.
//!
//! For JSON states of several sizes of which three fields change, and for the worst a publisher can
//! do. Time is that of the wall: run it on a quiet machine.

#![expect(clippy::print_stdout, reason = "it prints what it has measured")]
#![expect(clippy::disallowed_methods, reason = "it measures time, and holds none still")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidewire_model::Payload;
use tidewire_protocol_native::fossil;

/// Long enough for a clock of microseconds.
const LASTING: Duration = Duration::from_millis(300);

fn main() {
    for items in [4, 15, 80, 320, 800] {
        let (old, new) = (state(items, 0), state(items, 1));
        measure(&format!("{items} sensors, 3 fields changed"), &old, &new);
    }
    let len: usize = 64 * 1_024;
    let alike = |period: usize| {
        let byte = |at| if at % period == 0 { b'b' } else { b'a' };
        Payload::binary((0..len).map(byte).collect::<Vec<_>>().into())
    };
    measure("64 KiB that is alike everywhere", &alike(13), &alike(11));
    measure("64 KiB of noise", &noise(1, len), &noise(2, len));
}

/// The state of a round: three fields of three sensors are the round's own.
fn state(items: u32, round: u32) -> Payload {
    let item = |id: u32| {
        let level = if id % (items / 3).max(1) == 1 { 17 + 5 * round } else { 10 };
        format!(r#"{{"id":{id},"name":"sensor {id}","level":{level},"unit":"mm","ok":true}}"#)
    };
    let items: Vec<_> = (0..items).map(item).collect();
    Payload::json(format!(r#"{{"items":[{}]}}"#, items.join(",")).into()).expect("JSON")
}

fn noise(seed: u64, len: usize) -> Payload {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    Payload::binary((0..len).map(|_| next()).collect::<Vec<_>>().into())
}

fn measure(name: &str, old: &Payload, new: &Payload) {
    let delta = fossil::delta(old, new);
    let encode = time(|| drop(black_box(fossil::delta(black_box(old), black_box(new)))));
    let size = delta.as_ref().map_or("in full".into(), |delta| format!("{} B", delta.len()));
    let apply = delta.map_or("-".into(), |delta: Bytes| {
        let apply = time(|| drop(black_box(fossil::apply(black_box(old), black_box(&delta)))));
        format!("{apply:.2} us")
    });
    println!("{name}: {} B -> {size}, encode {encode:.2} us, apply {apply}", new.len());
}

/// Microseconds that `work` takes, the best of several times.
fn time(work: impl Fn()) -> f64 {
    let mut best = f64::INFINITY;
    let began = Instant::now();
    while began.elapsed() < LASTING {
        let (round, times) = (Instant::now(), 16);
        (0..times).for_each(|_| work());
        best = best.min(round.elapsed().as_secs_f64() * 1e6 / f64::from(times));
    }
    best
}
