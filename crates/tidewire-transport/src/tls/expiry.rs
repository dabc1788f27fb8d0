//! When a certificate expires, which rustls does not tell: the one thing of it that is read here.

/// Seconds since the Unix epoch until which a certificate in DER is valid (RFC 5280 section
/// 4.1.2.5); `None` if it is not one. Nothing of it is verified.
pub(super) fn expires_at(certificate: &[u8]) -> Option<u64> {
    let mut certificate = Der(Der(certificate).enter(SEQUENCE)?);
    let mut signed = Der(certificate.enter(SEQUENCE)?);
    if signed.0.first() == Some(&VERSION) {
        signed.next()?;
    }
    for _ in ["serial number", "algorithm", "issuer"] {
        signed.next()?;
    }
    let mut validity = Der(signed.enter(SEQUENCE)?);
    let _not_before = validity.next()?;
    let (tag, time) = validity.next()?;
    seconds(tag, std::str::from_utf8(time).ok()?)
}

/// Elements of DER (X.690) that follow each other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next, which has this tag.
    fn enter(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// Tag and content of the next.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, length], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) =
            if length < LONG { (usize::from(length), rest) } else { long(length - LONG, rest)? };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }
}

/// A length of so many bytes, and what follows it.
fn long(bytes: u8, rest: &[u8]) -> Option<(usize, &[u8])> {
    let (bytes, rest) = rest.split_at_checked(usize::from(bytes))?;
    let length = bytes.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
    (bytes.len() <= MOST_LENGTH_BYTES).then_some((length, rest))
}

/// `YYMMDDHHMMSSZ`, of 1950 to 2049, or `YYYYMMDDHHMMSSZ`; before 1970 it is 0.
fn seconds(tag: u8, time: &str) -> Option<u64> {
    let digits = time.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year: u64 = digits[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let part = |at: usize| rest[at..at + 2].parse::<u64>().ok();
    let (month, day) = (part(0)?, part(2)?);
    let (hour, minute, second) = (part(4)?, part(6)?, part(8)?);
    let is_a_date = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_a_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let Some(days) = days_to(year, month, day).checked_sub(DAYS_TO_1970) else { return Some(0) };
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days from the first of March of the year 0, in which the calendar of today is thought to have
/// been in use already.
fn days_to(year: u64, month: u64, day: u64) -> u64 {
    // A year that begins in March ends with the day that it may or may not have.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.max(1) - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1
}

const DAYS_TO_1970: u64 = 719_468;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// From here on a length says how many bytes of length follow.
const LONG: u8 = 0x80;
const MOST_LENGTH_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    const CERTIFICATE: &[u8] = include_bytes!("../../tests/tls/certificate.pem");
    const EXPIRED: &[u8] = include_bytes!("../../tests/tls/expired-certificate.pem");

    #[test]
    fn both_ways_to_write_the_time_are_read() {
        assert_eq!(expires_at(&der(CERTIFICATE)), Some(4_733_510_400));
        assert_eq!(expires_at(&der(EXPIRED)), Some(1_609_459_200));
    }

    #[test]
    fn days_are_counted_over_leap_years_and_centuries() {
        let day = |time: &str| seconds(GENERALIZED_TIME, time).map(|seconds| seconds / 86_400);

        assert_eq!(day("19700101000000Z"), Some(0));
        assert_eq!(day("20000229000000Z"), Some(11_016));
        assert_eq!(day("20000301000000Z"), Some(11_017));
        assert_eq!(day("21000301000000Z"), Some(47_541));
        assert_eq!(seconds(GENERALIZED_TIME, "19491231235959Z"), Some(0));
        assert_eq!(seconds(UTC_TIME, "700101000001Z"), Some(1));
        assert_eq!(seconds(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for time in
            ["", "Z", "20260101000000", "20261301000000Z", "20260100000000Z", "+2260101000000Z"]
        {
            assert_eq!(seconds(GENERALIZED_TIME, time), None, "{time}");
        }
        assert_eq!(seconds(UTC_TIME, "20260101000000Z"), None);
        assert_eq!(seconds(SEQUENCE, "260101000000Z"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = expires_at(&bytes);
        }

        #[test]
        fn damaged_certificates_never_panic(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
            let mut bytes = der(CERTIFICATE).to_vec();
            let length = bytes.len();
            bytes[at.index(length)] = byte;
            let _ = expires_at(&bytes[..=cut.index(length)]);
        }
    }

    fn der(pem: &[u8]) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem).expect("PEM")
    }
}
