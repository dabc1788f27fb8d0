//! Arbitrary bytes as a delta, and arbitrary payloads made into one and back.

#![no_main]

use tidewire_model::Payload;
use tidewire_protocol_native::fossil;

libfuzzer_sys::fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (first, second) = input;
    for make in [Payload::binary, Payload::checked_json] {
        let (base, payload) = (make(first.clone().into()), make(second.clone().into()));
        drop(fossil::apply(&base, &second));
        if let Some(delta) = fossil::delta(&base, &payload) {
            // What only claims to be JSON is not restored.
            let restored = fossil::apply(&base, &delta);
            assert!(restored == Ok(payload.clone()) || payload.is_json());
        }
    }
});
