//! What it takes to compress a frame, once for all its subscribers.

use std::hint::black_box;

use http::Request;
use http::header::{CONNECTION, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, UPGRADE};
use tidewire_protocol::Frame;
use tidewire_transport::{Compression, Deflate, Prepared, Scratch, upgrade};

use crate::samples;

const BYTES: usize = 1_024;

pub(crate) fn deflate(times: u32) {
    let deflate = Some(agreed());
    let frames = [Frame::Text(samples::payload(BYTES).bytes().clone())];
    let mut scratch = Scratch::default();
    for _ in 0..times {
        let mut prepared = Prepared::new(black_box(&frames));
        let wire = prepared.wire(deflate, &mut scratch);
        assert!(black_box(wire).len() < BYTES, "prose becomes shorter");
    }
}

/// What a server agrees on with a client that offers everything.
fn agreed() -> Deflate {
    let mut request = Request::builder()
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, "websocket")
        .header("sec-websocket-version", "13")
        .header(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
        .header(SEC_WEBSOCKET_EXTENSIONS, "permessage-deflate")
        .body(())
        .expect("a request");
    let upgrade = upgrade(&mut request, &["any"], Compression::On).expect("an upgrade");
    upgrade.deflate.expect("the offer is accepted")
}
