use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::cluster::{Cluster, Setup};
use crate::crowd::{Crowd, Outcome, Size};

/// A cluster and a crowd that is at work on it.
pub struct Stage {
    pub cluster: Cluster,
    pub crowd: Crowd,
}

/// The drain's deadline: a node has ended by then, always.
const LEFT_WITHIN: Duration = Duration::from_secs(30);
/// What a crowd publishes before anything goes wrong, and after it has been mended: seconds of its
/// rate.
const STEADY_SECONDS: u64 = 2;

impl Stage {
    /// Starts the cluster, gathers the crowd, and lets it work for a moment.
    pub async fn set(setup: Setup, size: Size) -> Result<Self> {
        let cluster = Cluster::start(setup).await?;
        let crowd = Crowd::gather(size, &cluster).await?;
        let stage = Self { cluster, crowd };
        stage.steady(size).await?;
        Ok(stage)
    }

    /// Waits until publications have gone on for a moment.
    pub async fn steady(&self, size: Size) -> Result<()> {
        self.crowd.progress(u64::from(size.rate) * STEADY_SECONDS).await
    }

    /// Sends SIGTERM to a node and waits for its end.
    pub async fn leave(&mut self, node: usize) -> Result<Duration> {
        let mut leaver = self.cluster.nodes[node].take().context("it is there")?;
        leaver.terminate()?;
        leaver.ended(LEFT_WITHIN).await
    }

    /// Ends publishing and judges.
    pub async fn judge(self) -> Result<(Cluster, Outcome)> {
        let outcome = self.crowd.disperse(&self.cluster).await?;
        Ok((self.cluster, outcome))
    }
}
