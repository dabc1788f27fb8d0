//! Arbitrary bytes against both sides of `tidewire.v1.protobuf`.

#![no_main]

use tidewire_protocol::Frame;
use tidewire_protocol_native::PROTOBUF;
use tidewire_protocol_native::client::Codec;
use tidewire_protocol_native_fuzz::check;

libfuzzer_sys::fuzz_target!(|input: Vec<u8>| {
    check(PROTOBUF, Codec::Protobuf, Frame::Binary(input.into()));
});
