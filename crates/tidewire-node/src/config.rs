use std::time::Duration;

use tidewire_model::{LiveRules, NodeId, Random};

use crate::ring::RingLimits;
use crate::tail::TailLimits;

/// How a node runs.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub id: NodeId,
    /// How many tasks share the node's channels; one per core is right.
    pub shards: usize,
    pub ring_limits: RingLimits,
    pub tail_limits: TailLimits,
    /// How the channels of tenants are treated; the log and the edge need the same.
    pub rules: LiveRules,
    /// How long after a loss a session can be resumed.
    pub resume_window: Duration,
    /// Names sessions: the system, unless a run is to be repeated from a seed.
    pub random: Random,
}

impl NodeConfig {
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            shards: std::thread::available_parallelism().map_or(1, usize::from),
            ring_limits: RingLimits::default(),
            tail_limits: TailLimits::default(),
            rules: LiveRules::default(),
            resume_window: Duration::from_mins(2),
            random: Random::new(|| getrandom::u64().expect("the system has random numbers")),
        }
    }
}
