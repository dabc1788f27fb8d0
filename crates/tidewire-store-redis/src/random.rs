//! Random letters and digits.

use tidewire_model::Random;

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Eight random base-36 digits: enough to tell apart what is made in one millisecond, or one batch
/// from the others of the last seconds.
pub(crate) fn nonce(random: &Random) -> [u8; 8] {
    let mut number = random.draw();
    std::array::from_fn(|_| next_digit(&mut number))
}

/// `value` in four base-36 digits.
///
/// # Panics
///
/// If it does not fit, from 36⁴ = 1,679,616 on.
pub(crate) fn four_digits(value: usize) -> [u8; 4] {
    let mut rest = value as u64;
    let mut digits = [0; 4];
    for digit in digits.iter_mut().rev() {
        *digit = next_digit(&mut rest);
    }
    assert!(rest == 0, "a batch has fewer than 36⁴ drafts");
    digits
}

fn next_digit(number: &mut u64) -> u8 {
    let digit = DIGITS[usize::try_from(*number % 36).expect("below 36")];
    *number /= 36;
    digit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_written_in_base_36() {
        assert_eq!(&four_digits(0), b"0000");
        assert_eq!(&four_digits(36 * 36 + 35), b"010z");
    }

    #[test]
    fn nonces_are_letters_and_digits_and_differ() {
        let random = Random::new(|| getrandom::u64().expect("random numbers"));
        let nonce = nonce(&random);

        assert!(nonce.iter().all(|digit| DIGITS.contains(digit)));
        assert_ne!(nonce, super::nonce(&random));
    }
}
