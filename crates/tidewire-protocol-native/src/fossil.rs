//! Fossil's delta encoding: bytes written as what to copy out of a base and what to put between.
//!
//! The format is that of <https://fossil-scm.org/home/doc/trunk/www/delta_format.wiki>, and what
//! other decoders of it read. How copies are found is our own: four candidates per position instead
//! of hundreds, so that no payload makes it slow, and no copy cuts a character of JSON text in two,
//! so that its deltas are text as well.

use std::iter;

use bytes::Bytes;
use tidewire_model::Payload;

/// A payload smaller than this is sent in full: a delta has ten bytes of its own to begin with.
const LEAST_BYTES: usize = 256;
/// A delta that is larger than so many hundredths of its payload is not worth applying.
const MOST_PERCENT: usize = 70;
/// What a delta may make, at most: no frame that holds a payload in full is larger.
const MOST_WHOLE_BYTES: usize = 16 << 20;

/// The digits of numbers, from 0 to 63.
const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

/// `payload` as what changed since `base`; `None` if that is not worth it: the payload is small, or
/// of another kind, or most of it has changed.
pub fn delta(base: &Payload, payload: &Payload) -> Option<Bytes> {
    let whole = payload.bytes();
    if whole.len() < LEAST_BYTES || base.is_json() != payload.is_json() {
        return None;
    }
    let delta = if payload.is_json() {
        encode(base.bytes(), whole, |at| is_boundary(whole, at))
    } else {
        encode(base.bytes(), whole, |_| true)
    };
    (delta.len() * 100 <= whole.len() * MOST_PERCENT).then(|| delta.into())
}

/// Whether UTF-8 text may be cut before this byte.
fn is_boundary(text: &[u8], at: usize) -> bool {
    text.get(at).is_none_or(|byte| byte & 0b1100_0000 != 0b1000_0000)
}

/// Writes `target` as a delta of `base`. Literal text begins and ends only where it may be cut.
fn encode(base: &[u8], target: &[u8], may_cut: impl Fn(usize) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    push_number(&mut out, target.len());
    out.push(b'\n');
    let source = Source::of(base, target.len());
    // What is before `literal` is written; `next` is where in the base that ended.
    let (mut at, mut literal, mut next) = (0, 0, 0);
    while let Some(window) = window(target, at) {
        let copy = source
            .candidates(window, at, (next, at - literal))
            .map(|from| Copy { from, to: at, len: WINDOW }.grown(base, target, literal))
            .filter_map(|copy| copy.trimmed(&may_cut))
            .filter(Copy::is_worth_it)
            .max_by_key(|copy| copy.len);
        let Some(copy) = copy else {
            at += 1 + (at - literal) / HASTE;
            continue;
        };
        push_literal(&mut out, &target[literal..copy.to]);
        copy.push(&mut out);
        at = copy.to + copy.len;
        (literal, next) = (at, copy.from + copy.len);
    }
    push_literal(&mut out, &target[literal..]);
    push_number(&mut out, checksum(target) as usize);
    out.push(b';');
    out
}

/// Bytes that are compared at once to find what can be copied.
const WINDOW: usize = 8;
/// Of so many positions of the base one is found by its window: any run of bytes that is longer by
/// this than a window has one.
const STRIDE: usize = 4;
/// The longer nothing is found, the more is skipped between two looks: one byte more for so many.
/// What is found then grows back over what was skipped.
const HASTE: usize = 64;
/// How much longer or shorter an edit may make the text for what follows it to be looked for there
/// first. Where many things are alike, the nearest is mostly the one.
const NEAR: usize = 32;

fn window(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + WINDOW)?.first_chunk().map(|window| u64::from_le_bytes(*window))
}

/// A base, and where in it a window of the target may stand.
struct Source<'a> {
    base: &'a [u8],
    target_len: usize,
    /// One more than a position, by the hash of its window; 0 is none. Of windows that fall together
    /// the last is remembered.
    slots: Vec<u32>,
    shift: u32,
}

impl<'a> Source<'a> {
    fn of(base: &'a [u8], target_len: usize) -> Self {
        let bits = (base.len() / STRIDE).next_power_of_two().trailing_zeros().max(1);
        let (slots, shift) = (vec![0; 1 << bits], u64::BITS - bits);
        let mut source = Self { base, target_len, slots, shift };
        for at in (0..base.len()).step_by(STRIDE) {
            let (Some(window), Ok(place)) = (window(base, at), u32::try_from(at + 1)) else {
                break;
            };
            let slot = source.slot(window);
            source.slots[slot] = place;
        }
        source
    }

    /// Where `window` stands that is at `at` in the target, `skipped` bytes behind what was copied
    /// from before `next`: four places at most.
    fn candidates(
        &self,
        window: u64,
        at: usize,
        (next, skipped): (usize, usize),
    ) -> impl Iterator<Item = usize> {
        let stands_at = move |from: &usize| self::window(self.base, *from) == Some(window);
        let in_place = next + skipped;
        let from_the_end = (at + self.base.len()).checked_sub(self.target_len);
        let reach = if skipped < NEAR { NEAR } else { 0 };
        let near = (1..=reach)
            .flat_map(move |shift| [in_place.checked_sub(shift), Some(in_place + shift)])
            .flatten()
            .find(stands_at);
        let hashed = self.slots[self.slot(window)].checked_sub(1).map(|from| from as usize);
        [Some(in_place), from_the_end, near, hashed].into_iter().flatten().filter(stands_at)
    }

    /// By Fibonacci hashing: the upper bits of a product with 2^64 over the golden ratio.
    fn slot(&self, window: u64) -> usize {
        let hash = window.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift;
        usize::try_from(hash).unwrap_or(0)
    }
}

/// `len` bytes of the base from `from` on that are those of the target from `to` on.
struct Copy {
    from: usize,
    to: usize,
    len: usize,
}

impl Copy {
    /// The longest one that has this in it and begins in the target no sooner than `literal`.
    fn grown(self, base: &[u8], target: &[u8], literal: usize) -> Self {
        let ahead = iter::zip(&base[self.from..], &target[self.to..]);
        let len = ahead.take_while(|(a, b)| a == b).count();
        let behind =
            iter::zip(base[..self.from].iter().rev(), target[literal..self.to].iter().rev());
        let back = behind.take_while(|(a, b)| a == b).count();
        Self { from: self.from - back, to: self.to - back, len: len + back }
    }

    /// The longest one inside this whose ends may be cut.
    fn trimmed(self, may_cut: &impl Fn(usize) -> bool) -> Option<Self> {
        let end = self.to + self.len;
        let to = (self.to..end).find(|at| may_cut(*at))?;
        let end = (to..=end).rev().find(|at| may_cut(*at))?;
        Some(Self { from: self.from + (to - self.to), to, len: end - to })
    }

    /// Whether it takes fewer bytes than the text itself, which it may cut in two.
    fn is_worth_it(&self) -> bool {
        const PUNCTUATION: usize = 3;
        self.len > 2 * digits(self.len) + digits(self.from) + PUNCTUATION
    }

    fn push(&self, out: &mut Vec<u8>) {
        push_number(out, self.len);
        out.push(b'@');
        push_number(out, self.from);
        out.push(b',');
    }
}

fn push_literal(out: &mut Vec<u8>, text: &[u8]) {
    if text.is_empty() {
        return;
    }
    push_number(out, text.len());
    out.push(b':');
    out.extend_from_slice(text);
}

fn push_number(out: &mut Vec<u8>, number: usize) {
    let places = (0..digits(number)).rev();
    out.extend(places.map(|place| DIGITS[(number >> (6 * place)) & 63]));
}

fn digits(number: usize) -> usize {
    (number.max(1).ilog2() / 6 + 1) as usize
}

/// The sum, modulo 2^32, of the bytes as big-endian numbers of four, the last filled up with zeros.
fn checksum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(4).map(|chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        u32::from_be_bytes(word)
    });
    words.fold(0, u32::wrapping_add)
}

/// A delta is not one, or not of this base.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the delta is malformed, or does not belong to what it is to be applied to")]
pub struct BadDelta;

/// The payload that `delta` says has become of `base`: of the same kind, and at most 16 MiB.
///
/// Takes no more memory than that, whatever the delta claims.
pub fn apply(base: &Payload, delta: &[u8]) -> Result<Payload, BadDelta> {
    let whole = decode(base.bytes(), delta)?.into();
    if base.is_json() {
        Payload::json(whole).map_err(|_| BadDelta)
    } else {
        Ok(Payload::binary(whole))
    }
}

fn decode(base: &[u8], delta: &[u8]) -> Result<Vec<u8>, BadDelta> {
    let mut reader = Reader(delta);
    let (len, b'\n') = reader.term()? else { return Err(BadDelta) };
    if len > MOST_WHOLE_BYTES {
        return Err(BadDelta);
    }
    let mut whole = Vec::with_capacity(len.min(base.len() + delta.len()));
    loop {
        let bytes = match reader.term()? {
            (len, b':') => reader.take(len)?,
            (len, b'@') => {
                let (from, b',') = reader.term()? else { return Err(BadDelta) };
                base.get(from..).and_then(|rest| rest.get(..len)).ok_or(BadDelta)?
            }
            (sum, b';') => {
                let is_whole = whole.len() == len && checksum(&whole) as usize == sum;
                let is_right = is_whole && reader.0.is_empty();
                return if is_right { Ok(whole) } else { Err(BadDelta) };
            }
            _ => return Err(BadDelta),
        };
        if bytes.len() > len - whole.len() {
            return Err(BadDelta);
        }
        whole.extend_from_slice(bytes);
    }
}

/// What has not been read of a delta.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A number of 32 bits at most, and the character behind it.
    fn term(&mut self) -> Result<(usize, u8), BadDelta> {
        let mut number = 0_u32;
        for (read, byte) in self.0.iter().enumerate() {
            let Some(digit) = DIGITS.iter().position(|digit| digit == byte) else {
                self.0 = &self.0[read + 1..];
                let number = usize::try_from(number).map_err(|_| BadDelta)?;
                return if read > 0 { Ok((number, *byte)) } else { Err(BadDelta) };
            };
            let shifted = number.checked_mul(64).ok_or(BadDelta)?;
            number = shifted + u32::try_from(digit).map_err(|_| BadDelta)?;
        }
        Err(BadDelta)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], BadDelta> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(BadDelta)?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests;
