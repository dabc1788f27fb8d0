use std::time::Duration;

use tokio::time::Instant;

/// Counts what is worth a line in the log each time, and lets one line a second through.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// When the next line may be written; `None` before the first.
    next_at: Option<Instant>,
    unsaid: u64,
}

const INTERVAL: Duration = Duration::from_secs(1);

impl Throttle {
    /// Counts one. If a line may be written now, says how many it stands for.
    pub(crate) fn count(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        self.overdue(now)
    }

    /// How many were counted that no line has stood for, if there are any and one may be written.
    pub(crate) fn overdue(&mut self, now: Instant) -> Option<u64> {
        if self.unsaid == 0 || self.next_at.is_some_and(|at| now < at) {
            return None;
        }
        self.next_at = Some(now + INTERVAL);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_second_stands_for_all_that_was_counted() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut throttle = Throttle::default();

        assert_eq!(throttle.overdue(after(0)), None);
        assert_eq!(throttle.count(after(0)), Some(1));
        assert_eq!(throttle.count(after(1)), None);
        assert_eq!(throttle.count(after(999)), None);
        assert_eq!(throttle.overdue(after(999)), None);
        assert_eq!(throttle.count(after(1_000)), Some(3));
        assert_eq!(throttle.count(after(1_001)), None);
        assert_eq!(throttle.overdue(after(2_000)), Some(1));
        assert_eq!(throttle.overdue(after(9_000)), None);
    }
}
