/// A sequence of numbers that a seed decides: `SplitMix64`, which is enough to pick channels.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// One of several sequences of the same seed.
    pub fn new(seed: u64, stream: u32) -> Self {
        Self(mix(seed ^ mix(u64::from(stream))))
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.draw()) * (bound as u128);
        usize::try_from(wide >> 64).expect("below a usize")
    }
}

/// Spreads the bits of a number over all of it.
pub(crate) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_numbers_and_a_stream_changes_them() {
        let first = |seed, stream| Random::new(seed, stream).draw();

        assert_eq!(first(7, 1), first(7, 1));
        assert_ne!(first(7, 1), first(7, 2));
        assert_ne!(first(7, 1), first(8, 1));
    }

    #[test]
    fn every_number_below_the_bound_comes() {
        let mut random = Random::new(7, 0);
        let mut seen = [false; 10];

        for _ in 0..200 {
            seen[random.below(10)] = true;
        }

        assert_eq!(seen, [true; 10]);
    }
}
