use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lets one occurrence of something through per interval, and counts the others.
pub(crate) struct Throttle {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, state: Mutex::default() }
    }

    /// How many were suppressed since the last one let through; `None` to suppress this one too.
    pub(crate) fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        if state.last.is_some_and(|last| now - last < self.interval) {
            state.suppressed += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_per_interval_is_let_through_with_the_count_of_the_others() {
        let interval = Duration::from_secs(1);
        let throttle = Throttle::new(interval);
        let now = Instant::now();

        assert_eq!(throttle.admit(now), Some(0));
        assert_eq!([throttle.admit(now), throttle.admit(now)], [None, None]);
        assert_eq!(throttle.admit(now + interval), Some(2));
    }
}
