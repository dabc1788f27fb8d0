use std::time::Duration;

use tidewire_model::Random;
use tokio::time::Instant;

/// How long to wait before coming back: full jitter, so that those who were lost together do not
/// return together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    /// When the first of them was.
    since: Option<Instant>,
    /// When the connection at hand was opened.
    opened: Option<Instant>,
}

const FIRST: Duration = Duration::from_millis(300);
const LONGEST: Duration = Duration::from_secs(20);
/// A node that takes connections and loses each of them must not be asked as fast as it loses them.
const HELD: Duration = Duration::from_secs(5);
/// What something in between says, which means others than those who keep a session, is not waited for.
const LONGEST_TOLD: Duration = Duration::from_mins(1);

impl Backoff {
    /// A connection is open.
    pub(crate) fn opened(&mut self, now: Instant) {
        self.forget_if_held(now);
        self.opened = Some(now);
    }

    /// A random share of a bound that doubles with each failure, and begins anew once a connection
    /// has held.
    ///
    /// Some of many clients draw small shares, and soon reach the longest bound: nobody waits much
    /// longer than it has failed so far, or a break of two seconds would become one of twenty for them.
    pub(crate) fn next(&mut self, now: Instant, random: &Random) -> Duration {
        self.forget_if_held(now);
        let failing = now.duration_since(*self.since.get_or_insert(now));
        let bound = FIRST.saturating_mul(1 << self.failures.min(10));
        let bound = bound.min(FIRST + failing).min(LONGEST);
        self.failures += 1;
        bound.mul_f64(share(random))
    }

    /// The same, but no sooner than the server says, and up to half as long later: it may have told
    /// many others the same.
    pub(crate) fn next_after(&mut self, told: Duration, now: Instant, random: &Random) -> Duration {
        let told = told.min(LONGEST_TOLD);
        let told = told + (told / 2).mul_f64(share(random));
        self.next(now, random).max(told)
    }

    fn forget_if_held(&mut self, now: Instant) {
        if self.opened.take().is_some_and(|opened| now.duration_since(opened) >= HELD) {
            self.failures = 0;
            self.since = None;
        }
    }
}

/// At random, from none to all.
fn share(random: &Random) -> f64 {
    // The upper half: a float holds that exactly.
    f64::from((random.draw() >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random() -> Random {
        Random::new(|| u64::MAX)
    }

    #[test]
    fn waits_double_with_each_failure_up_to_twenty_seconds() {
        let mut backoff = Backoff::default();
        let begun = Instant::now();
        backoff.next(begun, &random());

        // It has failed for so long that this bounds nothing.
        let waits = (1..20).map(|_| backoff.next(begun + Duration::from_hours(1), &random()));

        let bounds = (1..20).map(|failures: u32| FIRST.saturating_mul(1 << failures.min(10)));
        assert!(waits.eq(bounds.map(|bound| bound.min(LONGEST))));
    }

    #[test]
    fn nobody_waits_much_longer_than_it_has_failed_so_far() {
        let mut backoff = Backoff::default();
        let begun = Instant::now();
        let later = begun + Duration::from_secs(2);
        for _ in 0..10 {
            backoff.next(begun, &random());
        }

        assert!(backoff.next(later, &random()) <= Duration::from_millis(2_300));
        assert!(backoff.next(begun + Duration::from_mins(1), &random()) > LONGEST / 2);
    }

    #[test]
    fn a_connection_that_is_lost_at_once_is_one_more_failure() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        for _ in 0..5 {
            backoff.opened(now);
            backoff.next(now + HELD / 2, &random());
        }

        assert_eq!(backoff.failures, 5);
    }

    #[test]
    fn a_connection_that_has_held_makes_the_wait_begin_anew() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        for _ in 0..5 {
            backoff.next(now, &random());
        }
        backoff.opened(now);

        assert!(backoff.next(now + HELD, &random()) <= FIRST);
        assert_eq!(backoff.failures, 1);
    }

    #[test]
    fn the_servers_word_is_kept_and_not_by_all_at_once() {
        let (now, told) = (Instant::now(), Duration::from_secs(4));
        let after = |draw| Backoff::default().next_after(told, now, &Random::new(move || draw));

        assert_eq!(after(0), told);
        assert_eq!(after(u64::MAX), told * 3 / 2);
    }

    #[test]
    fn a_word_that_is_sooner_than_ones_own_wait_or_later_than_a_minute_is_not_kept() {
        let (now, none) = (Instant::now(), Random::new(|| 0));
        let day = Duration::from_hours(24);

        assert_eq!(Backoff::default().next_after(Duration::ZERO, now, &random()), FIRST);
        assert_eq!(Backoff::default().next_after(day, now, &none), LONGEST_TOLD);
    }
}
