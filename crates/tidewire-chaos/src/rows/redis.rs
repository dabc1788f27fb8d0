//! What happens to Redis.

use std::time::Duration;

use anyhow::{Result, ensure};
use tidewire_client::Happening;
use tidewire_model::{GapReason, Recovery};

use super::{happening, next_publication, reader};
use crate::cluster::{Cluster, Setup, TENANTS};
use crate::crowd::{Crowd, LIVELINESS, Size};
use crate::http;
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

    kill_ahead_of_replica(&mut stage, size).await?;
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

/// Kills the primary under load while its replica is behind.
async fn kill_ahead_of_replica(stage: &mut Stage, size: Size) -> Result<()> {
    let late = [Duration::ZERO, BEHIND];
    let rules = Rules { delay: late, scope: Scope::Replication, ..Rules::default() };
    stage.cluster.redis_links[0].set(rules);
    stage.steady(size).await?;
    stage.cluster.redis[0].kill();
    // With it dies what it had sent and the replica had not received.
    stage.cluster.redis_links[0].reset();
    Ok(())
}

/// Row 17: the primary dies, and its replica has everything.
pub(super) async fn replica_current(setup: Setup, size: Size) -> Result<String> {
    let mut stage = Stage::set(setup, size).await?;

    // Nothing is written while the replica catches up.
    stage.cluster.redis[0].command(&["CLIENT", "PAUSE", "5000", "WRITE"]).await?;
    let cluster = &stage.cluster;
    until("a replica that has everything", LIVELINESS, async || {
        let [written, copied] = [0, 1].map(|server| offset(cluster, server));
        let (written, copied) = tokio::join!(written, copied);
        written.is_some() && written == copied
    })
    .await?;
    stage.cluster.redis[0].kill();
    stage.cluster.until_primary(1).await?;
    stage.steady(size).await?;

    let lives = lives(&stage.crowd);
    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    ensure!(lives > 1, "the log noticed nothing");
    ensure!(outcome.verdict.gaps.is_empty(), "somebody was told: {}", outcome.verdict);
    Ok(outcome.to_string())
}

/// How much of the replication stream a server has written, or copied.
async fn offset(cluster: &Cluster, server: usize) -> Option<u64> {
    let told = cluster.redis[server].command(&["INFO", "replication"]).await.ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix("master_repl_offset:"))?;
    line.trim().parse().ok()
}

/// Row 19: as row 18, and with the primary dies a node that had acknowledged what is lost. It may be
/// lost, and nobody is left in the dark.
pub(super) async fn replica_and_node(setup: Setup, size: Size) -> Result<String> {
    let mut stage = Stage::set(setup, size).await?;

    let late = [Duration::ZERO, BEHIND];
    let rules = Rules { delay: late, scope: Scope::Replication, ..Rules::default() };
    stage.cluster.redis_links[0].set(rules);
    stage.steady(size).await?;
    stage.cluster.redis[0].kill();
    stage.cluster.redis_links[0].reset();
    stage.cluster.kill_node(0)?;
    stage.cluster.until_primary(1).await?;
    stage.steady(size).await?;

    let lives = lives(&stage.crowd);
    let (_, outcome) = stage.judge().await?;
    ensure!(outcome.verdict.is_loss_only(), "{}", outcome.verdict);
    outcome.check_clients()?;
    ensure!(lives > 1, "the log noticed nothing");
    Ok(outcome.to_string())
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

/// Row 21: everything is gone. Whoever listens is told, and what comes after that is heard.
pub(super) async fn emptied(setup: Setup, size: Size) -> Result<String> {
    let stage = Stage::set(Setup { down_after: NO_FAILOVER, ..setup }, size).await?;

    stage.cluster.redis[0].command(&["FLUSHALL"]).await?;
    let crowd = &stage.crowd;
    until("a new life of the log", LIVELINESS, async || lives(crowd) > 1).await?;
    stage.steady(size).await?;

    let (_, outcome) = stage.judge().await?;
    ensure!(outcome.verdict.is_loss_only(), "{}", outcome.verdict);
    outcome.check_clients()?;
    let told = outcome.verdict.gaps("reset");
    ensure!(told >= u64::from(size.listeners), "{told} were told: {}", outcome.verdict);
    Ok(outcome.to_string())
}

/// Row 24: it does not answer for five seconds.
pub(super) async fn stopped(setup: Setup, size: Size) -> Result<String> {
    let stage = Stage::set(Setup { down_after: NO_FAILOVER, ..setup }, size).await?;

    stage.cluster.redis[0].pause();
    stage.crowd.go_on_for(Duration::from_secs(5)).await;
    stage.cluster.redis[0].resume();
    stage.steady(size).await?;

    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    outcome.check_sessions()?;
    Ok(outcome.to_string())
}

/// Row 25: it has no memory left for five seconds.
pub(super) async fn full(setup: Setup, size: Size) -> Result<String> {
    let stage = Stage::set(Setup { down_after: NO_FAILOVER, ..setup }, size).await?;

    stage.cluster.redis[0].command(&["CONFIG", "SET", "maxmemory", "1"]).await?;
    stage.crowd.go_on_for(Duration::from_secs(5)).await;
    stage.cluster.redis[0].command(&["CONFIG", "SET", "maxmemory", "0"]).await?;
    stage.steady(size).await?;

    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    outcome.check_sessions()?;
    Ok(outcome.to_string())
}

/// Row 27: it forgets its functions every second, for ten.
pub(super) async fn functions_flushed(setup: Setup, size: Size) -> Result<String> {
    let stage = Stage::set(setup, size).await?;

    for _ in 0..10 {
        stage.cluster.redis[0].command(&["FUNCTION", "FLUSH"]).await?;
        stage.cluster.redis[0].command(&["SCRIPT", "FLUSH"]).await?;
        stage.crowd.go_on_for(Duration::from_secs(1)).await;
    }
    stage.steady(size).await?;

    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    Ok(outcome.to_string())
}

/// Row 28: more was published while a client was away than the channel keeps.
pub(super) async fn trimmed(setup: Setup, _: Size) -> Result<String> {
    let cluster = Cluster::start(Setup { history: 10, ..setup }).await?;
    let place = (TENANTS[0], "orders");
    let address = cluster.node(1)?.clients();
    let mut client = reader(&cluster, place).await?;

    client.cut();
    // Redis trims by whole nodes of a hundred.
    for number in 1..=350 {
        http::publish(address, place, &number.to_string(), "away").await?;
    }
    let subscribed = happening(&mut client, |it| matches!(it, Happening::Subscribed(_))).await?;
    http::publish(address, place, "last", "live").await?;
    let live = async {
        loop {
            let publication = next_publication(&mut client).await?;
            if publication.payload.bytes() == "\"live\"" {
                return anyhow::Ok(publication.position);
            }
        }
    };
    let live = live.await?;

    let Happening::Subscribed(subscribed) = subscribed else { unreachable!("waited for") };
    let told = subscribed.recovery;
    ensure!(told == Recovery::Failed(GapReason::Window), "{told:?}");
    ensure!(live.offset == 352, "heard at {live}");
    Ok(format!("told {told:?}, then live at {live}"))
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
