use bytes::{Bytes, BytesMut};
use tidewire_protocol::Frame;

use crate::scratch::Scratch;
use crate::websocket::Deflate;
use crate::websocket::header::MAX_HEADER_BYTES;
use crate::websocket::outgoing::{encode, encode_deflated};

/// Frames that many clients get alike, framed once for all of them.
#[derive(Debug)]
pub struct Prepared {
    frames: Box<[Frame]>,
    plain: Bytes,
    /// Made when the first connection asks that compresses.
    deflated: Option<Bytes>,
}

impl Prepared {
    /// The frames as a server sends them.
    pub fn new(frames: &[Frame]) -> Self {
        let mut wire = BytesMut::with_capacity(wire_bytes(frames));
        for frame in frames {
            encode(frame, &mut wire);
        }
        Self { frames: frames.into(), plain: wire.freeze(), deflated: None }
    }

    /// The bytes for a connection that agreed on `deflate`, whole frames in order.
    pub fn wire(&mut self, deflate: Option<Deflate>, scratch: &mut Scratch) -> &Bytes {
        let Some(deflate) = deflate else { return &self.plain };
        if self.frames.iter().any(|frame| !deflate.covers(frame.bytes().len())) {
            return &self.plain;
        }
        let (frames, plain) = (&self.frames, &self.plain);
        self.deflated.get_or_insert_with(|| compress(frames, scratch).unwrap_or(plain.clone()))
    }
}

/// The frames, each compressed if that is worth it; `None` if it is for none.
fn compress(frames: &[Frame], scratch: &mut Scratch) -> Option<Bytes> {
    let mut wire = BytesMut::with_capacity(wire_bytes(frames));
    let mut is_any = false;
    for frame in frames {
        match scratch.deflater.deflate(Deflate::WIDEST, frame.bytes()) {
            Some(packed) => {
                is_any = true;
                encode_deflated(frame, packed, &mut wire);
            }
            None => encode(frame, &mut wire),
        }
    }
    is_any.then(|| wire.freeze())
}

/// At most as many bytes as `frames` take on the wire.
fn wire_bytes(frames: &[Frame]) -> usize {
    frames.iter().map(|frame| MAX_HEADER_BYTES + frame.bytes().len()).sum()
}
