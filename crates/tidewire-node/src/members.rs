use std::sync::Arc;
use std::time::Duration;

use tidewire_model::{Live, NodeId};
use tidewire_store::{Membership, NodeLease};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::placement::Slots;
use crate::shard::Suspicion;

/// Says what this node's lease should hold now.
pub type LeaseReport = Box<dyn Fn() -> NodeLease + Send + Sync>;

/// Renews this node's lease and watches the others'.
pub(crate) struct Keeper {
    pub(crate) node: NodeId,
    pub(crate) membership: Arc<dyn Membership>,
    pub(crate) report: LeaseReport,
    pub(crate) members: watch::Sender<Vec<NodeLease>>,
    /// What follows from them for placement; nobody else replaces it.
    pub(crate) slots: Live<Slots>,
    pub(crate) suspicions: Vec<Arc<Suspicion>>,
    /// Something has changed that the others are to know at once.
    pub(crate) news: Arc<Notify>,
}

/// What a lease says of a node's load is this old at most when it is written, and when it is read.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// Five renewals may fail before a node is taken for dead.
const TTL: Duration = Duration::from_secs(6);

pub(crate) async fn run(keeper: Keeper, stop: CancellationToken) {
    let mut renewal = tokio::time::interval(RENEW_EVERY);
    renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = renewal.tick() => keeper.renew().await,
            () = keeper.news.notified() => keeper.renew().await,
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
        if let Some(slots) = self.slots.read(|known| known.after(&self.node, &members)) {
            self.slots.replace(slots);
        }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tidewire_store::{MemoryMembership, NodeLoad, NodeState};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn news_are_written_at_once_and_everything_else_every_second() {
        let node = NodeId::parse("a").expect("a valid node");
        let (news, reports) = (Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)));
        let (members, mut seen) = watch::channel(Vec::new());
        let (named, counted) = (node.clone(), Arc::clone(&reports));
        let keeper = Keeper {
            node,
            membership: Arc::new(MemoryMembership::default()),
            report: Box::new(move || NodeLease {
                node: named.clone(),
                slot: None,
                state: NodeState::Ready,
                weight: 100,
                connections: counted.fetch_add(1, Ordering::SeqCst),
                started_at_ms: 0,
                beats: false,
                load: NodeLoad::default(),
                url: None,
            }),
            members,
            slots: Live::new(Slots::unknown()),
            suspicions: Vec::new(),
            news: Arc::clone(&news),
        };
        let start = Instant::now();
        let mut when = async |connections| {
            let said =
                |members: &Vec<NodeLease>| members.iter().any(|l| l.connections == connections);
            seen.wait_for(said).await.expect("the keeper is there");
            start.elapsed()
        };
        let looking = async {
            let first = when(0).await;
            news.notify_one();
            [first, when(1).await, when(2).await]
        };

        let seen_at = tokio::select! {
            () = run(keeper, CancellationToken::new()) => unreachable!("it is not stopped"),
            seen_at = looking => seen_at,
        };

        assert_eq!(seen_at, [Duration::ZERO, Duration::ZERO, RENEW_EVERY]);
    }
}
