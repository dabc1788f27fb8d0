//! What happens when clocks are wrong.

use anyhow::{Result, bail, ensure};
use tidewire_client::{Connection, OpenError};
use tidewire_model::ErrorCode;

use super::redis::{check_newest_life, lives};
use crate::cluster::{Cluster, FAILOVER, Setup, TENANTS};
use crate::crowd::Size;
use crate::stage::Stage;

const HOUR: i64 = 3_600;

/// Row 37: the clocks of two nodes jump by an hour, one ahead and one back; then those of Redis, and
/// it fails over under each of them. Only tokens are judged by the clock of a node.
pub(super) async fn jumped(setup: Setup, size: Size) -> Result<String> {
    // What Redis keeps it keeps by its own clock.
    let setup = Setup { down_after: FAILOVER, has_clocks: true, history_ttl: "3h", ..setup };
    let mut stage = Stage::set(setup, size).await?;

    let clocks = stage.cluster.clocks()?;
    clocks.nodes[0].set(HOUR)?;
    clocks.nodes[1].set(-HOUR)?;
    stage.steady(size).await?;
    check_tokens(&stage.cluster).await?;
    // Those of the node whose clock is right go on at the others.
    stage.cluster.kill_node(2)?;
    stage.steady(size).await?;
    stage.cluster.restart_node(2).await?;
    let moved = stage.crowd.counts();
    ensure!(moved.lost > 0 && moved.begun_anew == 0, "sessions were begun anew: {moved:?}");

    set_redis(&stage.cluster, HOUR)?;
    stage.steady(size).await?;
    fail_over(&mut stage, 0, size).await?;
    stage.cluster.redis[0].restart().await;
    stage.cluster.until_followed(1).await?;
    set_redis(&stage.cluster, -HOUR)?;
    stage.steady(size).await?;
    fail_over(&mut stage, 1, size).await?;
    // Redis has forgotten its sessions, and it cannot write them again: its clients begin anew.
    stage.cluster.kill_node(0)?;
    stage.steady(size).await?;

    let lives = lives(&stage.crowd);
    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    check_newest_life(&outcome)?;
    ensure!(lives == 3, "{lives} lives of the log where Redis failed over twice");
    Ok(format!("{} resumed at nodes two hours apart; {lives} lives; {outcome}", moved.resumed))
}

fn set_redis(cluster: &Cluster, ahead: i64) -> Result<()> {
    cluster.clocks()?.redis.iter().try_for_each(|clock| clock.set(ahead))
}

/// Kills the primary, and waits until publications go on at the other server.
async fn fail_over(stage: &mut Stage, primary: usize, size: Size) -> Result<()> {
    stage.cluster.redis[primary].kill();
    stage.cluster.until_primary(1 - primary).await?;
    stage.steady(size).await
}

/// Whether tokens that end half an hour from now, or did half an hour ago, are good is for the clock
/// of each node to say: an hour ahead, an hour behind, and right.
async fn check_tokens(cluster: &Cluster) -> Result<()> {
    const HALF: i64 = HOUR / 2;

    for (node, seconds, is_good) in [
        (0, HALF, false),
        (1, HALF, true),
        (2, HALF, true),
        (0, -HALF, false),
        (1, -HALF, true),
        (2, -HALF, false),
    ] {
        let options = cluster.options_for(TENANTS[0], "ann", node, seconds);
        match Connection::open(&options, 0, None).await {
            Ok((connection, _)) => {
                connection.close().await;
                ensure!(is_good, "node {node} takes a token of {seconds} s");
            }
            Err(OpenError::Refused { refusal, .. })
                if refusal.code == ErrorCode::TokenExpired.number() =>
            {
                ensure!(!is_good, "node {node} takes no token of {seconds} s");
            }
            Err(error) => bail!(error),
        }
    }
    Ok(())
}
