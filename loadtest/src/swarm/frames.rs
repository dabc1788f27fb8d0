//! The client's side of RFC 6455 framing: enough to be cheap, not enough to be trusted.

/// Opcodes of RFC 6455, section 5.2.
pub(crate) const OPCODE_TEXT: u8 = 1;
pub(crate) const OPCODE_BINARY: u8 = 2;
const OPCODE_CLOSE: u8 = 8;
const OPCODE_PING: u8 = 9;
const OPCODE_PONG: u8 = 10;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
/// What stands for a length of 16 or 64 bits that follows (RFC 6455, section 5.2).
const LENGTH_16: u8 = 0x7e;
const LENGTH_64: u8 = 0x7f;
/// Servers do the same work whatever the mask is, and a constant one costs us nothing.
const MASK: [u8; 4] = [0x5a, 0x17, 0xc3, 0x38];

/// A masked frame, appended to `bytes`.
pub(crate) fn encode(opcode: u8, content: &[u8], bytes: &mut Vec<u8>) {
    bytes.push(FIN | opcode);
    match (u8::try_from(content.len()), u16::try_from(content.len())) {
        (Ok(short), _) if short < LENGTH_16 => bytes.push(MASKED | short),
        (_, Ok(medium)) => {
            bytes.push(MASKED | LENGTH_16);
            bytes.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            bytes.push(MASKED | LENGTH_64);
            bytes.extend_from_slice(&(content.len() as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(content.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// The answer to a ping. Its content is left out, which our servers do not mind.
pub(crate) fn pong() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(OPCODE_PONG, b"", &mut bytes);
    bytes
}

/// What a stretch of a server's stream held.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Seen {
    /// Ends of text or binary messages.
    pub(crate) messages: u64,
    pub(crate) pings: u64,
    pub(crate) closes: u64,
}

/// Where in the server's frames a connection has got to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Walker {
    /// Bytes of content that are still to come.
    skip: u64,
    header: [u8; 10],
    header_len: u8,
}

impl Walker {
    /// Goes on through `bytes`, looking at headers only.
    pub(crate) fn walk(&mut self, mut bytes: &[u8]) -> Seen {
        let mut seen = Seen::default();
        loop {
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            bytes = &bytes[skipped..];
            self.skip -= skipped as u64;
            let Some((&next, rest)) = bytes.split_first() else { return seen };
            bytes = rest;
            self.header[usize::from(self.header_len)] = next;
            self.header_len += 1;
            if let Some(len) = self.content_len() {
                self.note(&mut seen);
                self.skip = len;
                self.header_len = 0;
            }
        }
    }

    /// The length of the content once the header is whole.
    fn content_len(&self) -> Option<u64> {
        let header = &self.header[..usize::from(self.header_len)];
        match header {
            [_, len] if *len < LENGTH_16 => Some(u64::from(*len)),
            [_, LENGTH_16, high, low] => Some(u64::from(u16::from_be_bytes([*high, *low]))),
            [_, LENGTH_64, long @ ..] => Some(u64::from_be_bytes(long.try_into().ok()?)),
            _ => None,
        }
    }

    fn note(&self, seen: &mut Seen) {
        let first = self.header[0];
        match first & 0x0f {
            OPCODE_PING => seen.pings += 1,
            OPCODE_CLOSE => seen.closes += 1,
            OPCODE_PONG => {}
            _ => seen.messages += u64::from(first & FIN != 0),
        }
    }
}

/// How often `mark` is in `bytes`, given the byte before them.
pub(crate) fn count_marks(before: u8, bytes: &[u8], mark: [u8; 2]) -> u64 {
    let straddling = before == mark[0] && bytes.first() == Some(&mark[1]);
    let rest = bytes.get(1..).unwrap_or_default();
    // In chunks whose sum fits a byte, which is what lets this be vectorised.
    let inside: u64 = bytes
        .chunks(255)
        .zip(rest.chunks(255))
        .map(|(these, next)| {
            let sum: u8 = these
                .iter()
                .zip(next)
                .map(|(one, two)| u8::from(*one == mark[0]) & u8::from(*two == mark[1]))
                .sum();
            u64::from(sum)
        })
        .sum();
    inside + u64::from(straddling)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_walked_wherever_the_stream_is_cut() {
        let mut stream = vec![0x81, 3, b'a', b'b', b'c', 0x89, 1, b'x'];
        stream.extend([0x01, 1, b'1', 0x80, 126, 1, 0]);
        stream.extend([b'z'; 256]);
        stream.extend([0x88, 2, 3, 232]);
        let expected = Seen { messages: 2, pings: 1, closes: 1 };

        for cut in 0..stream.len() {
            let mut walker = Walker::default();
            let (first, second) = (walker.walk(&stream[..cut]), walker.walk(&stream[cut..]));
            let seen = Seen {
                messages: first.messages + second.messages,
                pings: first.pings + second.pings,
                closes: first.closes + second.closes,
            };

            assert_eq!(seen, expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_frame_is_masked_and_says_how_long_it_is() {
        for (len, header) in [(5_usize, 6), (200, 8), (70_000, 14)] {
            let mut bytes = Vec::new();

            encode(OPCODE_TEXT, &vec![b'a'; len], &mut bytes);

            assert_eq!(bytes.len(), header + len);
            assert_eq!(bytes[0], 0x81);
            assert!(bytes[1] & 0x80 != 0);
            assert_eq!(bytes[header] ^ MASK[0], b'a');
        }
    }

    #[test]
    fn marks_are_counted_also_across_reads_and_chunks() {
        let mut bytes = vec![b'.'; 1_000];
        for at in [0, 254, 509, 998] {
            bytes[at..at + 2].copy_from_slice(b"|#");
        }

        assert_eq!(count_marks(b'.', &bytes, *b"|#"), 4);
        assert_eq!(count_marks(b'|', b"#", *b"|#"), 1);
        assert_eq!(count_marks(b'|', b"x#", *b"|#"), 0);
        assert_eq!(count_marks(b'|', b"", *b"|#"), 0);
    }
}
