use std::time::Duration;

use tidewire_model::Position;
use tokio::time::Instant;

/// How long a hole of one channel may fill by itself before the log is read for it.
///
/// What several nodes publish arrives out of order by as much as they and their links differ; what is
/// missing then comes by itself, and a read for it would be wasted. What was lost never comes, and
/// waiting for it delays whatever follows. So this is learned, for each channel, from how late missing
/// publications came: the greatest lateness lately, and a quarter more. One hole at a time is watched,
/// also beyond the read that fills it.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// What is missing, and since when that is known.
    watched: Option<(Position, Instant)>,
    lateness: Duration,
}

impl Patience {
    /// How long a hole of a channel may fill in which none was ever filled late.
    pub(super) const LEAST: Duration = Duration::from_millis(30);
    /// However late publications come, a lost one delays those after it no longer than this.
    pub(super) const MOST: Duration = Duration::from_millis(250);

    /// Until when to wait for `missing`, which is known to be missing since `now`.
    pub(super) fn until(&mut self, missing: Position, now: Instant) -> Instant {
        match self.watched {
            Some((_, since)) if now.duration_since(since) <= Self::MOST => {}
            lost => {
                if lost.is_some() {
                    self.ease();
                }
                self.watched = Some((missing, now));
            }
        }
        now + (self.lateness + self.lateness / 4).clamp(Self::LEAST, Self::MOST)
    }

    /// Learns from a publication that came from another node.
    pub(super) fn came(&mut self, position: Position, now: Instant) {
        let is_it = |(missing, _): &mut (Position, Instant)| *missing == position;
        if let Some((_, since)) = self.watched.take_if(is_it) {
            self.ease();
            let late = now.duration_since(since);
            // Beyond that nobody would have waited for it: it counts as lost.
            if late <= Self::MOST {
                self.lateness = self.lateness.max(late);
            }
        }
    }

    /// A single late publication is forgotten after some more holes.
    fn ease(&mut self) {
        self.lateness = self.lateness * 7 / 8;
    }
}

#[cfg(test)]
mod tests {
    use tidewire_model::Incarnation;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_grows_with_how_late_publications_come_and_shrinks_again() {
        let mut channel = Channel::new();

        assert_eq!(channel.wait_after(&[]), 30);
        assert_eq!(channel.wait_after(&[80]), 100);
        assert_eq!(channel.wait_after(&[5, 5, 5]), 66);
        assert_eq!(channel.wait_after(&[5; 20]), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_bounded_and_what_comes_far_too_late_does_not_lengthen_it() {
        let mut channel = Channel::new();

        assert_eq!(channel.wait_after(&[240]), 250);
        assert_eq!(channel.wait_after(&[251, 10_000]), 229);
        assert_eq!(channel.wait_after(&[10_000; 20]), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_comes_does_not_lengthen_it() {
        let mut patience = Patience::default();
        patience.until(at(2), Instant::now());

        let later = Instant::now() + Duration::from_secs(10);
        let until = patience.until(at(4), later);

        assert_eq!(until, later + Patience::LEAST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_publication_that_a_read_was_quicker_to_get_still_says_how_late_it_was() {
        let mut patience = Patience::default();
        let begun = Instant::now();
        patience.until(at(5), begun);
        patience.until(at(18), begun + Duration::from_millis(33));

        patience.came(at(5), begun + Duration::from_millis(80));

        let now = begun + Duration::from_millis(90);
        assert_eq!(patience.until(at(30), now), now + Duration::from_millis(100));
    }

    /// A channel whose holes are filled so many milliseconds late, one after the other.
    struct Channel {
        patience: Patience,
        now: Instant,
        offset: u64,
    }

    impl Channel {
        fn new() -> Self {
            Self { patience: Patience::default(), now: Instant::now(), offset: 0 }
        }

        /// How long the next hole may take, in milliseconds.
        fn wait_after(&mut self, lates: &[u64]) -> u128 {
            for late in lates {
                self.wait();
                self.now += Duration::from_millis(*late);
                self.patience.came(at(self.offset), self.now);
            }
            let wait = self.wait();
            self.patience.watched = None;
            wait
        }

        fn wait(&mut self) -> u128 {
            self.offset += 2;
            let until = self.patience.until(at(self.offset), self.now);
            until.duration_since(self.now).as_millis()
        }
    }

    fn at(offset: u64) -> Position {
        Position::new(Incarnation::new(1, 0).epoch(0), offset)
    }
}
