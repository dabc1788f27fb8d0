//! Protobuf written by hand, so that the generated code is not its own witness.

pub(crate) fn varint(field: u64, value: u64) -> Vec<u8> {
    let mut out = raw_varint(field << 3);
    out.extend(raw_varint(value));
    out
}

pub(crate) fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    let mut out = raw_varint((field << 3) | 2);
    out.extend(raw_varint(value.len() as u64));
    out.extend(value);
    out
}

pub(crate) fn text(field: u64, value: &str) -> Vec<u8> {
    bytes(field, value.as_bytes())
}

pub(crate) fn message(field: u64, members: &[Vec<u8>]) -> Vec<u8> {
    bytes(field, &members.concat())
}

fn raw_varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
    out
}
