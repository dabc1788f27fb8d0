//! Time in ticks, and a wheel of what is due when: one for all connections of a worker.

use std::collections::BTreeMap;
use std::time::Duration;

use tidewire_model::ConnectionId;
use tokio::time::Instant;

/// A moment as ticks since its worker began. Compared around the wrap, so that moments less than
/// eight months apart stay in order however long a worker runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Tick(u32);

/// How exact a connection's clock is: alarms ring up to this much late.
pub(crate) const TICK: Duration = Duration::from_millis(TICK_MILLIS);
const TICK_MILLIS: u64 = 10;

impl Tick {
    #[expect(clippy::cast_possible_truncation, reason = "ticks wrap, and are compared so")]
    fn of(ticks: u64) -> Self {
        Self(ticks as u32)
    }

    fn before(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0) > u32::MAX / 2
    }

    pub(crate) fn is_due(self, now: Self) -> bool {
        !now.before(self)
    }

    pub(crate) fn earlier(self, other: Self) -> Self {
        if other.before(self) { other } else { self }
    }

    /// The first moment that is at least `delay` away.
    pub(crate) fn after(self, delay: Duration) -> Self {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let ticks = millis.div_ceil(TICK_MILLIS).saturating_add(1).min(u64::from(u32::MAX / 4));
        Self(self.0.wrapping_add(u32::try_from(ticks).unwrap_or(u32::MAX / 4)))
    }

    /// This moment or the next that is a multiple of `step`: whatever is done for many is cheaper
    /// done for many at once.
    pub(crate) fn aligned(self, step: Duration) -> Self {
        let step = u32::try_from(step.as_millis() / u128::from(TICK_MILLIS)).unwrap_or(1).max(1);
        Self(self.0.wrapping_add((step - self.0 % step) % step))
    }

    pub(crate) fn since(self, earlier: Self) -> Duration {
        if self.before(earlier) {
            return Duration::ZERO;
        }
        TICK * self.0.wrapping_sub(earlier.0)
    }
}

/// Connections by the moment they are due: those of this turn of the wheel by the tick, the others
/// by the turn.
#[derive(Debug)]
pub(crate) struct Wheel {
    started: Instant,
    /// Ticks since the start before which everything has been taken.
    taken: u64,
    /// This turn's.
    slots: Vec<Vec<ConnectionId>>,
    /// A bit for each slot that has somebody.
    occupied: [u64; SLOTS / 64],
    /// The turns to come, by their number.
    turns: BTreeMap<u64, Vec<Entry>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Tick,
    connection: ConnectionId,
}

/// One turn is ten seconds.
const SLOTS: usize = 1_024;

impl Wheel {
    pub(crate) fn new(started: Instant) -> Self {
        let slots = std::iter::repeat_with(Vec::new).take(SLOTS).collect();
        let occupied = [0; SLOTS / 64];
        Self { started, taken: 0, slots, occupied, turns: BTreeMap::new() }
    }

    pub(crate) fn tick(&self, now: Instant) -> Tick {
        let millis = now.saturating_duration_since(self.started).as_millis();
        Tick::of(u64::try_from(millis).unwrap_or(u64::MAX) / TICK_MILLIS)
    }

    /// Has `connection` come out at `at`, or at once if that has passed. Whoever is set twice comes
    /// out twice.
    pub(crate) fn set(&mut self, connection: ConnectionId, at: Tick) {
        let next = Tick::of(self.taken);
        let ahead = if at.before(next) { 0 } else { at.0.wrapping_sub(next.0) };
        let tick = self.taken + u64::from(ahead);
        if turn(tick) == turn(self.taken) {
            self.put(slot(tick), connection);
        } else {
            self.turns.entry(turn(tick)).or_default().push(Entry { at, connection });
        }
    }

    fn put(&mut self, slot: usize, connection: ConnectionId) {
        self.slots[slot].push(connection);
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    /// When to look again: when somebody is due, or a turn begins that has somebody.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let first = slot(self.taken);
        let in_turn = (first..SLOTS).find(|slot| self.is_occupied(*slot));
        let tick = match in_turn {
            Some(slot) => self.taken + (slot - first) as u64,
            None => *self.turns.first_key_value()?.0 * SLOTS as u64,
        };
        Some(self.started + Duration::from_millis(tick * TICK_MILLIS))
    }

    fn is_occupied(&self, slot: usize) -> bool {
        self.occupied[slot / 64] & (1 << (slot % 64)) != 0
    }

    /// Moves everybody who is due to `due`.
    pub(crate) fn take(&mut self, now: Tick, due: &mut Vec<ConnectionId>) {
        let next = Tick::of(self.taken);
        if now.before(next) {
            return;
        }
        let end = self.taken + u64::from(now.0.wrapping_sub(next.0)) + 1;
        while self.taken < end {
            let turn_ends = (turn(self.taken) + 1) * SLOTS as u64;
            let until = end.min(turn_ends);
            for slot in slot(self.taken)..=slot(until - 1) {
                self.take_slot(slot, due);
            }
            self.taken = until;
            if until == turn_ends {
                self.begin_turn();
            }
        }
    }

    fn take_slot(&mut self, slot: usize, due: &mut Vec<ConnectionId>) {
        if self.is_occupied(slot) {
            due.append(&mut self.slots[slot]);
            self.occupied[slot / 64] &= !(1 << (slot % 64));
        }
    }

    fn begin_turn(&mut self) {
        for Entry { at, connection } in self.turns.remove(&turn(self.taken)).unwrap_or_default() {
            self.put(slot(u64::from(at.0)), connection);
        }
    }
}

/// Where in its turn a tick is. Ticks that wrap at 2^32 stay in step, as that is a whole number of
/// turns.
fn slot(tick: u64) -> usize {
    usize::try_from(tick % SLOTS as u64).unwrap_or_default()
}

fn turn(tick: u64) -> u64 {
    tick / SLOTS as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(wheel: &mut Wheel, now: Tick) -> Vec<u64> {
        let mut due = Vec::new();
        wheel.take(now, &mut due);
        due.iter().map(|connection| connection.0).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_comes_out_once_when_due_and_not_before() {
        let mut wheel = Wheel::new(Instant::now());
        let start = wheel.tick(Instant::now());
        let delays = [0, 5, 10, 999, 10_240, 25_000, 3_600_000];
        for (connection, millis) in (0..).zip(delays) {
            wheel.set(ConnectionId(connection), start.after(Duration::from_millis(millis)));
        }

        let mut out = Vec::new();
        while out.len() < delays.len() {
            let at = wheel.wake_at().expect("somebody is left");
            tokio::time::sleep_until(at).await;
            let now = wheel.tick(Instant::now());
            for connection in due(&mut wheel, now) {
                let index = usize::try_from(connection).expect("an index");
                let late = now.since(start).saturating_sub(Duration::from_millis(delays[index]));
                assert!(now.since(start) >= Duration::from_millis(delays[index]));
                assert!(late <= 2 * TICK, "{connection} is {late:?} late");
                out.push(connection);
            }
        }

        assert_eq!(out, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(wheel.wake_at(), None);
    }

    #[test]
    fn a_long_sleep_misses_nobody() {
        let mut wheel = Wheel::new(Instant::now());
        for connection in 0..3_000 {
            wheel.set(ConnectionId(connection), Tick(u32::try_from(connection).expect("small")));
        }

        assert_eq!(due(&mut wheel, Tick(5_000)).len(), 3_000);
        wheel.set(ConnectionId(9), Tick(7));
        assert_eq!(due(&mut wheel, Tick(5_001)), [9], "what has passed comes out at once");
    }

    #[test]
    fn ticks_are_in_order_around_the_wrap() {
        let late = Tick(u32::MAX - 1);
        let wrapped = late.after(Duration::from_millis(50));

        assert!(late.before(wrapped));
        assert!(!wrapped.is_due(late));
        assert_eq!(wrapped.earlier(late), late);
        assert_eq!(wrapped.since(late), Duration::from_millis(60));
    }
}
