//! From the bytes a client sent to the command in them.

use std::hint::black_box;

use tidewire_protocol::{Descriptor, Frame};
use tidewire_protocol_native::client::Codec;
use tidewire_protocol_native::{JSON, PROTOBUF};
use tidewire_transport::websocket::deflate::Inflater;
use tidewire_transport::websocket::{Decoder, Incoming, Limits, OpCode, Role, encode_header};

use crate::samples;

pub(crate) fn publish_json(times: u32) {
    receive(JSON, Codec::Json, times);
}

pub(crate) fn publish_protobuf(times: u32) {
    receive(PROTOBUF, Codec::Protobuf, times);
}

fn receive(descriptor: Descriptor, codec: Codec, times: u32) {
    let wire = masked(&codec.encode(&samples::publish()));
    let mut decoder = Decoder::new(Role::Server, Limits::default());
    let mut inflater = Inflater::default();
    let mut protocol = (descriptor.start)();
    for _ in 0..times {
        let mut input = black_box(wire.as_slice());
        let incoming = decoder.decode(&mut input, &mut inflater).expect("what a client may send");
        if let Some(Incoming::Frame(frame)) = incoming {
            black_box(protocol.decode(frame)).expect("a frame of this protocol");
        }
    }
}

/// The frame as a client sends it.
pub(crate) fn masked(frame: &Frame) -> Vec<u8> {
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let opcode = match frame {
        Frame::Text(_) => OpCode::Text,
        Frame::Binary(_) => OpCode::Binary,
    };
    let header = encode_header(opcode, frame.bytes().len()).masked(KEY);
    let payload = frame.bytes().iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key);
    header.as_ref().iter().copied().chain(payload).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_frame_has_the_size_that_goals_are_stated_for() {
        let wire = masked(&Codec::Json.encode(&samples::publish()));

        assert_eq!(wire.len(), 164);
    }

    #[test]
    fn a_frame_is_decoded_to_the_command_it_was_made_of() {
        use tidewire_protocol::Decoded;

        for (descriptor, codec) in [(JSON, Codec::Json), (PROTOBUF, Codec::Protobuf)] {
            let wire = masked(&codec.encode(&samples::publish()));
            let incoming = Decoder::new(Role::Server, Limits::default())
                .decode(&mut wire.as_slice(), &mut Inflater::default());
            let Ok(Some(Incoming::Frame(frame))) = incoming else {
                unreachable!("{codec:?}: {incoming:?}")
            };

            let commands = (descriptor.start)().decode(frame).expect("understood");

            assert_eq!(commands, [Decoded::Request(samples::publish())], "{codec:?}");
        }
    }
}
