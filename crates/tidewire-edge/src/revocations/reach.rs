use tokio::time::{Duration, Instant};

/// Whether something may be revoked that this node does not know of.
///
/// That the store is away is no reason by itself: while it is away for everybody nobody can revoke, and
/// what was revoked before is known.
#[derive(Debug, Default)]
pub(super) struct Reach {
    has_read: bool,
    /// The last attempt to read has failed.
    has_missed: bool,
    /// Since when the store is not read and the other nodes are not heard.
    alone_since: Option<Instant>,
    /// When somebody first told of what has not been read yet.
    told_at: Option<Instant>,
}

/// How long a node may neither read nor hear anybody: others may be able to do both.
const ALONE: Duration = Duration::from_mins(1);
/// How long what somebody has told of may be unread.
const UNREAD: Duration = Duration::from_secs(10);

impl Reach {
    /// Another node says that there is something new.
    pub(super) fn told(&mut self, now: Instant) {
        self.told_at.get_or_insert(now);
    }

    /// Everything has been read that was there at `began`.
    pub(super) fn read(&mut self, began: Instant) {
        let told_at = self.told_at.filter(|at| *at > began);
        *self = Self { has_read: true, has_missed: false, alone_since: None, told_at };
    }

    /// The store could not be read. Whoever is alone in the cluster misses nobody, and is not deaf.
    pub(super) fn missed(&mut self, is_deaf: bool, now: Instant) {
        self.has_missed = true;
        self.alone_since = is_deaf.then(|| self.alone_since.unwrap_or(now));
    }

    pub(super) fn is_cut_off(&self, now: Instant) -> bool {
        let is_over = |since: Option<Instant>, most| since.is_some_and(|since| now >= since + most);
        let knows_nothing = self.has_missed && !self.has_read;
        knows_nothing || is_over(self.alone_since, ALONE) || is_over(self.told_at, UNREAD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn that_has_read(now: Instant) -> Reach {
        let mut reach = Reach::default();
        reach.read(now);
        reach
    }

    #[test]
    fn without_the_store_but_with_the_others_a_node_goes_on_for_ever() {
        let now = Instant::now();
        let mut reach = that_has_read(now);

        for seconds in 0..1_000 {
            reach.missed(false, now + seconds * SECOND);
            assert!(!reach.is_cut_off(now + seconds * SECOND));
        }
    }

    #[test]
    fn without_either_it_is_cut_off_after_a_minute_until_one_of_them_is_back() {
        let now = Instant::now();
        let mut reach = that_has_read(now);

        reach.missed(true, now);
        reach.missed(true, now + 30 * SECOND);
        assert!(!reach.is_cut_off(now + 59 * SECOND));
        assert!(reach.is_cut_off(now + 60 * SECOND));
        reach.missed(false, now + 61 * SECOND);
        assert!(!reach.is_cut_off(now + 200 * SECOND));

        reach.missed(true, now + 200 * SECOND);
        assert!(reach.is_cut_off(now + 260 * SECOND));
        reach.read(now + 261 * SECOND);
        assert!(!reach.is_cut_off(now + 1_000 * SECOND));
    }

    #[test]
    fn what_somebody_has_told_of_is_to_be_read_within_ten_seconds() {
        let now = Instant::now();
        let mut reach = that_has_read(now);

        reach.told(now + SECOND);
        reach.missed(false, now + 2 * SECOND);
        reach.told(now + 5 * SECOND);
        assert!(!reach.is_cut_off(now + 10 * SECOND));
        assert!(reach.is_cut_off(now + 11 * SECOND));
        // What was read before it was told is something else.
        reach.read(now);
        assert!(reach.is_cut_off(now + 11 * SECOND));
        reach.read(now + 2 * SECOND);
        assert!(!reach.is_cut_off(now + 1_000 * SECOND));
    }

    #[test]
    fn who_has_never_read_anything_knows_of_nothing() {
        let now = Instant::now();
        let mut reach = Reach::default();

        assert!(!reach.is_cut_off(now), "it has not tried yet");
        reach.missed(false, now);
        assert!(reach.is_cut_off(now));
        reach.read(now);
        assert!(!reach.is_cut_off(now));
    }
}
