//! Our decoder against tungstenite's, and our inflater against zlib's, on the same bytes.
//!
//! The first byte chooses the size of the pieces, the rest is what the peer sends.
//! Run with `cargo +nightly fuzz run differential`, in `crates/tidewire-transport`.

#![no_main]

#[path = "../../tests/it/differential.rs"]
mod differential;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [piece, input @ ..] = data else { return };
    differential::agree(input, usize::from(*piece));
    differential::inflates_alike(input);
});
