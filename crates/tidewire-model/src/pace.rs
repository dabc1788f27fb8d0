use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How fast something may be done: so much a second for long, and so much at once after a rest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    /// At least 1.
    pub per_second: u32,
    /// At least 1.
    pub burst: u32,
}

impl Pace {
    /// So many a second, and twice as many at once.
    pub fn doubled(per_second: u32) -> Self {
        Self { per_second, burst: per_second.saturating_mul(2) }
    }

    /// How long it takes until `amount` is earned.
    pub fn time_for(self, amount: u64) -> Duration {
        Duration::from_nanos(self.nanos(amount))
    }

    /// Rounded up: no pace is ever exceeded.
    fn nanos(self, amount: u64) -> u64 {
        amount.saturating_mul(NANOS).div_ceil(u64::from(self.per_second.max(1)))
    }
}

const NANOS: u64 = 1_000_000_000;

/// What has been taken of a [`Pace`], as one moment: when all of it will have been earned (the
/// generic cell rate algorithm, ITU-T I.371 appendix A, as virtual scheduling).
///
/// Moments are durations since whatever its owner counts from, which must not go backwards further
/// than the owner can bear to be generous.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bucket {
    earned_at: u64,
}

impl Bucket {
    /// Takes `cost`.
    ///
    /// What costs more than a burst passes when nothing is owed, and is owed afterwards: it would
    /// never pass otherwise.
    ///
    /// # Errors
    ///
    /// If there is not as much; how long it takes until there is. Nothing is taken then.
    pub fn take(&mut self, pace: Pace, cost: u32, now: Duration) -> Result<(), Duration> {
        let now = nanos(now);
        let owed_from = self.earned_at.max(now);
        let earned_at = owed_from.saturating_add(pace.nanos(cost.into()));
        let most = now.saturating_add(pace.nanos(pace.burst.into()));
        if earned_at > most && owed_from > now {
            let excess = (earned_at - most).min(owed_from - now);
            return Err(Duration::from_nanos(excess));
        }
        self.earned_at = earned_at;
        Ok(())
    }

    /// Takes `cost` whether or not it is there.
    pub fn owe(&mut self, pace: Pace, cost: u32, now: Duration) {
        let from = self.earned_at.max(nanos(now));
        self.earned_at = from.saturating_add(pace.nanos(cost.into()));
    }

    /// How long it takes until `amount` can be taken at once; at most a burst.
    pub fn wait_for(&self, pace: Pace, amount: u32, now: Duration) -> Duration {
        let spare = pace.burst.saturating_sub(amount);
        let at = self.earned_at.saturating_sub(pace.nanos(spare.into()));
        Duration::from_nanos(at.saturating_sub(nanos(now)))
    }

    /// Whether a whole burst is there.
    pub fn is_full(&self, now: Duration) -> bool {
        self.earned_at <= nanos(now)
    }
}

/// A [`Bucket`] that many threads take from at once, without a lock.
#[derive(Debug, Default)]
pub struct SharedBucket(AtomicU64);

impl SharedBucket {
    /// As [`Bucket::take`].
    ///
    /// # Errors
    ///
    /// If there is not as much; how long it takes until there is.
    pub fn take(&self, pace: Pace, cost: u32, now: Duration) -> Result<(), Duration> {
        let mut verdict = Ok(());
        self.update(|bucket| verdict = bucket.take(pace, cost, now));
        verdict
    }

    /// As [`Bucket::owe`].
    pub fn owe(&self, pace: Pace, cost: u32, now: Duration) {
        self.update(|bucket| bucket.owe(pace, cost, now));
    }

    /// As [`Bucket::wait_for`]; somebody else may be faster.
    pub fn wait_for(&self, pace: Pace, amount: u32, now: Duration) -> Duration {
        Bucket { earned_at: self.0.load(Ordering::Relaxed) }.wait_for(pace, amount, now)
    }

    /// As [`Bucket::is_full`].
    pub fn is_full(&self, now: Duration) -> bool {
        Bucket { earned_at: self.0.load(Ordering::Relaxed) }.is_full(now)
    }

    fn update(&self, mut change: impl FnMut(&mut Bucket)) {
        let mut earned_at = self.0.load(Ordering::Relaxed);
        loop {
            let mut bucket = Bucket { earned_at };
            change(&mut bucket);
            let new = bucket.earned_at;
            if new == earned_at {
                return;
            }
            let order = Ordering::Relaxed;
            match self.0.compare_exchange_weak(earned_at, new, order, order) {
                Ok(_) => return,
                Err(other) => earned_at = other,
            }
        }
    }
}

fn nanos(moment: Duration) -> u64 {
    u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACE: Pace = Pace { per_second: 10, burst: 3 };

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_passes_and_then_one_for_each_that_is_earned() {
        let mut bucket = Bucket::default();

        let at_once: Vec<_> = (0..5).map(|_| bucket.take(PACE, 1, at(0)).is_ok()).collect();
        assert_eq!(at_once, [true, true, true, false, false]);

        assert_eq!(bucket.take(PACE, 1, at(40)), Err(at(60)));
        assert_eq!(bucket.take(PACE, 1, at(100)), Ok(()));
        assert_eq!(bucket.take(PACE, 1, at(100)), Err(at(100)));
    }

    #[test]
    fn a_bucket_is_full_when_all_has_been_earned() {
        let mut bucket = Bucket::default();
        bucket.take(PACE, 3, at(0)).expect("a burst");

        assert_eq!(bucket.wait_for(PACE, 1, at(0)), at(100));
        assert_eq!(bucket.wait_for(PACE, 3, at(0)), at(300));
        assert!(!bucket.is_full(at(299)));
        assert!(bucket.is_full(at(300)));
    }

    #[test]
    fn what_is_more_than_a_burst_passes_when_nothing_is_owed() {
        let mut bucket = Bucket::default();

        assert_eq!(bucket.take(PACE, 7, at(0)), Ok(()));
        assert_eq!(bucket.take(PACE, 7, at(100)), Err(at(600)));
        assert_eq!(bucket.take(PACE, 7, at(700)), Ok(()));
    }

    #[test]
    fn threads_that_share_a_bucket_get_a_burst_together() {
        let bucket = SharedBucket::default();
        let pace = Pace { per_second: 1, burst: 1_000 };
        let take_many = || (0..1_000).filter(|_| bucket.take(pace, 1, at(0)).is_ok()).count();

        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take_many)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });

        assert_eq!(taken, 1_000);
    }

    proptest! {
        /// Held against tokens that are counted: one for each takes `1 / per_second`.
        #[test]
        fn never_more_than_the_pace_passes(
            per_second in 1_u32..1_000,
            burst in 1_u32..100,
            steps in prop::collection::vec((0_u64..2_000, 1_u32..10), 1..200),
        ) {
            let (pace, mut bucket) = (Pace { per_second, burst }, Bucket::default());
            let (mut now, mut tokens) = (0, f64::from(burst));
            for (wait, cost) in steps {
                now += wait;
                let earned = f64::from(u32::try_from(wait).expect("small")) / 1_000.0;
                tokens = (tokens + earned * f64::from(per_second)).min(f64::from(burst));
                let cost = cost.min(burst);
                let passes = bucket.take(pace, cost, at(now));
                if (tokens - f64::from(cost)).abs() > 1e-3 {
                    prop_assert_eq!(passes.is_ok(), tokens >= f64::from(cost));
                }
                match passes {
                    Ok(()) => tokens -= f64::from(cost),
                    Err(wait) => {
                        let mut later = bucket;
                        prop_assert_eq!(later.take(pace, cost, at(now) + wait), Ok(()));
                    }
                }
            }
        }
    }
}
