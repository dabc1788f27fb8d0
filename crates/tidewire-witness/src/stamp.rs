use bytes::Bytes;
use tidewire_model::Payload;

use crate::random::mix;

/// What a payload says about itself. Times are nanoseconds since the run began.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// Tells this run's publications from any other's.
    pub run: u32,
    pub publisher: u16,
    /// Counts from zero in each channel of each publisher.
    pub sequence: u64,
    /// When the schedule wanted it published; `sent`, if there is no schedule.
    pub due: u64,
    /// When it was handed to the client.
    pub sent: u64,
}

impl Stamp {
    /// The least a payload takes: sixty hexadecimal digits, two quotes, and a filler to be even.
    pub const BYTES: u32 = 64;

    /// One JSON string: the stamp in digits of fixed width, then as much of `filling` as there is
    /// room for in `bytes`.
    pub fn write(&self, bytes: usize, filling: &str) -> Payload {
        let Self { run, publisher, sequence, due, sent } = self;
        let mut text = format!("\"{run:08x}{publisher:04x}{sequence:016x}{due:016x}{sent:016x}");
        let room = bytes.saturating_sub(text.len() + 1).min(filling.len());
        text.push_str(&filling[..room]);
        text.push('"');
        Payload::json(Bytes::from(text)).expect("digits and letters in quotes are JSON")
    }

    /// `None` for what [`write`](Self::write) did not write.
    pub fn read(payload: &Payload) -> Option<Self> {
        let bytes = payload.bytes();
        if bytes.first() != Some(&b'"') {
            return None;
        }
        let digits = std::str::from_utf8(bytes.get(1..61)?).ok()?;
        let number = |from: usize, to: usize| u64::from_str_radix(digits.get(from..to)?, 16).ok();
        Some(Self {
            run: u32::try_from(number(0, 8)?).ok()?,
            publisher: u16::try_from(number(8, 12)?).ok()?,
            sequence: number(12, 28)?,
            due: number(28, 44)?,
            sent: number(44, 60)?,
        })
    }
}

/// What stands for "this publication at this offset" in a sum: sums of different sets differ, but
/// for one in 2⁶⁴.
pub(crate) fn digest(offset: u64, publisher: u16, sequence: u64) -> u64 {
    mix(mix(mix(offset) ^ u64::from(publisher)) ^ sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        run: 0xdead_beef,
        publisher: 255,
        sequence: u64::MAX,
        due: 1,
        sent: 10_000_000_000,
    };

    #[test]
    fn a_stamp_survives_its_payload() {
        let payload = STAMP.write(100, &"x".repeat(100));

        assert_eq!(payload.len(), 100);
        assert_eq!(Stamp::read(&payload), Some(STAMP));
    }

    #[test]
    fn the_smallest_payload_holds_a_stamp() {
        let payload = STAMP.write(Stamp::BYTES as usize, "xxxx");

        assert_eq!(payload.len(), Stamp::BYTES as usize);
        assert_eq!(Stamp::read(&payload), Some(STAMP));
    }

    #[test]
    fn what_somebody_else_published_has_no_stamp() {
        for text in ["", "\"\"", "\"hello\"", &format!("\"{}\"", "g".repeat(60))] {
            assert_eq!(Stamp::read(&Payload::binary(text.to_owned().into())), None, "{text}");
        }
    }

    #[test]
    fn a_digest_tells_offset_publisher_and_sequence_apart() {
        let one = digest(1, 2, 3);

        assert_ne!(one, digest(2, 1, 3));
        assert_ne!(one, digest(1, 3, 2));
        assert_ne!(one, digest(3, 2, 1));
    }
}
