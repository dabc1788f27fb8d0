use super::{Role, Violation};

/// The kind of a frame on the wire (RFC 6455 section 5.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OpCode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl OpCode {
    fn parse(bits: u8) -> Result<Self, Violation> {
        match bits {
            0x0 => Ok(Self::Continuation),
            0x1 => Ok(Self::Text),
            0x2 => Ok(Self::Binary),
            0x8 => Ok(Self::Close),
            0x9 => Ok(Self::Ping),
            0xA => Ok(Self::Pong),
            _ => Err(Violation::ReservedOpCode),
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// What the header of a frame on the wire says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) is_final: bool,
    /// Begins a compressed message (RFC 7692 section 6).
    pub(super) is_deflated: bool,
    pub(super) opcode: OpCode,
    pub(super) length: u64,
    /// All zero when the frame is not masked, which changes nothing.
    pub(super) mask: [u8; 4],
}

/// Collects a header from pieces of input.
#[derive(Debug, Default)]
pub(super) struct HeaderReader {
    bytes: [u8; MAX_HEADER_BYTES],
    filled: usize,
}

impl Header {
    /// The header at the front of `input`, which it is taken from; `None`, and nothing taken, unless
    /// all of it is there.
    pub(super) fn split_from(input: &mut &[u8], rules: Rules) -> Result<Option<Self>, Violation> {
        let [first, second, rest @ ..] = *input else { return Ok(None) };
        let opcode = rules.check(*first, *second)?;
        let (length_bytes, mask_bytes) = extra_bytes(*second);
        let Some((extra, rest)) = rest.split_at_checked(length_bytes + mask_bytes) else {
            return Ok(None);
        };
        let (length, mask) = extra.split_at(length_bytes);
        *input = rest;
        Ok(Some(Self {
            is_final: first & FINAL != 0,
            is_deflated: first & DEFLATED != 0,
            opcode,
            length: parse_length(second & LENGTH, length)?,
            mask: mask.try_into().unwrap_or_default(),
        }))
    }
}

impl HeaderReader {
    /// Takes from `input` what the header still lacks; `None` when that was not enough.
    ///
    /// The first two bytes are judged as soon as they are there.
    pub(super) fn read(
        &mut self,
        input: &mut &[u8],
        rules: Rules,
    ) -> Result<Option<Header>, Violation> {
        if !self.fill(input, 2) {
            return Ok(None);
        }
        rules.check(self.bytes[0], self.bytes[1])?;
        let (length_bytes, mask_bytes) = extra_bytes(self.bytes[1]);
        if !self.fill(input, 2 + length_bytes + mask_bytes) {
            return Ok(None);
        }
        self.filled = 0;
        Header::split_from(&mut &self.bytes[..], rules)
    }

    /// Whether not a byte of a header has come.
    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    fn fill(&mut self, input: &mut &[u8], wanted: usize) -> bool {
        let taken = wanted.saturating_sub(self.filled).min(input.len());
        let (head, rest) = input.split_at(taken);
        self.bytes[self.filled..self.filled + taken].copy_from_slice(head);
        self.filled += taken;
        *input = rest;
        self.filled >= wanted
    }
}

/// What a connection's frames have to keep to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) from: Role,
    /// Whether compressed messages were agreed on.
    pub(super) may_deflate: bool,
}

impl Rules {
    /// Everything the first two bytes can get wrong.
    fn check(self, first: u8, second: u8) -> Result<OpCode, Violation> {
        let opcode = OpCode::parse(first & OPCODE);
        let reserved = first & RESERVED;
        let may_begin_deflated = matches!(opcode, Ok(OpCode::Text | OpCode::Binary));
        if reserved != 0 && !(self.may_deflate && may_begin_deflated && reserved == DEFLATED) {
            return Err(Violation::ReservedBits);
        }
        let opcode = opcode?;
        match (self.from, second & MASKED != 0) {
            (Role::Client, false) => return Err(Violation::Unmasked),
            (Role::Server, true) => return Err(Violation::Masked),
            _ => {}
        }
        if opcode.is_control() && first & FINAL == 0 {
            return Err(Violation::FragmentedControl);
        }
        if opcode.is_control() && second & LENGTH > MAX_SHORT_LENGTH {
            return Err(Violation::ControlTooLong);
        }
        Ok(opcode)
    }
}

/// How many bytes of length and of mask follow the first two.
fn extra_bytes(second: u8) -> (usize, usize) {
    let length = match second & LENGTH {
        LENGTH_IN_TWO => 2,
        LENGTH_IN_EIGHT => 8,
        _ => 0,
    };
    (length, if second & MASKED != 0 { 4 } else { 0 })
}

/// The payload's length, which has to be written in the fewest bytes that hold it.
fn parse_length(short: u8, long: &[u8]) -> Result<u64, Violation> {
    let length = long.iter().fold(0, |length, byte| (length << 8) | u64::from(*byte));
    match short {
        LENGTH_IN_TWO if length <= u64::from(MAX_SHORT_LENGTH) => Err(Violation::LengthEncoding),
        LENGTH_IN_EIGHT if !(MIN_LONG_LENGTH..=MAX_LENGTH).contains(&length) => {
            Err(Violation::LengthEncoding)
        }
        LENGTH_IN_TWO | LENGTH_IN_EIGHT => Ok(length),
        _ => Ok(u64::from(short)),
    }
}

/// The header of a whole message of `length` bytes, unmasked as servers send it.
pub fn encode_header(opcode: OpCode, length: usize) -> EncodedHeader {
    let mut header = EncodedHeader { bytes: [0; MAX_HEADER_BYTES], length: 0 };
    header.push(&[FINAL | opcode.bits()]);
    match length {
        0..=125 => header.push(&length.to_be_bytes()[size_of::<usize>() - 1..]),
        126..=0xFFFF => {
            header.push(&[LENGTH_IN_TWO]);
            header.push(&length.to_be_bytes()[size_of::<usize>() - 2..]);
        }
        _ => {
            header.push(&[LENGTH_IN_EIGHT]);
            header.push(&(length as u64).to_be_bytes());
        }
    }
    header
}

/// The bytes of a header, 2 to 14 of them.
#[derive(Clone, Copy, Debug)]
pub struct EncodedHeader {
    bytes: [u8; MAX_HEADER_BYTES],
    length: usize,
}

impl EncodedHeader {
    /// The same header, announcing a payload masked with `key` as clients send it.
    #[must_use]
    pub fn masked(mut self, key: [u8; 4]) -> Self {
        self.bytes[1] |= MASKED;
        self.push(&key);
        self
    }

    /// The same header, of a compressed message (RFC 7692 section 6).
    #[must_use]
    pub fn deflated(mut self) -> Self {
        self.bytes[0] |= DEFLATED;
        self
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }
}

impl AsRef<[u8]> for EncodedHeader {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Two bytes, eight of length, four of mask.
pub(crate) const MAX_HEADER_BYTES: usize = 14;
/// RFC 6455 section 5.2: the most significant bit of a 64-bit length is zero.
const MAX_LENGTH: u64 = u64::MAX >> 1;
const MIN_LONG_LENGTH: u64 = 1 << 16;
const MAX_SHORT_LENGTH: u8 = 125;
const LENGTH_IN_TWO: u8 = 126;
const LENGTH_IN_EIGHT: u8 = 127;
const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
/// The first reserved bit, RSV1.
const DEFLATED: u8 = 0x40;
const OPCODE: u8 = 0x0F;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7F;
