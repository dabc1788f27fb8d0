//! A node that has more than its share of the clients, and lets others have some.
//!
//! The hint is that of a drain and the client does the same; but nobody has to go, and not much is asked of
//! anybody: a few in a second, with little to resume, that were never asked before.

mod ease;
mod moves;
mod shed;

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

pub(crate) use self::ease::{Ease, LOOKED_AT, easiest};
pub(crate) use self::moves::Moves;
use self::shed::{Shed, Standing};
use crate::registry::{Cause, Control, Hint};
use crate::{Edge, metrics};

const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Edge {
    /// Sheds clients to other nodes while this one has too many, if it is configured to, until `stop` or
    /// until it leaves. Once for each edge.
    pub async fn rebalance(&self, stop: CancellationToken) {
        let Some(config) = self.0.config.placement.rebalance else { return };
        let mut shed = Shed::new(config, Instant::now());
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            if self.is_draining() {
                return;
            }
            let most = self.look_at_balance(&mut shed);
            // Nobody could take up a session elsewhere, or again here.
            if most > 0 && self.0.node.sessions_in_reach().await {
                self.ask_some_to_go(most).await;
            }
        }
    }

    /// How many clients are to be asked in this second.
    fn look_at_balance(&self, shed: &mut Shed) -> usize {
        let (now, node) = (Instant::now(), &self.0.node);
        let (underway, fates) = self.0.moves.look(now);
        let was_resting = shed.is_resting();
        if shed.heed(now, fates) {
            tracing::warn!(
                "rebalancing rests for ten minutes: most clients that were asked to go elsewhere stayed or came \
                 back; have the balancer prefer nodes with few connections, or nodes say where they are reached \
                 (`server.advertise`)"
            );
        }
        let clients = self.connections() as u64;
        let standing = Standing::of(node.id(), &node.members(), clients, underway);
        let most = shed.look(now, standing);
        metrics::rebalance_excess(standing.map_or(0, Standing::excess));
        if shed.is_resting() != was_resting {
            metrics::rebalance_rests(shed.is_resting());
        }
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// Spreads them over the second.
    async fn ask_some_to_go(&self, most: usize) {
        let connections = self.0.registry.easiest(most).await;
        let count = u32::try_from(connections.len()).unwrap_or(u32::MAX).max(1);
        tracing::debug!(count = connections.len(), "asking clients to go to nodes that have fewer");
        let window = self.0.config.drain.window;
        for (index, connection) in (0..).zip(connections) {
            let hint = Hint { cause: Cause::Share, after: LOOK_EVERY * index / count, window };
            self.0.registry.tell(connection, Control::Move(hint)).await;
        }
    }
}
