//! permessage-deflate (RFC 7692) without context takeover.
//!
//! No message refers to one before it, so one [`Deflater`] and one [`Inflater`] serve every
//! connection of a thread, and a connection holds no memory for compression.

use std::fmt;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Violation;

/// That a connection may compress what it sends, as the two ends agreed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Deflate {
    window_bits: u8,
}

impl Deflate {
    /// Without a limit on how far back a message may refer within itself.
    pub const WIDEST: Self = Self { window_bits: MAX_WINDOW_BITS };

    pub(super) fn new(window_bits: u8) -> Self {
        Self { window_bits }
    }

    /// Whether a message of `length` bytes may be compressed.
    ///
    /// The compressor always looks back as far as the format allows. Where the peer granted a
    /// smaller window, that far is further than allowed in messages longer than the window, and
    /// those go as they are: every message may (RFC 7692 section 6).
    pub(crate) fn covers(self, length: usize) -> bool {
        self.window_bits == MAX_WINDOW_BITS || length <= 1 << self.window_bits
    }
}

/// The limits of RFC 7692 section 7.1.2, as powers of two.
pub(super) const MIN_WINDOW_BITS: u8 = 8;
pub(super) const MAX_WINDOW_BITS: u8 = 15;

/// Compresses messages, one after the other. Takes memory when it is first used.
pub struct Deflater {
    min_bytes: usize,
    state: Option<Box<Compress>>,
    output: Vec<u8>,
}

impl Deflater {
    /// One that leaves messages of fewer than `min_bytes` bytes as they are.
    pub fn new(min_bytes: usize) -> Self {
        Self { min_bytes, state: None, output: Vec::new() }
    }

    /// The payload of the compressed message; `None` if it is better sent as it is, being short or
    /// not becoming shorter.
    pub fn deflate(&mut self, deflate: Deflate, payload: &[u8]) -> Option<&[u8]> {
        if payload.len() < self.min_bytes.max(TAIL.len()) || !deflate.covers(payload.len()) {
            return None;
        }
        let room = payload.len() + payload.len() / WORST_GROWTH + WORST_SLACK;
        self.output.shrink_to(KEPT_BYTES.max(room));
        self.output.resize(room, 0);
        let fresh = || Box::new(Compress::new(Compression::new(LEVEL), false));
        let mut state = self.state.take().unwrap_or_else(fresh);
        state.reset();
        state.compress(payload, &mut self.output, FlushCompress::Sync).ok()?;

        // A flush is complete when it leaves room, and then it ends in the tail (section 7.2.1). A
        // state that had no room is dropped: its reset (zlib-rs 0.6.8) forgets the rest but not the
        // room that takes, and it panics when that is used up.
        let (taken, made) = (state.total_in(), state.total_out());
        let made = usize::try_from(made).ok().filter(|made| *made < room)?;
        if taken != payload.len() as u64 {
            return None;
        }
        self.state = Some(state);
        let packed = self.output[..made].strip_suffix(&TAIL)?;
        (packed.len() < payload.len()).then_some(packed)
    }
}

impl Default for Deflater {
    fn default() -> Self {
        Self::new(DEFAULT_MIN_BYTES)
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").field("min_bytes", &self.min_bytes).finish_non_exhaustive()
    }
}

/// Restores messages, one after the other. Takes memory when it is first used.
#[derive(Default)]
pub struct Inflater {
    state: Option<Box<Decompress>>,
    output: Vec<u8>,
}

impl Inflater {
    /// The message that `payload` is the compressed form of, at most `limit` bytes long.
    ///
    /// Never takes memory for much more than `limit`, whatever the payload says.
    ///
    /// # Errors
    ///
    /// [`Violation::MessageTooLarge`] for a result longer than `limit`, or one of more than 64 KiB
    /// that is over 200 times as long as the payload; [`Violation::BadCompression`] for a payload
    /// that is no whole sequence of deflate blocks.
    pub fn inflate(&mut self, payload: &[u8], limit: usize) -> Result<&[u8], Violation> {
        self.output.clear();
        self.output.shrink_to(KEPT_BYTES);
        if payload.is_empty() {
            return Ok(&[]);
        }
        let limit = limit.min(ORDINARY_BYTES.max(payload.len().saturating_mul(MAX_RATIO)));
        let mut state = self.state.take().unwrap_or_else(|| Box::new(Decompress::new(false)));
        state.reset(false);
        let inflated = self.finish(&mut state, payload, limit);
        self.state = Some(state);
        inflated?;
        Ok(&self.output)
    }

    /// A message may end with a final block, and otherwise lacks the tail (section 7.2.3.4). The
    /// final block after that tail is ours: it is only understood if the payload ended between two
    /// blocks.
    fn finish(
        &mut self,
        state: &mut Decompress,
        payload: &[u8],
        limit: usize,
    ) -> Result<(), Violation> {
        let is_over = self.feed(state, payload, limit)?
            || self.feed(state, &[TAIL.as_slice(), &FINAL_BLOCK].concat(), limit)?;
        if is_over { Ok(()) } else { Err(Violation::BadCompression) }
    }

    /// Inflates all of `input`; whether that ends in a final block.
    fn feed(
        &mut self,
        state: &mut Decompress,
        mut input: &[u8],
        limit: usize,
    ) -> Result<bool, Violation> {
        loop {
            self.make_room(limit);
            let (taken_before, made_before) = (state.total_in(), self.output.len());
            let status = state
                .decompress_vec(input, &mut self.output, FlushDecompress::Sync)
                .map_err(|_| Violation::BadCompression)?;
            let taken = state.total_in() - taken_before;
            input = usize::try_from(taken).map_or(&[][..], |taken| &input[taken..]);
            if self.output.len() > limit {
                return Err(Violation::MessageTooLarge);
            }
            let has_room = self.output.len() < self.output.capacity();
            match status {
                Status::StreamEnd if input.is_empty() => return Ok(true),
                Status::StreamEnd => state.reset(false),
                _ if input.is_empty() && has_room => return Ok(false),
                _ if taken == 0 && self.output.len() == made_before && has_room => {
                    return Err(Violation::BadCompression);
                }
                _ => {}
            }
        }
    }

    /// Doubles the memory when it is full, to no more than shows that the limit is exceeded.
    fn make_room(&mut self, limit: usize) {
        let made = self.output.len();
        if made == self.output.capacity() {
            self.output.reserve_exact(made.max(FIRST_BYTES).min(limit + 1 - made));
        }
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

/// The end of a flush, which every sender leaves out (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// An empty block that says it is the last (RFC 1951 section 3.2.4).
const FINAL_BLOCK: [u8; 5] = [0x01, 0x00, 0x00, 0xFF, 0xFF];

/// Shorter messages save less on the wire than compressing them costs.
pub const DEFAULT_MIN_BYTES: usize = 512;

/// What cannot be compressed grows: by an eighth at the quickest level, whose literals take up to nine
/// bits, and by the headers of its blocks.
const WORST_GROWTH: usize = 8;
const WORST_SLACK: usize = 256;

/// The quickest level: text of a few kilobytes shrinks little further at the others.
const LEVEL: u32 = 1;

/// Honest messages that shrink to less than a two-hundredth are longer than this only when made up.
const MAX_RATIO: usize = 200;

/// Results up to here are judged by their size alone.
const ORDINARY_BYTES: usize = 64 * 1024;

const FIRST_BYTES: usize = 4 * 1024;

/// Memory kept from one message to the next.
const KEPT_BYTES: usize = 128 * 1024;
