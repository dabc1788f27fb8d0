//! What happens to NATS.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::cluster::{Cluster, Setup};
use crate::crowd::Size;
use crate::stage::Stage;

/// What a NATS server that dies may add to a delivery.
const EXTRA: Duration = Duration::from_secs(2);

/// Row 11: a server that nodes are connected to is killed, and comes back.
pub(super) async fn one_killed(setup: Setup, size: Size) -> Result<String> {
    let mut stage = Stage::set(setup, size).await?;
    let server = busiest(&stage.cluster).context("nodes are connected to NATS")?;

    let begun = stage.crowd.now();
    stage.cluster.nats[server].kill();
    stage.steady(size).await?;
    stage.cluster.nats[server].restart().await;
    stage.steady(size).await?;
    let mended = stage.crowd.now();

    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    let longest = outcome.wait(begun..mended, 100);
    ensure!(longest <= EXTRA, "a delivery took {longest:?}");
    Ok(format!("longest delivery {longest:.0?}; {outcome}"))
}

/// The server that most connections of nodes go to.
fn busiest(cluster: &Cluster) -> Option<usize> {
    let connections = |server: &usize| -> usize {
        cluster.nats_links.iter().map(|links| links[*server].connections()).sum()
    };
    (0..cluster.nats.len()).max_by_key(connections).filter(|server| connections(server) > 0)
}
