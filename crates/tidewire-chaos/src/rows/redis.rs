//! What happens to Redis.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidewire_client::{Channel, Command, Connection, Happening, HistoryQuery, ServerEvent};
use tidewire_model::{Direction, GapReason, Recovery};
use tokio::time::timeout;

use super::{happening, next_publication, owners, reader};
use crate::cluster::{Cluster, FAILOVER, Setup, TENANTS};
use crate::crowd::{Crowd, LIVELINESS, Outcome, Size};
use crate::http;
use crate::proxy::{Rules, Scope};
use crate::stage::Stage;
use crate::wait::until;

/// How far behind a replica is.
const BEHIND: Duration = Duration::from_millis(300);

/// Row 7: of twenty answers one does not arrive, though what was asked for has been done.
pub(super) async fn replies_lost(setup: Setup, size: Size) -> Result<String> {
    const WANTED: u32 = 20;

    let stage = Stage::set(setup, size).await?;

    let link = &stage.cluster.redis_links[0];
    let mut cut = link.replies_cut();
    link.set(Rules { cut_reply_every: Some(20), ..Rules::default() });
    timeout(2 * LIVELINESS, cut.wait_for(|cut| *cut >= WANTED)).await??;
    link.heal();
    stage.steady(size).await?;

    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    Ok(format!("{WANTED} answers lost; {outcome}"))
}

/// Row 18: the primary dies with what its replica has not got. What was acknowledged is kept all the
/// same, and only those are set back who had heard what was lost.
pub(super) async fn replica_behind(setup: Setup, size: Size) -> Result<String> {
    let mut stage = Stage::set(Setup { down_after: FAILOVER, ..setup }, size).await?;

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
    let mut stage = Stage::set(Setup { down_after: FAILOVER, ..setup }, size).await?;

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
    let mut stage = Stage::set(Setup { down_after: FAILOVER, ..setup }, size).await?;

    kill_ahead_of_replica(&mut stage, size).await?;
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
    let mut stage = Stage::set(setup, size).await?;

    stage.cluster.redis[0].kill();
    stage.cluster.redis[0].restart().await;
    let crowd = &stage.crowd;
    let noticed = until("a new life of the log", LIVELINESS, async || lives(crowd) > 1).await?;
    stage.steady(size).await?;

    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    Ok(format!("a new life after {:.1} s; {outcome}", noticed.as_secs_f64()))
}

/// Row 21: all of it is gone, or what was written last. Whoever listens is told, and what comes after
/// that is heard.
pub(super) async fn emptied(setup: Setup, size: Size) -> Result<String> {
    let mut figures = Vec::new();
    for way in [Way::Flushed, Way::Removed, Way::Old] {
        let outcome = forget(setup.clone(), size, way).await;
        let outcome = outcome.with_context(|| format!("{way:?}"))?;
        figures.push(format!("{way:?}: {outcome}"));
    }
    Ok(figures.join("; "))
}

/// How Redis comes to have less than it acknowledged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// `FLUSHALL`.
    Flushed,
    /// Its files are gone when it starts again.
    Removed,
    /// It starts again on a copy of its files as they once were.
    Old,
}

async fn forget(setup: Setup, size: Size, way: Way) -> Result<Outcome> {
    let mut stage = Stage::set(setup, size).await?;

    let folder = stage.cluster.redis[0].dir().to_owned();
    let (files, copy) = (folder.join("appendonlydir"), folder.join("copy"));
    if way == Way::Old {
        std::fs::create_dir(&copy)?;
        for file in std::fs::read_dir(&files)? {
            let file = file?;
            std::fs::copy(file.path(), copy.join(file.file_name()))?;
        }
        stage.steady(size).await?;
    }
    if way == Way::Flushed {
        stage.cluster.redis[0].command(&["FLUSHALL"]).await?;
    } else {
        stage.cluster.redis[0].kill();
        std::fs::remove_dir_all(&files)?;
        if way == Way::Old {
            std::fs::rename(&copy, &files)?;
        }
        stage.cluster.redis[0].restart().await;
    }
    let crowd = &stage.crowd;
    until("a new life of the log", LIVELINESS, async || lives(crowd) > 1).await?;
    stage.steady(size).await?;

    let (_, outcome) = stage.judge().await?;
    outcome.check_clients()?;
    check_newest_life(&outcome)?;
    if way == Way::Old {
        // What the copy lacks the nodes still have: they acknowledged it less than 30 s ago.
        outcome.check()?;
        let told = outcome.verdict.gaps("rewind");
        ensure!(told > 0, "nobody was set back: {}", outcome.verdict);
    } else {
        ensure!(outcome.verdict.is_loss_only(), "{}", outcome.verdict);
        let told = outcome.verdict.gaps("reset");
        ensure!(told >= u64::from(size.listeners), "{told} were told: {}", outcome.verdict);
    }
    Ok(outcome)
}

/// Fails if the log went on in a life that is older than one it had before.
pub(super) fn check_newest_life(outcome: &Outcome) -> Result<()> {
    let account = outcome.account.lock();
    let lives = || account.acknowledgements().map(|(_, at, time)| (time, at.epoch.incarnation()));
    let last = lives().max().map(|(_, life)| life);
    let newest = lives().map(|(_, life)| life).max();
    ensure!(last == newest, "the last was acknowledged in {last:?} after {newest:?}");
    Ok(())
}

/// Row 24: it does not answer for five seconds. Publications wait, and no session changes hands.
pub(super) async fn stopped(setup: Setup, size: Size) -> Result<String> {
    let stage = Stage::set(setup, size).await?;
    let acknowledged = || stage.crowd.account().lock().acknowledged();

    let before = owners(&stage.cluster).await?;
    stage.cluster.redis[0].pause();
    // What it had answered arrives.
    stage.crowd.go_on_for(Duration::from_secs(1)).await;
    let held = acknowledged();
    stage.crowd.go_on_for(Duration::from_secs(4)).await;
    let meanwhile = acknowledged() - held;
    stage.cluster.redis[0].resume();
    stage.steady(size).await?;
    let after = owners(&stage.cluster).await?;

    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    ensure!(meanwhile == 0, "{meanwhile} publications were acknowledged by nobody");
    ensure!(outcome.counts.lost == 0, "clients lost their nodes: {outcome}");
    ensure!(before == after, "sessions changed hands: {before:?}, then {after:?}");
    Ok(format!("{} sessions stayed where they were; {outcome}", before.len()))
}

/// Row 25: it has no memory left for five seconds. What is published is refused as retryable and
/// accepted later, and what there is can be read.
pub(super) async fn full(setup: Setup, size: Size) -> Result<String> {
    let stage = Stage::set(setup, size).await?;
    let place = (TENANTS[0], "full");
    let address = stage.cluster.node(0)?.clients();
    let publish = |id: &'static str| http::publish(address, place, id, "hello");
    let options = stage.cluster.options(place.0, "ann", 1);
    let (mut reader, _) = Connection::open(&options, 0, None).await?;
    publish("1").await?;

    stage.cluster.redis[0].command(&["CONFIG", "SET", "maxmemory", "1"]).await?;
    let refused = publish("2").await?;
    let kept = history(&mut reader, place.1).await?;
    stage.crowd.go_on_for(Duration::from_secs(5)).await;
    stage.cluster.redis[0].command(&["CONFIG", "SET", "maxmemory", "0"]).await?;
    let accepted = publish("2").await?;
    stage.steady(size).await?;
    reader.close().await;

    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    outcome.check_sessions()?;
    let (status, answer) = &refused;
    let error = &answer["error"];
    ensure!(*status == 503 && error["code"] == 2000 && error["retryable"] == true, "{refused:?}");
    ensure!(kept == [1], "read meanwhile: {kept:?}");
    let (status, answer) = &accepted;
    ensure!(*status == 200 && answer["offset"] == 2, "{accepted:?}");
    Ok(format!("refused with {}, then accepted; {outcome}", error["name"]))
}

/// The offsets of what a channel has.
async fn history(connection: &mut Connection, channel: &str) -> Result<Vec<u64>> {
    let query = HistoryQuery { direction: Direction::Forward, from: None, limit: 10 };
    connection.send(Command::History { channel: Channel::parse(channel)?, query })?;
    let answered = async {
        loop {
            match connection.next().await? {
                ServerEvent::History { page, .. } => break anyhow::Ok(page),
                ServerEvent::Failed { refusal, .. } => return Err(refusal.into()),
                _ => {}
            }
        }
    };
    let page = timeout(LIVELINESS, answered).await.context("a history")??;
    Ok(page.publications.iter().map(|publication| publication.position.offset).collect())
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
pub(super) fn lives(crowd: &Crowd) -> usize {
    let account = crowd.account();
    let account = account.lock();
    let mut lives: Vec<_> =
        account.acknowledgements().map(|(_, position, _)| position.epoch.incarnation()).collect();
    lives.sort_unstable();
    lives.dedup();
    lives.len()
}
