/// Masks or unmasks `bytes`, which start `phase` bytes into the masked payload (RFC 6455 section
/// 5.3).
pub(super) fn apply_mask(bytes: &mut [u8], key: [u8; 4], phase: usize) {
    let mut key = key;
    key.rotate_left(phase % 4);
    let [a, b, c, d] = key;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);

    let mut words = bytes.chunks_exact_mut(8);
    for chunk in &mut words {
        let masked = chunk.as_ref().try_into().map(u64::from_ne_bytes).map(|bytes| bytes ^ word);
        chunk.copy_from_slice(&masked.expect("chunks of eight bytes").to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_by_words_equals_masking_by_bytes_at_every_length_and_phase() {
        let key = [0x12, 0x34, 0x56, 0x78];

        for length in 0..40 {
            for phase in 0..9 {
                let plain: Vec<u8> = (0..length).collect();
                let mut masked = plain.clone();

                apply_mask(&mut masked, key, phase);

                let expected: Vec<u8> =
                    plain.iter().enumerate().map(|(i, b)| b ^ key[(i + phase) % 4]).collect();
                assert_eq!(masked, expected, "length {length}, phase {phase}");
            }
        }
    }
}
