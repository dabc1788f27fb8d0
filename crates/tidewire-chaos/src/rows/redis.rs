//! What happens to Redis.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::cluster::Setup;
use crate::crowd::{Crowd, LIVELINESS, Size};
use crate::proxy::{Rules, Scope};
use crate::stage::Stage;
use crate::wait::until;

/// Sentinels that wait this long promote nobody in a row.
const NO_FAILOVER: Duration = Duration::from_mins(1);
/// How far behind a replica is.
const BEHIND: Duration = Duration::from_millis(300);

/// Row 7: of twenty answers one does not arrive, though what was asked for has been done.
pub(super) async fn replies_lost(setup: Setup, size: Size) -> Result<String> {
    const WANTED: u32 = 20;

    let stage = Stage::set(Setup { down_after: NO_FAILOVER, ..setup }, size).await?;

    let link = &stage.cluster.redis_links[0];
    let mut cut = link.replies_cut();
    link.set(Rules { cut_reply_every: Some(20), ..Rules::default() });
    tokio::time::timeout(NO_FAILOVER, cut.wait_for(|cut| *cut >= WANTED)).await??;
    link.heal();
    stage.steady(size).await?;

    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    Ok(format!("{WANTED} answers lost; {outcome}"))
}

/// Row 18: the primary dies with what its replica has not got. What was acknowledged is kept all the
/// same, and only those are set back who had heard what was lost.
pub(super) async fn replica_behind(setup: Setup, size: Size) -> Result<String> {
    let mut stage = Stage::set(setup, size).await?;

    let late = [Duration::ZERO, BEHIND];
    let rules = Rules { delay: late, scope: Scope::Replication, ..Rules::default() };
    stage.cluster.redis_links[0].set(rules);
    stage.steady(size).await?;
    stage.cluster.redis[0].kill();
    // With it dies what it had sent and the replica had not received.
    stage.cluster.redis_links[0].reset();
    let promoted = stage.cluster.until_primary(1).await?;
    stage.steady(size).await?;

    let lives = lives(&stage.crowd);
    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    ensure!(lives > 1, "the log noticed nothing");
    let rewinds = outcome.verdict.gaps("rewind");
    let promoted = promoted.as_secs_f64();
    Ok(format!("promoted after {promoted:.1} s, {rewinds} subscriptions rewound; {outcome}"))
}

/// Row 20: the process dies and starts again on the same files, before anybody is promoted.
pub(super) async fn restarted(setup: Setup, size: Size) -> Result<String> {
    let mut stage = Stage::set(Setup { down_after: NO_FAILOVER, ..setup }, size).await?;

    stage.cluster.redis[0].kill();
    stage.cluster.redis[0].restart().await;
    let crowd = &stage.crowd;
    let noticed = until("a new life of the log", LIVELINESS, async || lives(crowd) > 1).await?;
    stage.steady(size).await?;

    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    Ok(format!("a new life after {:.1} s; {outcome}", noticed.as_secs_f64()))
}

/// How many lives of the log acknowledged something.
fn lives(crowd: &Crowd) -> usize {
    let account = crowd.account();
    let account = account.lock();
    let mut lives: Vec<_> =
        account.acknowledgements().map(|(_, position, _)| position.epoch.incarnation()).collect();
    lives.sort_unstable();
    lives.dedup();
    lives.len()
}
