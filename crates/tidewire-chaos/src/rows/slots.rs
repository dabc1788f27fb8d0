//! What happens to a Redis cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use tidewire_model::Incarnation;
use tidewire_testkit::services::{MovingSlot, RedisCluster};

use crate::cluster::{RedisLayout, Setup, TENANTS};
use crate::crowd::{Crowd, Size};
use crate::http;
use crate::stage::Stage;

/// How long a slot is on its way with each number of its keys.
const UNDER_WAY: Duration = Duration::from_millis(50);

/// Row 26: the slots that hold the channels, one after the other and all of them twice, move from one
/// primary to the next while they are published to. What is published meanwhile waits.
pub(super) async fn moved(setup: Setup, size: Size) -> Result<String> {
    let stage = Stage::set(Setup { redis: RedisLayout::Sharded, ..setup }, size).await?;
    let redis = stage.cluster.sharded()?;

    let place = (TENANTS[0], "moving");
    let address = stage.cluster.node(0)?.clients();
    http::publish(address, place, "0", "before").await?;
    let before = stage.crowd.account().lock().acknowledged();
    let slots = slots_in_use(redis).await?;
    for round in 0..2 {
        for (number, (slot, owner)) in slots.iter().enumerate() {
            let [from, to] = [0, 1].map(|further| (owner + round + further) % redis.servers.len());
            let moving = redis.begin_to_move(*slot, from, to).await;
            let id = format!("{slot}-{round}");
            // One without a client that would repeat it.
            let publishing = http::publish(address, place, &id, "meanwhile");
            let (published, ()) = tokio::join!(publishing, carry(&stage.crowd, moving, number));
            let (status, answer) = published?;
            ensure!(status == 200, "refused while a slot moves: {status}, {answer}");
        }
    }
    let meanwhile = stage.crowd.account().lock().acknowledged() - before;
    stage.steady(size).await?;

    let lives = lives(&stage.crowd);
    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    outcome.check_sessions()?;
    ensure!(outcome.counts.lost == 0, "clients lost their nodes: {outcome}");
    let unmoved = lives.values().filter(|lives| lives.len() < 3).count();
    ensure!(unmoved == 0, "{unmoved} of {} channels did not move twice", lives.len());
    Ok(format!("{} moves, {meanwhile} acknowledged meanwhile; {outcome}", 2 * slots.len()))
}

/// Moves what is in a slot key by key, in an order of its own each time: what is gone first makes the
/// difference.
async fn carry(crowd: &Crowd, moving: MovingSlot<'_>, number: usize) {
    let mut keys = moving.keys().await;
    let first = number % keys.len().max(1);
    keys.rotate_left(first);
    for key in keys {
        crowd.go_on_for(UNDER_WAY).await;
        moving.carry(&[key]).await;
    }
    crowd.go_on_for(UNDER_WAY).await;
    moving.finish().await;
}

/// The slots that have a channel, or what nodes know of each other, and which primary has each.
async fn slots_in_use(redis: &RedisCluster) -> Result<BTreeMap<u16, usize>> {
    let mut slots = BTreeMap::new();
    for (owner, server) in redis.servers.iter().enumerate() {
        for kind in ["tw:*:l:*", "tw:{nodes}:*"] {
            for key in server.command(&["KEYS", kind]).await?.lines() {
                slots.insert(redis.slot_of(key).await, owner);
            }
        }
    }
    Ok(slots)
}

/// The lives of the log in which each channel was published to.
fn lives(crowd: &Crowd) -> BTreeMap<u32, BTreeSet<Incarnation>> {
    let account = crowd.account();
    let account = account.lock();
    let mut lives: BTreeMap<u32, BTreeSet<Incarnation>> = BTreeMap::new();
    for (saying, position, _) in account.acknowledgements() {
        lives.entry(saying.channel).or_default().insert(position.epoch.incarnation());
    }
    lives
}
