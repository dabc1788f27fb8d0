use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of one unbroken life of a channel's numbering: 16 ASCII letters and digits.
///
/// Eight base-36 digits of milliseconds, four random, four random per life of the channel. The
/// first twelve are the [`Incarnation`] of the log that wrote it. Two epochs are the same life only
/// if they are equal as a whole; which of two is the newer follows from their incarnations.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Epoch([u8; 16]);

impl Epoch {
    /// Checks that `text` is 16 characters from `0-9`, `a-z`.
    pub fn parse(text: &str) -> Result<Self, InvalidEpoch> {
        parse_digits(text).map(Self)
    }

    pub fn as_str(&self) -> &str {
        digits_as_str(&self.0)
    }

    /// Which life of the log gave this epoch out.
    pub fn incarnation(&self) -> Incarnation {
        let mut digits = [0; 12];
        digits.copy_from_slice(&self.0[..12]);
        Incarnation(digits)
    }
}

/// Which life of the log's primary wrote something: 12 ASCII letters and digits, ordered in time.
///
/// An edge that has seen a newer incarnation must not believe anything an older one says.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Incarnation([u8; 12]);

impl Incarnation {
    /// Below every incarnation a log can have.
    pub const ZERO: Self = Self([b'0'; 12]);

    /// Checks that `text` is 12 characters from `0-9`, `a-z`.
    pub fn parse(text: &str) -> Result<Self, InvalidEpoch> {
        parse_digits(text).map(Self)
    }

    /// Makes the incarnation of a log that started at `unix_ms` (modulo 36⁸ ms, about 89 years),
    /// told apart from others of that millisecond by `nonce` (modulo 36⁴).
    pub fn new(unix_ms: u64, nonce: u32) -> Self {
        let mut digits = [0; 12];
        write_base36(&mut digits[..8], unix_ms);
        write_base36(&mut digits[8..], u64::from(nonce));
        Self(digits)
    }

    pub fn as_str(&self) -> &str {
        digits_as_str(&self.0)
    }

    /// The epoch of a channel whose life begins in this incarnation.
    pub fn epoch(&self, nonce: u32) -> Epoch {
        let mut digits = [0; 16];
        digits[..12].copy_from_slice(&self.0);
        write_base36(&mut digits[12..], u64::from(nonce));
        Epoch(digits)
    }
}

fn parse_digits<const N: usize>(text: &str) -> Result<[u8; N], InvalidEpoch> {
    let digits: [u8; N] = text.as_bytes().try_into().map_err(|_| InvalidEpoch)?;
    let all_base36 = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'z'));
    if all_base36 { Ok(digits) } else { Err(InvalidEpoch) }
}

fn digits_as_str(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).expect("only ASCII digits are ever stored")
}

fn write_base36(digits: &mut [u8], mut value: u64) {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[usize::try_from(value % 36).expect("below 36")];
        value /= 36;
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for Epoch {
    type Error = InvalidEpoch;

    fn try_from(text: String) -> Result<Self, InvalidEpoch> {
        Self::parse(&text)
    }
}

impl From<Epoch> for String {
    fn from(epoch: Epoch) -> Self {
        epoch.as_str().into()
    }
}

/// A text is not an epoch or an incarnation.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an epoch is 16 characters and an incarnation 12, from 0-9 and a-z")]
pub struct InvalidEpoch;

/// Where a publication stands in its channel, or how far a subscriber has read.
///
/// Offsets start at 1 and have no holes inside one epoch; offset 0 is "before the first". They stay
/// below 2⁵³, so that every client can hold them in a double.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Deserialize, Serialize)]
pub struct Position {
    pub epoch: Epoch,
    pub offset: u64,
}

impl Position {
    /// The largest offset a client may name.
    pub const MAX_OFFSET: u64 = (1 << 53) - 1;

    /// Where nothing stands: of a publication that no log has numbered.
    pub const NONE: Self = Self { epoch: Epoch([b'0'; 16]), offset: 0 };

    pub fn new(epoch: Epoch, offset: u64) -> Self {
        Self { epoch, offset }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_start_is_a_greater_incarnation_whatever_its_nonce() {
        let earlier = Incarnation::new(1_790_000_000_000, u32::MAX);
        let later = Incarnation::new(1_790_000_000_001, 0);

        assert!(earlier < later);
        assert!(Incarnation::ZERO < earlier);
    }

    #[test]
    fn an_epoch_remembers_its_incarnation() {
        let incarnation = Incarnation::new(1_790_000_000_000, 7);
        let epoch = incarnation.epoch(1_234);

        assert_eq!(epoch.incarnation(), incarnation);
        assert_eq!(Epoch::parse(epoch.as_str()), Ok(epoch));
        assert_ne!(epoch, incarnation.epoch(1_235));
    }

    #[test]
    fn anything_but_base_36_of_the_right_length_is_refused() {
        for text in ["", "0", "0000000000000000A", "000000000000000A", "000000000000000é"] {
            assert_eq!(Epoch::parse(text), Err(InvalidEpoch), "{text:?}");
        }
    }
}
