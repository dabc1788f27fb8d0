//! Two servers of Redis that both take themselves for the primary.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidewire_model::Incarnation;
use tidewire_testkit::services::RedisServer;

use super::redis::{check_newest_life, lives};
use crate::cluster::{Cluster, FAILOVER, Setup};
use crate::crowd::{Crowd, LIVELINESS, Outcome, Size};
use crate::proxy::Rules;
use crate::stage::Stage;
use crate::wait::until;

/// How long they do, with clients that publish to both.
const SPLIT: Duration = Duration::from_secs(10);
/// The one whose clients nobody else hears.
const ALONE: usize = 0;

/// Row 22: one node goes on with the old primary, the others with the new one. When the one hears of
/// the others again it leaves the old primary by itself, and appends again what was lost there.
pub(super) async fn primaries(setup: Setup, size: Size) -> Result<String> {
    let stage = split(setup, size).await?;

    let began = stage.crowd.now();
    stage.crowd.go_on_for(SPLIT).await;
    let acknowledged = acknowledged(&stage.crowd, began);
    reunite(&stage.cluster);
    let crowd = &stage.crowd;
    let moved = until("a node that leaves the old primary", LIVELINESS, async || {
        let now = crowd.now();
        crowd.go_on_for(Duration::from_secs(1)).await;
        self::acknowledged(crowd, now).len() == 1
    });
    let moved = moved.await?;
    ensure!(stage.cluster.replication(0, "role:master").await, "it was told to step down");
    ensure!(acknowledged.len() == 2, "both took publications: {acknowledged:?}");
    let (lives, outcome) = settle(stage, size).await?;
    ensure!(lives == 2, "{lives} lives of the log");
    let rewound = outcome.verdict.gaps("rewind");
    Ok(format!("{acknowledged:?} by each, one after {moved:.0?}, {rewound} rewound; {outcome}"))
}

/// Row 23: neither has the fence when they part, and the life that the old one begins is the later
/// one. The new one is raised above it once, and everybody goes on there.
pub(super) async fn unfenced(setup: Setup, size: Size) -> Result<String> {
    let stage = split(setup, size).await?;
    let old = &stage.cluster.redis[0];
    let crowd = &stage.crowd;
    until("a life at the new primary", LIVELINESS, async || lives(crowd) == 2).await?;

    // As of a process that has only just started.
    let fence = old.command(&["GET", "tw:f"]).await?;
    let (life, _) = fence.split_once(' ').context("a fence")?;
    old.command(&["SET", "tw:f", &format!("{life} {:040}", 0)]).await?;
    until("a life at the old primary", LIVELINESS, async || lives(crowd) == 3).await?;
    let began = stage.crowd.now();
    stage.crowd.go_on_for(SPLIT).await;
    let acknowledged = acknowledged(&stage.crowd, began);
    reunite(&stage.cluster);
    ensure!(acknowledged.len() == 2, "both took publications: {acknowledged:?}");
    let (lives, outcome) = settle(stage, size).await?;
    ensure!(
        lives == 4,
        "{lives} lives of the log: one before, one of each, and the one it is raised to"
    );
    let rewound = outcome.verdict.gaps("rewind");
    Ok(format!("{acknowledged:?} by each, {lives} lives, {rewound} rewound; {outcome}"))
}

/// Has the replica promoted while one node stays with the old primary, and no publication of it
/// reaches the others, nor one of theirs it.
async fn split(setup: Setup, size: Size) -> Result<Stage> {
    let mut cluster = Cluster::start(Setup { down_after: FAILOVER, ..setup }).await?;
    cluster.kill_node(ALONE)?;
    let others = clients(&cluster.redis[0]).await?;
    cluster.restart_node(ALONE).await?;
    let all = clients(&cluster.redis[0]).await?;
    let own: BTreeSet<_> = all.difference(&others).cloned().collect();
    ensure!(!own.is_empty(), "the node has no connection");
    let crowd = Crowd::gather(size, &cluster).await?;
    let stage = Stage { cluster, crowd };
    stage.steady(size).await?;

    let cluster = &stage.cluster;
    let old = &cluster.redis[0];
    // The Sentinels reach it, and cannot have it step down.
    permit_stepping_down(old, "-").await?;
    for link in &cluster.nats_links[ALONE] {
        link.set(Rules { is_black_hole: [true; 2], ..Rules::default() });
    }
    cluster.sentinels[0].command(&["SENTINEL", "FAILOVER", "main"]).await?;
    cluster.until_primary(1).await?;
    for client in clients(old).await?.difference(&own) {
        // One that has gone meanwhile is an error that does not matter.
        old.command(&["CLIENT", "KILL", "ID", client]).await?;
    }
    Ok(stage)
}

fn reunite(cluster: &Cluster) {
    cluster.nats_links[ALONE].iter().for_each(crate::Proxy::heal);
}

/// Lets the old primary step down, and judges; how many lives of the log there were.
async fn settle(stage: Stage, size: Size) -> Result<(usize, Outcome)> {
    let_step_down(&stage.cluster).await?;
    stage.steady(size).await?;
    let lives = lives(&stage.crowd);
    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    check_newest_life(&outcome)?;
    Ok((lives, outcome))
}

/// Waits until the Sentinels have had the old primary follow the new one.
async fn let_step_down(cluster: &Cluster) -> Result<()> {
    permit_stepping_down(&cluster.redis[0], "+").await?;
    cluster.until_followed(1).await?;
    Ok(())
}

/// `+` or `-`.
async fn permit_stepping_down(server: &RedisServer, sign: &str) -> Result<()> {
    let [one, other] = ["slaveof", "replicaof"].map(|command| format!("{sign}{command}"));
    let done = server.command(&["ACL", "SETUSER", "default", &one, &other]).await?;
    ensure!(done == "OK", "{done}");
    Ok(())
}

/// The connections that a server has, by their ids.
async fn clients(server: &RedisServer) -> Result<BTreeSet<String>> {
    let list = server.command(&["CLIENT", "LIST"]).await?;
    let id = |line: &str| line.split(' ').next()?.strip_prefix("id=").map(str::to_owned);
    Ok(list.lines().filter_map(id).collect())
}

/// How much was acknowledged since then, by life of the log.
fn acknowledged(crowd: &Crowd, since: u64) -> BTreeMap<Incarnation, u32> {
    let account = crowd.account();
    let account = account.lock();
    let mut by_life = BTreeMap::new();
    for (_, position, _) in account.acknowledgements().filter(|(.., at)| *at >= since) {
        *by_life.entry(position.epoch.incarnation()).or_insert(0) += 1;
    }
    by_life
}
