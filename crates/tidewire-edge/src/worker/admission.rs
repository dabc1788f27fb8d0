use std::collections::VecDeque;

use tidewire_model::ConnectionId;

use crate::metrics;

/// Whose sessions are being claimed, and whose turn is next.
///
/// A crowd that returns at once would otherwise ask the store for everybody at once, and time out
/// together. Who comes back goes before who is new: it is missing something.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    claiming: usize,
    resumes: VecDeque<ConnectionId>,
    others: VecDeque<ConnectionId>,
}

/// When a connection may claim its session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Admitted {
    Now,
    /// When [`Admission::next`] names it.
    Later,
    /// Too many wait.
    Never,
}

impl Admission {
    /// Claims of a worker under way at once.
    const MOST_CLAIMING: usize = 256;
    /// Of each kind. Whoever has left meanwhile counts until its turn.
    const MOST_WAITING: usize = 4_096;

    /// `is_back` tells those who have a session already.
    pub(crate) fn enter(&mut self, connection: ConnectionId, is_back: bool) -> Admitted {
        if self.claiming < Self::MOST_CLAIMING {
            self.claiming += 1;
            metrics::claiming(1.0);
            return Admitted::Now;
        }
        let queue = if is_back { &mut self.resumes } else { &mut self.others };
        if queue.len() >= Self::MOST_WAITING {
            return Admitted::Never;
        }
        queue.push_back(connection);
        metrics::waiting(1.0);
        Admitted::Later
    }

    /// A claim has ended: gives its place to the next who waits, if there is one. A connection that
    /// has left meanwhile has to give it on.
    pub(crate) fn next(&mut self) -> Option<ConnectionId> {
        let next = self.resumes.pop_front().or_else(|| self.others.pop_front());
        if next.is_some() {
            metrics::waiting(-1.0);
        } else {
            self.claiming = self.claiming.saturating_sub(1);
            metrics::claiming(-1.0);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Admission {
        let mut admission = Admission::default();
        for id in 0..Admission::MOST_CLAIMING as u64 {
            assert_eq!(admission.enter(ConnectionId(id), false), Admitted::Now);
        }
        admission
    }

    #[test]
    fn who_comes_back_goes_before_who_is_new() {
        let mut admission = full();

        for (id, is_back) in [(1_000, false), (1_001, true), (1_002, false), (1_003, true)] {
            assert_eq!(admission.enter(ConnectionId(id), is_back), Admitted::Later);
        }

        let order: Vec<_> = std::iter::from_fn(|| admission.next()).map(|id| id.0).collect();
        assert_eq!(order, [1_001, 1_003, 1_000, 1_002]);
    }

    #[test]
    fn a_place_that_nobody_takes_is_free_again() {
        let mut admission = full();

        assert_eq!(admission.next(), None);

        assert_eq!(admission.enter(ConnectionId(1_000), false), Admitted::Now);
        assert_eq!(admission.enter(ConnectionId(1_001), false), Admitted::Later);
    }

    #[test]
    fn newcomers_do_not_fill_the_places_of_those_who_come_back() {
        let mut admission = full();
        for id in 0..Admission::MOST_WAITING as u64 {
            assert_eq!(admission.enter(ConnectionId(1_000 + id), false), Admitted::Later);
        }

        assert_eq!(admission.enter(ConnectionId(9_000), false), Admitted::Never);
        assert_eq!(admission.enter(ConnectionId(9_001), true), Admitted::Later);
    }
}
