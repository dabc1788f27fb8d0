//! Places for connections that are plain HTTP: a bounded number, and none for who only sits there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, Instant, timeout};
use tokio_util::sync::CancellationToken;

/// The places of one listener.
pub(crate) struct Places {
    free: Arc<Semaphore>,
    /// As many may wait for a place as there are.
    seats: Arc<Semaphore>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    last: u64,
    /// Those that are between two requests, or before their first, by since when.
    idle: BTreeSet<(Instant, u64)>,
    /// How each is told to leave.
    leave: BTreeMap<u64, CancellationToken>,
}

/// The right to wait for a place.
pub(crate) struct Seat {
    _permit: OwnedSemaphorePermit,
}

/// A connection's place, until it is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    id: u64,
    idle_since: Mutex<Option<Instant>>,
    leave: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

/// How long a connection may sit idle where others wait for its place.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often one who waits looks for such a connection, and how long it waits each time. Whom it has
/// told to leave makes room for who waited before.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

impl Places {
    pub(crate) fn new(count: usize) -> Arc<Self> {
        let [free, seats] = [(); 2].map(|()| Arc::new(Semaphore::new(count)));
        Arc::new(Self { free, seats, taken: Mutex::default() })
    }

    /// Waits until one more may wait for a place: before it is accepted, so that what is beyond every
    /// bound stays with the kernel. Those who sit are gone after two seconds at the most. Cancel-safe.
    pub(crate) async fn seat(&self) -> Seat {
        let permit = Arc::clone(&self.seats).acquire_owned().await;
        Seat { _permit: permit.expect("the semaphore is never closed") }
    }

    /// Takes a place, of one who sits idle if there is no other. Most who have a place leave it in a
    /// moment, upgraded, and a fleet that comes back is better queued than refused: so who comes waits
    /// for two seconds at the most, beside the others and not behind them.
    pub(crate) async fn take(self: &Arc<Self>, seat: Seat) -> Option<Place> {
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(self.place(permit));
        }
        for _ in 0..LOOKS {
            self.evict();
            let permit = timeout(BETWEEN_LOOKS, Arc::clone(&self.free).acquire_owned()).await;
            if let Ok(Ok(permit)) = permit {
                return Some(self.place(permit));
            }
        }
        drop(seat);
        None
    }

    /// Tells who has been idle the longest to leave, if that is long enough.
    fn evict(&self) {
        let mut taken = self.taken.lock();
        let Some(&(since, id)) = taken.idle.first() else { return };
        if since.elapsed() >= PATIENCE {
            taken.idle.pop_first();
            if let Some(leave) = taken.leave.get(&id) {
                leave.cancel();
            }
        }
    }

    fn place(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Place {
        let leave = CancellationToken::new();
        let mut taken = self.taken.lock();
        taken.last += 1;
        let id = taken.last;
        taken.leave.insert(id, leave.clone());
        drop(taken);
        let idle_since = Mutex::new(None);
        let place = Place { places: Arc::clone(self), id, idle_since, leave, _permit: permit };
        place.is_idle();
        place
    }
}

impl Place {
    /// Nothing is asked over it, from now on.
    pub(crate) fn is_idle(&self) {
        let now = Instant::now();
        let mut taken = self.places.taken.lock();
        if let Some(earlier) = self.idle_since.lock().replace(now) {
            taken.idle.remove(&(earlier, self.id));
        }
        taken.idle.insert((now, self.id));
    }

    /// Something is asked over it.
    pub(crate) fn is_busy(&self) {
        let mut taken = self.places.taken.lock();
        if let Some(since) = self.idle_since.lock().take() {
            taken.idle.remove(&(since, self.id));
        }
    }

    /// Waits until somebody else needs the place more.
    pub(crate) async fn needed(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.is_busy();
        self.places.taken.lock().leave.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    async fn take(places: &Arc<Places>) -> Option<Place> {
        places.take(places.seat().await).await
    }

    #[tokio::test(start_paused = true)]
    async fn who_sits_idle_makes_room_and_who_is_busy_does_not() {
        let places = Places::new(2);
        let idle = take(&places).await.expect("a place");
        let busy = take(&places).await.expect("a place");
        busy.is_busy();
        let leaving = async {
            idle.needed().await;
            drop(idle);
        };

        let (third, ()) = tokio::join!(take(&places), leaving);

        assert!(third.is_some());
        assert!(busy.needed().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_are_busy_nobody_comes_in_and_nobody_waits_long() {
        let places = Places::new(1);
        let busy = take(&places).await.expect("a place");
        busy.is_busy();
        let seat = places.seat().await;
        let started = Instant::now();

        assert!(places.seat().now_or_never().is_none(), "one waits already");
        assert!(places.take(seat).await.is_none());

        assert_eq!(started.elapsed(), LOOKS * BETWEEN_LOOKS);
        drop(busy);
        assert!(take(&places).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_busy_is_idle_from_its_answer_on() {
        let places = Places::new(2);
        let first = take(&places).await.expect("a place");
        let second = take(&places).await.expect("a place");
        first.is_busy();
        tokio::time::advance(PATIENCE).await;
        first.is_idle();

        let leaving = async {
            second.needed().await;
            drop(second);
        };

        let (third, ()) = tokio::join!(take(&places), leaving);

        assert!(third.is_some());
        assert!(first.needed().now_or_never().is_none());
    }
}
