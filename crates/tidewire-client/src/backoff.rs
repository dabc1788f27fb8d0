use std::time::Duration;

/// How long to wait before coming back: full jitter, so that those who were lost together do not
/// return together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

const FIRST: Duration = Duration::from_millis(300);
const LONGEST: Duration = Duration::from_secs(20);

impl Backoff {
    /// A random share of a bound that doubles with each failure.
    pub(crate) fn next(&mut self) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures += 1;
        let random = getrandom::u32().unwrap_or(u32::MAX);
        bound.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_below_a_bound_that_doubles_up_to_twenty_seconds() {
        let mut backoff = Backoff::default();
        for failure in 0..20 {
            let bound = FIRST.saturating_mul(1 << failure.min(10)).min(LONGEST);

            assert!(backoff.next() <= bound, "after {failure} failures");
        }
    }
}
