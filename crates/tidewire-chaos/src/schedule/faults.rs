use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tidewire_testkit::services::NatsServer;
use tidewire_witness::Random;

use crate::cluster::{Cluster, NODES};
use crate::proxy::{Rules, Scope};

/// What can go wrong, and mends by itself or is mended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// SIGKILL, and a new process afterwards.
    NodeKilled(usize),
    /// SIGSTOP, and SIGCONT afterwards.
    NodePaused(usize),
    /// SIGTERM, and a new process afterwards.
    NodeDrained(usize),
    NatsKilled(usize),
    AllNatsKilled,
    NatsPaused(usize),
    /// The servers do not hear each other.
    RoutesCut,
    /// One node reads and writes a kilobyte a second over NATS.
    NatsSlow(usize),
    /// What one node publishes over NATS comes later.
    NatsLate {
        node: usize,
        ms: u64,
    },
    /// SIGKILL; its replica, so far behind, is promoted.
    PrimaryKilled {
        behind_ms: u64,
    },
    /// SIGSTOP long enough for its replica to be promoted; afterwards it is still a primary to itself.
    PrimaryPaused,
    /// One of so many answers does not arrive.
    RepliesLost {
        every: u32,
    },
    FunctionsFlushed,
    /// Clients of one node hear nothing of it, nor it of them.
    ClientsCutOff(usize),
    /// Clients of one node lose their connections.
    ClientsReset(usize),
}

impl Kind {
    /// One of a class: what befalls nodes, NATS, Redis or clients.
    pub(super) fn draw(class: u32, random: &mut Random) -> Self {
        let node = random.below(NODES);
        let few = random.below(400);
        let few_ms = u64::try_from(few).expect("small");
        let kinds: &[Self] = match class {
            0 => &[Self::NodeKilled(node), Self::NodePaused(node), Self::NodeDrained(node)],
            1 => &[
                Self::NatsKilled(node),
                Self::AllNatsKilled,
                Self::NatsPaused(node),
                Self::RoutesCut,
                Self::NatsSlow(node),
                Self::NatsLate { node, ms: few_ms },
            ],
            2 => &[
                Self::PrimaryKilled { behind_ms: few_ms },
                Self::PrimaryPaused,
                Self::RepliesLost { every: 20 + u32::try_from(few / 10).expect("small") },
                Self::FunctionsFlushed,
            ],
            _ => &[Self::ClientsCutOff(node), Self::ClientsReset(node)],
        };
        kinds[random.below(kinds.len())]
    }

    /// Whether Redis gets another primary by it.
    pub(super) fn is_failover(self) -> bool {
        matches!(self, Self::PrimaryKilled { .. } | Self::PrimaryPaused)
    }

    /// Whether what a node remembers is gone with it.
    pub(super) fn ends_a_node(self) -> bool {
        matches!(self, Self::NodeKilled(_) | Self::NodeDrained(_))
    }

    pub(super) async fn begin(self, cluster: &mut Cluster) -> Result<()> {
        let both = |delay| Rules { delay: [delay; 2], ..Rules::default() };
        match self {
            Self::NodeKilled(node) => cluster.kill_node(node)?,
            Self::NodePaused(node) => cluster.node(node)?.pause()?,
            Self::NodeDrained(node) => cluster.node(node)?.terminate()?,
            Self::NatsKilled(server) => cluster.nats[server].kill(),
            Self::AllNatsKilled => cluster.nats.iter_mut().for_each(NatsServer::kill),
            Self::NatsPaused(server) => cluster.nats[server].pause(),
            Self::RoutesCut => {
                let rules = Rules { is_black_hole: [true; 2], ..Rules::default() };
                cluster.routes.iter().for_each(|route| route.set(rules.clone()));
            }
            Self::NatsSlow(node) => {
                let rules = Rules { bytes_per_second: [Some(1_000); 2], ..Rules::default() };
                cluster.nats_links[node].iter().for_each(|link| link.set(rules.clone()));
            }
            Self::NatsLate { node, ms } => {
                let rules = both(Duration::from_millis(ms));
                cluster.nats_links[node].iter().for_each(|link| link.set(rules.clone()));
            }
            Self::PrimaryKilled { behind_ms } => fail_over(cluster, behind_ms).await?,
            Self::PrimaryPaused => {
                let primary = cluster.primary().await.context("there is a primary")?;
                cluster.redis[primary].pause();
                cluster.until_primary(1 - primary).await?;
            }
            Self::RepliesLost { every } => {
                let rules = Rules { cut_reply_every: Some(every), ..Rules::default() };
                cluster.redis_links.iter().for_each(|link| link.set(rules.clone()));
            }
            Self::FunctionsFlushed => flush_functions(cluster).await,
            Self::ClientsCutOff(node) => {
                let rules = Rules { is_black_hole: [true; 2], ..Rules::default() };
                cluster.client_links[node].set(rules);
            }
            Self::ClientsReset(node) => cluster.client_links[node].reset(),
        }
        Ok(())
    }

    pub(super) async fn mend(self, cluster: &mut Cluster) -> Result<()> {
        match self {
            Self::NodeKilled(node) => cluster.begin_node(node).await?,
            Self::NodePaused(node) => cluster.node(node)?.go_on()?,
            Self::NodeDrained(node) => {
                let mut leaver = cluster.nodes[node].take().context("it is there")?;
                leaver.ended(DRAINED_WITHIN).await?;
                cluster.begin_node(node).await?;
            }
            Self::NatsKilled(server) => cluster.nats[server].restart().await,
            Self::AllNatsKilled => {
                for server in &mut cluster.nats {
                    server.restart().await;
                }
            }
            Self::NatsPaused(server) => cluster.nats[server].resume(),
            Self::RoutesCut => cluster.routes.iter().for_each(crate::Proxy::heal),
            Self::NatsSlow(node) | Self::NatsLate { node, .. } => {
                cluster.nats_links[node].iter().for_each(crate::Proxy::heal);
            }
            Self::PrimaryKilled { .. } => {
                let primary = cluster.primary().await.context("there is a primary")?;
                cluster.redis[1 - primary].restart().await;
                cluster.until_followed(primary).await?;
            }
            Self::PrimaryPaused => {
                let primary = cluster.primary().await.context("there is a primary")?;
                cluster.redis[1 - primary].resume();
                cluster.until_followed(primary).await?;
            }
            Self::RepliesLost { .. } => {
                cluster.redis_links.iter().for_each(crate::Proxy::heal);
            }
            Self::FunctionsFlushed => flush_functions(cluster).await,
            Self::ClientsCutOff(node) => {
                // Those that gave up have gone elsewhere; their old connections end only now.
                cluster.client_links[node].reset();
                cluster.client_links[node].heal();
            }
            Self::ClientsReset(_) => {}
        }
        Ok(())
    }
}

/// The drain's deadline, with what its end may take.
const DRAINED_WITHIN: Duration = Duration::from_secs(45);

/// Kills the primary with what its replica has not got.
async fn fail_over(cluster: &mut Cluster, behind_ms: u64) -> Result<()> {
    let primary = cluster.primary().await.context("there is a primary")?;
    let behind = Duration::from_millis(behind_ms);
    let link = &cluster.redis_links[primary];
    let delay = [Duration::ZERO, behind];
    link.set(Rules { delay, scope: Scope::Replication, ..Rules::default() });
    // Long enough for what is under way to be late.
    tokio::time::sleep(behind * 3).await;
    cluster.redis[primary].kill();
    cluster.redis_links[primary].reset();
    cluster.redis_links[primary].heal();
    cluster.until_primary(1 - primary).await?;
    Ok(())
}

async fn flush_functions(cluster: &Cluster) {
    for server in &cluster.redis {
        // Whoever is not there, or follows another, has nothing to forget.
        drop(server.command(&["FUNCTION", "FLUSH"]).await);
        drop(server.command(&["SCRIPT", "FLUSH"]).await);
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeKilled(node) => write!(f, "node {node} is killed"),
            Self::NodePaused(node) => write!(f, "node {node} is stopped"),
            Self::NodeDrained(node) => write!(f, "node {node} drains"),
            Self::NatsKilled(server) => write!(f, "NATS {server} is killed"),
            Self::AllNatsKilled => write!(f, "all of NATS is killed"),
            Self::NatsPaused(server) => write!(f, "NATS {server} is stopped"),
            Self::RoutesCut => write!(f, "the routes of NATS are cut"),
            Self::NatsSlow(node) => write!(f, "NATS is slow to node {node}"),
            Self::NatsLate { node, ms } => write!(f, "NATS is {ms} ms late to node {node}"),
            Self::PrimaryKilled { behind_ms } => {
                write!(f, "the Redis primary is killed, its replica {behind_ms} ms behind")
            }
            Self::PrimaryPaused => write!(f, "the Redis primary is stopped"),
            Self::RepliesLost { every } => write!(f, "one answer of {every} of Redis is lost"),
            Self::FunctionsFlushed => write!(f, "Redis forgets its functions"),
            Self::ClientsCutOff(node) => write!(f, "clients of node {node} are cut off"),
            Self::ClientsReset(node) => write!(f, "clients of node {node} lose their connections"),
        }
    }
}
