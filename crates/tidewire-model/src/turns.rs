use std::time::Duration;

use crate::{Bucket, Pace};

/// Whose turn it is of those who ask for more than a [`Pace`] allows.
///
/// After a refusal everything is refused for a while: what is on its way behind what was refused is not
/// to overtake it. Each is told a later time than the one before, when it would be its turn if all of
/// them came back; so whoever does as it is told gets the pace.
///
/// Moments are durations since whatever its owner counts from, as those of a [`Bucket`].
#[derive(Debug, Default)]
pub struct Turns {
    taken: Bucket,
    refused_until: Duration,
    /// In a row, since the last that was taken.
    refused: u32,
}

/// How long everything is refused after one was.
const REFUSED_FOR: Duration = Duration::from_millis(100);
/// The latest time that is told.
const LATEST: Duration = Duration::from_secs(10);

impl Turns {
    /// Takes one.
    ///
    /// # Errors
    ///
    /// When to come back, if it is not its turn.
    pub fn take(&mut self, pace: Pace, now: Duration) -> Result<(), Duration> {
        if self.is_refusing(now) {
            return Err(self.refuse(pace, Duration::ZERO, now));
        }
        match self.taken.take(pace, 1, now) {
            Ok(()) => {
                self.refused = 0;
                Ok(())
            }
            Err(wait) => Err(self.refuse(pace, wait, now)),
        }
    }

    /// Refuses one more, `wait` being the time it takes to earn it; says when to come back.
    pub fn refuse(&mut self, pace: Pace, wait: Duration, now: Duration) -> Duration {
        if !self.is_refusing(now) {
            self.refused_until = now + wait.max(REFUSED_FOR);
        }
        let turn = pace.time_for(self.refused.into());
        self.refused = self.refused.saturating_add(1);
        (self.refused_until.saturating_sub(now) + turn).min(LATEST.max(wait))
    }

    /// Whether everything is refused, because one was a moment ago.
    pub fn is_refusing(&self, now: Duration) -> bool {
        now < self.refused_until
    }

    /// Whether it says no more than that nothing is owed.
    pub fn is_clear(&self, now: Duration) -> bool {
        self.taken.is_full(now) && !self.is_refusing(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { per_second: 10, burst: 20 };

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// How many of `count` pass at a moment, and when the others are to come back.
    fn take_many(turns: &mut Turns, count: usize, now: Duration) -> (usize, Vec<Duration>) {
        let verdicts: Vec<_> = (0..count).map(|_| turns.take(PACE, now)).collect();
        let passed = verdicts.iter().filter(|verdict| verdict.is_ok()).count();
        (passed, verdicts.into_iter().filter_map(Result::err).collect())
    }

    #[test]
    fn each_is_told_when_it_would_be_its_turn() {
        let mut turns = Turns::default();

        let (passed, refused) = take_many(&mut turns, 23, at(0));

        assert_eq!((passed, refused), (20, vec![at(100), at(200), at(300)]));
    }

    #[test]
    fn nothing_passes_for_a_while_after_a_refusal() {
        let mut turns = Turns::default();
        take_many(&mut turns, 21, at(0));

        assert_eq!(take_many(&mut turns, 3, at(99)).0, 0);
        assert_eq!(take_many(&mut turns, 3, at(100)).0, 1);
    }

    #[test]
    fn it_is_clear_once_all_is_earned() {
        let mut turns = Turns::default();
        take_many(&mut turns, 20, at(0));

        assert!(!turns.is_clear(at(1_999)));
        assert!(turns.is_clear(at(2_000)));
        turns.refuse(PACE, at(5), at(2_000));
        assert!(!turns.is_clear(at(2_099)));
        assert!(turns.is_clear(at(2_100)));
    }
}
