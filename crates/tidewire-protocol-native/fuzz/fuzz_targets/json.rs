//! Arbitrary text against both sides of `tidewire.v1.json`.

#![no_main]

use tidewire_protocol::Frame;
use tidewire_protocol_native::JSON;
use tidewire_protocol_native::client::Codec;
use tidewire_protocol_native_fuzz::check;

libfuzzer_sys::fuzz_target!(|input: Vec<u8>| check(JSON, Codec::Json, Frame::Text(input.into())));
