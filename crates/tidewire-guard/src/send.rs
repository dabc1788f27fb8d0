//! From publications to the bytes all their subscribers get.

use std::hint::black_box;
use std::sync::Arc;

use tidewire_model::{Deltas, Envelope, Event, Publication};
use tidewire_protocol::Descriptor;
use tidewire_protocol_native::{JSON, PROTOBUF};
use tidewire_transport::{Prepared, Scratch};

use crate::samples;

const RUN: u64 = 16;
/// Bytes of a frame, about: what the edge asks for.
const FRAME_BYTES: usize = 64 * 1_024;

pub(crate) fn one_json(times: u32) {
    prepare(JSON, 1, times);
}

pub(crate) fn one_protobuf(times: u32) {
    prepare(PROTOBUF, 1, times);
}

pub(crate) fn run_json(times: u32) {
    prepare(JSON, RUN, times);
}

fn prepare(descriptor: Descriptor, publications: u64, times: u32) {
    let mut protocol = (descriptor.start)();
    let mut scratch = Scratch::default();
    let mut frames = Vec::new();
    let publications: Vec<Publication> = (1..=publications).map(samples::publication).collect();
    let channel = samples::channel().channel;
    for _ in 0..times {
        // New each time, for an envelope keeps what it was once encoded to.
        let fresh = |publication: &Publication| Arc::new(Envelope::new(publication.clone()));
        let publications = publications.iter().map(fresh).collect();
        let event =
            Event::Publications { channel: channel.clone(), publications, deltas: Deltas::Unasked };
        protocol.encode(black_box(&[event]), FRAME_BYTES, &mut frames);
        black_box(Prepared::new(&frames).wire(None, &mut scratch));
        frames.clear();
    }
}
