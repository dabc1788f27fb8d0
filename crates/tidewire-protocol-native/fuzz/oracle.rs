//! What must hold for any bytes whatever.

use bytes::Bytes;
use tidewire_protocol::{Decoded, Descriptor, Frame};
use tidewire_protocol_native::client::Codec;
use tidewire_protocol_native::{JSON, MAX_COMMANDS, PROTOBUF};

/// Neither side panics on `frame`, and what the server understands, a client can say in either
/// encoding so that the server understands the same.
pub fn check(descriptor: Descriptor, codec: Codec, frame: Frame) {
    drop(codec.decode(&frame));
    let Ok(decoded) = (descriptor.start)().decode(frame) else { return };
    assert!((1..=MAX_COMMANDS).contains(&decoded.len()));
    for one in decoded {
        let Decoded::Request(request) = &one else { continue };
        for (descriptor, codec) in [(JSON, Codec::Json), (PROTOBUF, Codec::Protobuf)] {
            let again = (descriptor.start)().decode(codec.encode(request));
            assert_eq!(again.as_deref().map(without_padding), Ok(without_padding(&[one.clone()])));
        }
    }
}

/// White space around a payload is not part of its value, and JSON frames do not keep it.
fn without_padding(decoded: &[Decoded]) -> Vec<Decoded> {
    let mut decoded = decoded.to_vec();
    for one in &mut decoded {
        let Decoded::Request(request) = one else { continue };
        let tidewire_model::Command::Publish(publish) = &mut request.command else { continue };
        if publish.payload.is_json() {
            let text = publish.payload.bytes().trim_ascii();
            publish.payload = tidewire_model::Payload::checked_json(Bytes::copy_from_slice(text));
        }
    }
    decoded
}
