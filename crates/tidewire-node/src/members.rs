use std::sync::Arc;
use std::time::Duration;

use tidewire_model::NodeId;
use tidewire_store::{Membership, NodeLease};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::shard::Suspicion;

/// Says what this node's lease should hold now.
pub type LeaseReport = Box<dyn Fn() -> NodeLease + Send + Sync>;

/// Renews this node's lease and watches the others'.
pub(crate) struct Keeper {
    pub(crate) node: NodeId,
    pub(crate) membership: Arc<dyn Membership>,
    pub(crate) report: LeaseReport,
    pub(crate) members: watch::Sender<Vec<NodeLease>>,
    pub(crate) suspicions: Vec<Arc<Suspicion>>,
}

const RENEW_EVERY: Duration = Duration::from_secs(2);
/// Three renewals may fail before a node is taken for dead.
const TTL: Duration = Duration::from_secs(6);

pub(crate) async fn run(keeper: Keeper, stop: CancellationToken) {
    let mut renewal = tokio::time::interval(RENEW_EVERY);
    renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = renewal.tick() => keeper.renew().await,
        }
    }
    if let Err(error) = keeper.membership.withdraw(&keeper.node).await {
        tracing::debug!(%error, "cannot withdraw the lease; it runs out by itself");
    }
}

impl Keeper {
    async fn renew(&self) {
        let lease = NodeLease { beats: true, ..(self.report)() };
        let renewed = self.membership.renew(&lease, TTL).await;
        let members = match renewed {
            Ok(()) => self.membership.members().await,
            Err(error) => Err(error),
        };
        match members {
            Ok(members) => self.replace(members),
            // The members known so far stay: an unreachable store says nothing about the nodes.
            Err(error) => tracing::debug!(%error, "cannot renew the lease"),
        }
    }

    /// A node that has gone may have died between appending a publication and passing it on, so its
    /// going is a reason to compare positions.
    fn replace(&self, members: Vec<NodeLease>) {
        let mut someone_left = false;
        self.members.send_if_modified(|known| {
            let is_gone = |old: &NodeLease| !members.iter().any(|new| new.node == old.node);
            someone_left = known.iter().any(is_gone);
            let is_news = *known != members;
            *known = members;
            is_news
        });
        if someone_left {
            self.suspicions.iter().for_each(|shard| shard.raise());
        }
    }
}
