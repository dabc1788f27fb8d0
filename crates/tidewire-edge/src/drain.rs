//! Leaving without losing anyone.
//!
//! Not ready, so that balancers send nobody new; then, client by client, a hint to open a connection
//! elsewhere and resume there, with a window in which this one is still served; then a close for
//! whoever is left. Everybody's session is in the store all along, so a client that takes the hint
//! loses nothing, and neither does one that does not.

use std::time::Duration;

use tidewire_model::{ConnectionId, Disconnect};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::registry::Control;
use crate::{DrainConfig, Edge, metrics};

/// How far a node is on its way out.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Phase {
    #[default]
    Serving,
    /// It says that it is not ready, and still takes whoever comes.
    Announced,
    /// It takes nobody new, whose handshake is under way included, and serves those it has.
    Refusing,
    /// It asks them to move.
    Migrating,
    /// It disconnects whoever is left.
    Closing,
}

/// Clients are asked to move in slices of this length.
const SLICE: Duration = Duration::from_millis(SLICE_MILLIS);
const SLICE_MILLIS: u64 = 50;
/// A whole node takes at least this long.
const SHORTEST: Duration = Duration::from_secs(2);
/// Asking everybody ends at least this long before the deadline.
const RESERVE: Duration = Duration::from_secs(15);
/// How long those who are disconnected have to say goodbye.
const GOODBYES: Duration = Duration::from_secs(8);

impl Edge {
    /// Leaves: returns when every connection has ended, goodbyes included, at the latest eight
    /// seconds after the deadline: what is left then ends with the process. `hurry` skips to
    /// disconnecting whoever is left.
    ///
    /// Not to be cancelled: clients that were asked to move would find nobody to let them go.
    pub async fn drain(&self, hurry: &CancellationToken) {
        let started = Instant::now();
        let config = self.0.config.drain;
        metrics::drain_remaining(self.connections());
        tracing::info!(connections = self.connections(), "drain begins");
        let migration = async {
            self.enter(Phase::Announced);
            tokio::time::sleep(config.announce).await;
            self.enter(Phase::Refusing);
            self.0.registry.tell_all(Control::Refuse).await;
            self.enter(Phase::Migrating);
            self.ask_to_move(config, started + config.deadline).await;
            self.0.emptied().await;
        };
        tokio::select! {
            () = migration => {}
            () = tokio::time::sleep_until(started + config.deadline) => {}
            () = hurry.cancelled() => {}
        }
        self.disconnect_the_rest().await;
        metrics::drain_ended(started.elapsed());
        tracing::info!(took = ?started.elapsed(), "drain is done");
    }

    fn enter(&self, phase: Phase) {
        self.0.phase.send_replace(phase);
    }

    /// Whether the node has begun to leave.
    pub fn is_draining(&self) -> bool {
        *self.0.phase.borrow() > Phase::Serving
    }

    async fn ask_to_move(&self, config: DrainConfig, deadline: Instant) {
        let connections = self.0.registry.ids().await;
        let mut pace = Pace::new(connections.len(), config, deadline - Instant::now());
        tracing::info!(
            connections = connections.len(),
            per_second = pace.per_second,
            "asking clients to move"
        );
        let mut slices = tokio::time::interval(SLICE);
        let mut unasked = &connections[..];
        while !unasked.is_empty() {
            slices.tick().await;
            let (slice, rest) = unasked.split_at(pace.next_slice().min(unasked.len()));
            self.ask_slice(slice, config.window).await;
            unasked = rest;
        }
    }

    /// Spreads a slice's clients over its length.
    async fn ask_slice(&self, slice: &[ConnectionId], window: Duration) {
        let count = u32::try_from(slice.len()).unwrap_or(u32::MAX).max(1);
        for (index, connection) in (0..).zip(slice) {
            let after = SLICE * index / count;
            self.0.registry.tell(*connection, Control::Move { after, window }).await;
        }
        metrics::drain_remaining(self.connections());
    }

    async fn disconnect_the_rest(&self) {
        self.enter(Phase::Closing);
        let left = self.connections();
        metrics::drain_killed(left);
        let goodbyes = async {
            if left > 0 {
                tracing::warn!(connections = left, "disconnecting whoever is left");
                self.0.registry.tell_all(Control::Close(Disconnect::Draining)).await;
            }
            self.0.emptied().await;
        };
        // Whoever does not make it resumes all the same.
        drop(tokio::time::timeout(GOODBYES, goodbyes).await);
    }
}

/// How quickly clients are asked to move.
#[derive(Debug)]
struct Pace {
    per_second: u32,
    /// Thousandths of a client that slices before had to leave over.
    carried: u64,
}

impl Pace {
    /// As quickly as configured, but never a whole node in less than two seconds; quicker than
    /// configured if the deadline leaves no other way.
    fn new(connections: usize, config: DrainConfig, left: Duration) -> Self {
        let connections = u32::try_from(connections).unwrap_or(u32::MAX);
        let gentle = config.rate.min(per_second(connections, SHORTEST));
        let needed = per_second(connections, left.saturating_sub(RESERVE).max(SHORTEST));
        if needed > config.rate {
            tracing::warn!(
                needed,
                configured = config.rate,
                "drain is quicker than configured, or it would miss its deadline"
            );
        }
        // All but a whole one, so that a lone client is asked in the first slice.
        Self { per_second: gentle.max(needed).max(1), carried: 999 }
    }

    /// How many clients the next slice asks: over a second, exactly the pace.
    fn next_slice(&mut self) -> usize {
        let thousandths = self.carried + u64::from(self.per_second) * SLICE_MILLIS;
        self.carried = thousandths % 1_000;
        usize::try_from(thousandths / 1_000).unwrap_or(usize::MAX)
    }
}

fn per_second(count: u32, within: Duration) -> u32 {
    let millis = within.as_millis().max(1);
    u32::try_from((u128::from(count) * 1_000).div_ceil(millis)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(connections: usize, rate: u32, seconds: u64) -> u32 {
        let config = DrainConfig { rate, ..DrainConfig::default() };
        Pace::new(connections, config, Duration::from_secs(seconds)).per_second
    }

    #[test]
    fn a_small_node_takes_two_seconds_and_a_large_one_keeps_the_configured_rate() {
        assert_eq!(pace(100, 2_000, 120), 50);
        assert_eq!(pace(100_000, 2_000, 120), 2_000);
        assert_eq!(pace(0, 2_000, 120), 1);
    }

    #[test]
    fn slices_add_up_to_the_pace_and_the_first_asks_somebody() {
        for per_second in [1, 19, 39, 50, 2_001] {
            let mut pace = Pace { per_second, ..Pace::new(0, DrainConfig::default(), SHORTEST) };

            let slices: Vec<_> = (0..1_000 / SLICE_MILLIS).map(|_| pace.next_slice()).collect();

            assert_eq!(slices.iter().sum::<usize>(), per_second as usize, "{slices:?}");
            assert!(slices[0] > 0, "{slices:?}");
        }
    }

    #[test]
    fn the_deadline_is_kept_even_if_that_takes_more_than_the_configured_rate() {
        assert_eq!(pace(100_000, 500, 65), 2_000);
    }
}
