use std::fmt;
use std::sync::Arc;

/// Where random numbers come from: the system, or a seed if a run is to be repeated. Cloning it is
/// cheap; all clones draw from one source.
#[derive(Clone)]
pub struct Random(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Random {
    /// Numbers from `draw`, each of which must be uniform over all of `u64`.
    pub fn new(draw: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(draw))
    }

    pub fn draw(&self) -> u64 {
        (self.0)()
    }

    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.draw().to_le_bytes()[..chunk.len()]);
        }
        bytes
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn bytes_are_those_of_the_numbers_drawn() {
        let drawn = AtomicU64::new(0);
        let random = Random::new(move || drawn.fetch_add(1, Ordering::Relaxed) + 1);

        assert_eq!(random.bytes(), [1, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
        assert_eq!(random.clone().draw(), 3);
    }
}
