//! Whether this node hears the others, which is how it learns that the broker's network is broken
//! although its own connection looks well.
//!
//! Every node beats each second, the way publications go. A node whose lease lives but whose beats
//! are missing can be heard by nobody, or not by us: either way its publications do not arrive, and
//! this node asks the log for them until the beats are back. Each node judges by its own ears, so a
//! break in one direction is noticed where it matters.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics::Gauge;
use tidewire_broker::Broker;
use tidewire_model::NodeId;
use tidewire_store::NodeLease;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::shard::Suspicion;

/// When each node was last heard that ought to be heard: every other node with a live lease that
/// beats.
#[derive(Debug)]
pub(crate) struct Hearing {
    own: NodeId,
    /// Since when each has been silent, or a member, whichever is later.
    silent_since: HashMap<NodeId, Instant>,
}

/// What keeps publications from arriving.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Deafness {
    /// This node's own connection to the network is gone.
    Disconnected,
    /// Nothing has come from these, in the order of their names.
    Silence(Vec<NodeId>),
}

/// How often a node beats, and judges.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// How long a node with a live lease may be silent.
const SILENCE: Duration = Duration::from_secs(3);

impl Hearing {
    pub(crate) fn new(own: NodeId) -> Self {
        Self { own, silent_since: HashMap::new() }
    }

    /// Takes the live leases. A node that is new among them may still have to begin to beat.
    pub(crate) fn expect(&mut self, leases: &[NodeLease], now: Instant) {
        let others = || leases.iter().filter(|lease| lease.beats && lease.node != self.own);
        let known = &self.silent_since;
        self.silent_since = others()
            .map(|lease| (lease.node.clone(), known.get(&lease.node).copied().unwrap_or(now)))
            .collect();
    }

    /// Takes a beat. Whoever has no lease is not remembered, so that strangers fill no memory.
    pub(crate) fn heard(&mut self, node: &NodeId, now: Instant) {
        if let Some(since) = self.silent_since.get_mut(node) {
            *since = now;
        }
    }

    /// What keeps the publications of others from this node, if anything does. By itself a node
    /// misses nothing.
    pub(crate) fn judge(&self, is_connected: bool, now: Instant) -> Option<Deafness> {
        if self.silent_since.is_empty() {
            return None;
        }
        if !is_connected {
            return Some(Deafness::Disconnected);
        }
        let is_silent = |(_, since): &(&NodeId, &Instant)| **since + SILENCE < now;
        let silent = self.silent_since.iter().filter(is_silent);
        let mut silent: Vec<_> = silent.map(|(node, _)| node.clone()).collect();
        silent.sort_unstable();
        (!silent.is_empty()).then_some(Deafness::Silence(silent))
    }
}

/// Beats, listens, and tells the shards what follows.
pub(crate) struct Listener {
    pub(crate) hearing: Hearing,
    pub(crate) broker: Arc<dyn Broker>,
    /// Who was heard, from the router. What does not fit is dropped: it beats again.
    pub(crate) heard: mpsc::Receiver<NodeId>,
    pub(crate) members: watch::Receiver<Vec<NodeLease>>,
    /// Whether the shards have to ask the log for what the network does not bring.
    pub(crate) is_deaf: Arc<AtomicBool>,
    pub(crate) suspicions: Vec<Arc<Suspicion>>,
}

impl Listener {
    /// Runs until `stop`. In a task of its own: renewing the lease waits for the store, and a node
    /// that fell silent because of its store would be taken for one that cannot be heard.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let gauge = metrics::gauge!("tidewire_broker_deaf");
        let mut beat = tokio::time::interval(BEAT_EVERY);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // What has been heard is taken before anybody is judged by it.
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(node) = self.heard.recv() => self.hearing.heard(&node, Instant::now()),
                Ok(()) = self.members.changed() => {
                    let members = self.members.borrow_and_update();
                    self.hearing.expect(&members, Instant::now());
                }
                _ = beat.tick() => {
                    self.broker.beat();
                    self.judge(&gauge);
                }
            }
        }
    }

    fn judge(&self, gauge: &Gauge) {
        let health = self.broker.health();
        let deafness = self.hearing.judge(health.is_ok(), Instant::now());
        let was_deaf = self.is_deaf.swap(deafness.is_some(), Ordering::Relaxed);
        gauge.set(if deafness.is_some() { 1.0 } else { 0.0 });
        match (was_deaf, deafness) {
            (false, Some(deafness)) => {
                tracing::warn!(%deafness, "asking the log for what the broker does not bring");
            }
            (true, None) => {
                tracing::info!("the broker brings publications again");
                // Between the last question to the log and the first publication that came again.
                self.suspicions.iter().for_each(|shard| shard.raise());
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
}

impl std::fmt::Display for Deafness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Disconnected => f.write_str("no connection to the broker"),
            Self::Silence(nodes) => {
                f.write_str("nothing is heard from")?;
                nodes.iter().try_for_each(|node| write!(f, " {node}"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
