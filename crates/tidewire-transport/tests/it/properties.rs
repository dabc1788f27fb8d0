use proptest::collection::vec;
use proptest::prelude::*;
use tidewire_transport::websocket::Incoming;
use tidewire_transport::{Limits, Violation};

use crate::wire::{self, Wire, binary, text};

const SMALL: Limits = Limits { message_bytes: 300, fragments: 5 };

fn any_frame() -> impl Strategy<Value = Wire> {
    (any::<u8>(), prop::option::weighted(0.9, any::<[u8; 4]>()), vec(any::<u8>(), 0..150))
        .prop_map(|(first, mask, payload)| Wire { first, mask, payload })
}

/// A message, cut into fragments at the given places.
fn fragmented(opcode: u8, payload: &[u8], cuts: &[prop::sample::Index]) -> Vec<Wire> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(payload.len());
    let mut start = 0;
    let mut frames = Vec::new();
    for cut in cuts {
        let opcode = if frames.is_empty() { opcode } else { wire::CONTINUATION };
        frames.push(Wire::masked(opcode, &payload[start..cut]).unfinished());
        start = cut;
    }
    let last = frames.pop().expect("the last cut is the end");
    frames.push(last.with_bits(0x80));
    frames
}

proptest! {
    #[test]
    fn no_bytes_panic_the_decoder_and_pieces_come_to_the_same(
        input in vec(any::<u8>(), 0..400),
        chunk in 1_usize..50,
    ) {
        let whole = wire::decode(&input, input.len(), SMALL);

        prop_assert_eq!(wire::decode(&input, chunk, SMALL), whole);
    }

    #[test]
    fn no_frames_panic_the_decoder_and_pieces_come_to_the_same(
        frames in vec(any_frame(), 0..12),
        chunk in 1_usize..50,
    ) {
        let input = wire::join(&frames);
        let whole = wire::decode(&input, input.len(), SMALL);

        prop_assert_eq!(wire::decode(&input, chunk, SMALL), whole);
    }

    #[test]
    fn a_message_survives_however_it_is_cut(
        payload in vec(any::<u8>(), 0..300),
        cuts in vec(any::<prop::sample::Index>(), 0..4),
        chunk in 1_usize..64,
    ) {
        let input = wire::join(&fragmented(wire::BINARY, &payload, &cuts));

        let decoded = wire::decode(&input, chunk, SMALL);

        prop_assert_eq!(decoded, (vec![Incoming::Frame(binary(&payload))], None));
    }

    #[test]
    fn text_is_refused_exactly_when_the_standard_library_refuses_it(
        payload in vec(prop_oneof![any::<u8>(), Just(b'a'), Just(0xC3), Just(0xA9)], 0..8),
        cuts in vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let input = wire::join(&fragmented(wire::TEXT, &payload, &cuts));

        let decoded = wire::decode(&input, input.len(), SMALL);

        let expected = match str::from_utf8(&payload) {
            Ok(valid) => (vec![Incoming::Frame(text(valid))], None),
            Err(_) => (vec![], Some(Violation::InvalidUtf8)),
        };
        prop_assert_eq!(decoded, expected);
    }
}
