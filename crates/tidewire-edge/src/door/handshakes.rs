//! How fast one listener shakes hands.

use tidewire_model::{Bucket, Pace};
use tokio::time::{Duration, Instant, sleep};

use crate::metrics;

/// What a listener has taken of its pace. A fleet that comes back is better queued than refused: who is
/// beyond it stays in the kernel's backlog until there is room, and everybody who is connected already
/// has the rest of the core.
#[derive(Debug)]
pub(crate) struct Handshakes {
    pace: Pace,
    taken: Bucket,
    began: Instant,
}

impl Handshakes {
    pub(crate) fn new(pace: Pace) -> Self {
        Self { pace, taken: Bucket::default(), began: Instant::now() }
    }

    /// Waits until there may be one more. Cancel-safe.
    pub(crate) async fn ready(&self) {
        let wait = self.taken.wait_for(self.pace, 1, self.age());
        if !wait.is_zero() {
            metrics::paced();
            sleep(wait).await;
        }
    }

    /// One more has begun.
    pub(crate) fn begin(&mut self) {
        let now = self.age();
        self.taken.owe(self.pace, 1, now);
    }

    fn age(&self) -> Duration {
        self.began.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_crowd_is_let_in_at_the_pace_and_nobody_of_it_is_refused() {
        let started = Instant::now();
        let mut handshakes = Handshakes::new(Pace { per_second: 100, burst: 200 });

        for _ in 0..500 {
            handshakes.ready().await;
            handshakes.begin();
        }

        // 200 at once, and the others at 100 a second.
        let took = started.elapsed();
        assert!((2_980..=3_100).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_alone_does_not_wait() {
        let started = Instant::now();

        Handshakes::new(Pace { per_second: 1, burst: 1 }).ready().await;

        assert!(started.elapsed().is_zero());
    }
}
