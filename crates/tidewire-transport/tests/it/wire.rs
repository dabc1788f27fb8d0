//! Frames on the wire, right and wrong, written without the code under test.

use bytes::Bytes;
use tidewire_protocol::Frame;
use tidewire_transport::websocket::deflate::Inflater;
use tidewire_transport::websocket::{Decoder, Incoming};
use tidewire_transport::{Limits, Role, Violation};

pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

/// One frame on the wire, to be bent before it is written.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub(crate) first: u8,
    pub(crate) mask: Option<[u8; 4]>,
    pub(crate) payload: Vec<u8>,
}

impl Wire {
    /// As a client sends it.
    pub(crate) fn masked(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        let mask = Some([0xA1, 0x02, 0xF3, 0x44]);
        Self { first: 0x80 | opcode, mask, payload: payload.as_ref().to_vec() }
    }

    /// As a server sends it.
    pub(crate) fn plain(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        Self { mask: None, ..Self::masked(opcode, payload) }
    }

    pub(crate) fn unfinished(self) -> Self {
        Self { first: self.first & 0x7F, ..self }
    }

    pub(crate) fn with_bits(self, bits: u8) -> Self {
        Self { first: self.first | bits, ..self }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = self.payload.len();
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![self.first];
        if length <= 125 {
            bytes.push(masked | u8::try_from(length).unwrap());
        } else if let Ok(length) = u16::try_from(length) {
            bytes.push(masked | 0x7E);
            bytes.extend(length.to_be_bytes());
        } else {
            bytes.push(masked | 0x7F);
            bytes.extend((length as u64).to_be_bytes());
        }
        let mask = self.mask.unwrap_or_default();
        bytes.extend(self.mask.iter().flatten());
        bytes.extend(self.payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }
}

pub(crate) fn join(frames: &[Wire]) -> Vec<u8> {
    frames.iter().flat_map(Wire::bytes).collect()
}

pub(crate) fn text(text: &str) -> Frame {
    Frame::Text(Bytes::copy_from_slice(text.as_bytes()))
}

pub(crate) fn binary(bytes: &[u8]) -> Frame {
    Frame::Binary(Bytes::copy_from_slice(bytes))
}

/// What a server makes of `input` when it arrives `chunk` bytes at a time.
pub(crate) fn decode(
    input: &[u8],
    chunk: usize,
    limits: Limits,
) -> (Vec<Incoming>, Option<Violation>) {
    let mut decoder = Decoder::new(Role::Server, limits);
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
    }
    (all, None)
}
