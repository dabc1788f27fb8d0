//! Who was asked to go elsewhere for the sake of balance, and what became of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidewire_model::SessionId;
use tokio::time::Instant;

use super::shed::{Fates, Underway};
use crate::metrics;

/// Clients that were asked, until it is known what became of them: at most as many as are asked within a
/// window. Shared by all workers.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// How many there are, so that whoever connects pays for nothing while there are none.
    count: AtomicUsize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// When each connection ended, if it has.
    asked: HashMap<SessionId, Option<Instant>>,
    fates: Fates,
}

/// Whoever has not come back here this long after its connection ended is elsewhere, and counted there.
const SETTLED: Duration = Duration::from_secs(5);

impl Moves {
    /// A client was asked.
    pub(crate) fn asked(&self, session: SessionId) {
        metrics::rebalance_asked();
        self.change(|known| {
            known.asked.insert(session, None);
        });
    }

    /// A client has come back that may have been asked.
    pub(crate) fn resumed(&self, session: SessionId) {
        if self.count.load(Ordering::Relaxed) > 0 {
            self.change(|known| known.ended_here(session, "returned"));
        }
    }

    /// Its window is over, and it is still here.
    pub(crate) fn stayed(&self, session: SessionId) {
        self.change(|known| known.ended_here(session, "stayed"));
    }

    /// Its connection has ended.
    pub(crate) fn left(&self, session: SessionId, now: Instant) {
        self.change(|known| {
            if let Some(left_at) = known.asked.get_mut(&session) {
                *left_at = Some(now);
            }
        });
    }

    /// Who is on the way, and what has become of the others since this was asked before.
    pub(super) fn look(&self, now: Instant) -> (Underway, Fates) {
        self.change(|known| {
            known.asked.retain(|_, left_at| {
                let is_settled = left_at.is_some_and(|at| now - at >= SETTLED);
                known.fates.gone += u32::from(is_settled);
                !is_settled
            });
            metrics::rebalanced("moved", known.fates.gone);
            let here = known.asked.values().filter(|left_at| left_at.is_none()).count() as u64;
            let gone = known.asked.len() as u64 - here;
            (Underway { here, gone }, std::mem::take(&mut known.fates))
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = self.known.lock();
        let changed = change(&mut known);
        self.count.store(known.asked.len(), Ordering::Relaxed);
        changed
    }
}

impl Known {
    /// It was asked in vain, if it was.
    fn ended_here(&mut self, session: SessionId, outcome: &'static str) {
        if self.asked.remove(&session).is_some() {
            self.fates.back += 1;
            metrics::rebalanced(outcome, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: u8) -> SessionId {
        SessionId::from_bytes([number; 16])
    }

    #[test]
    fn who_has_left_is_on_the_way_until_it_would_have_come_back() {
        let (moves, now) = (Moves::default(), Instant::now());
        let on_the_way = |here, gone| Underway { here, gone };
        (1..=3).for_each(|number| moves.asked(session(number)));
        moves.left(session(1), now);

        assert_eq!(moves.look(now), (on_the_way(2, 1), Fates::default()));
        let later = now + SETTLED;
        assert_eq!(moves.look(later), (on_the_way(2, 0), Fates { gone: 1, back: 0 }));
        assert_eq!(moves.look(later), (on_the_way(2, 0), Fates::default()));
    }

    #[test]
    fn who_stays_or_comes_back_is_back_and_nobody_else() {
        let (moves, now) = (Moves::default(), Instant::now());
        (1..=3).for_each(|number| moves.asked(session(number)));

        moves.stayed(session(1));
        moves.left(session(2), now);
        moves.resumed(session(2));
        moves.resumed(session(9));
        moves.left(session(9), now);

        let underway = Underway { here: 1, gone: 0 };
        assert_eq!(moves.look(now), (underway, Fates { gone: 0, back: 2 }));
        assert_eq!(moves.look(now + SETTLED), (underway, Fates::default()));
    }
}
