//! What becomes of members whose connection or node is in trouble.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use tidewire_client::{Channel, Client, Happening, MemberId, Payload, PresenceChange, Since};
use tokio::time::timeout;

use super::{happening, next_publication};
use crate::cluster::{Cluster, RedisLayout, Setup, TENANTS};
use crate::crowd::{LIVELINESS, Size};
use crate::http;
use crate::proxy::{Proxy, Rules};
use crate::wait::until;

/// Its rule waits two seconds for who is lost.
pub(super) const ROOM: &str = "present/room";
/// A lease, the grace of the others, the rule's debounce, and what it takes to look.
pub(super) const GONE_WITHIN: Duration = Duration::from_secs(25);
const BACK_WITHIN: Duration = Duration::from_secs(15);
/// A node is told who has a session that was its own.
const NOTICED_WITHIN: Duration = Duration::from_secs(3);
const OTHERS: u32 = 50;
/// Row 29: a client's old connection has been cut without its node noticing when the client comes back
/// elsewhere. The new one has the session, and the old one ends; nobody who watches hears of it, and
/// there is one entry of the member, of the new node. The same where the old node hears of nothing, and
/// speaks last.
pub(super) async fn unnoticed(setup: Setup, size: Size) -> Result<String> {
    let cluster = Cluster::start(setup).await?;
    let told = go_on_elsewhere(&cluster, "ann").await?;
    for link in &cluster.nats_links[0] {
        link.set(Rules { is_black_hole: [false, true], ..Rules::default() });
    }
    let untold = go_on_elsewhere(&cluster, "bea").await?;

    ensure!(told < NOTICED_WITHIN * size.slack, "the old connection was open for {told:?}");
    ensure!(untold > told, "a node that hears nothing knew as soon: {told:?}, {untold:?}");
    Ok(format!(
        "the old connection was closed {told:.0?} later, {untold:.0?} by a node that hears nothing; one \
         entry, no leave"
    ))
}

/// Has a member of node 0 go on elsewhere, unnoticed. Says how much longer its old connection was there.
async fn go_on_elsewhere(cluster: &Cluster, user: &str) -> Result<Duration> {
    let (mut client, member) = enter(cluster, user, 0).await?;
    enter_others(&mut client).await?;
    // What is stored later than that would tell the node that the session has moved.
    tokio::select! {
        error = drive(&mut client) => return Err(error),
        stored = until("the session is stored", LIVELINESS, async || {
            is_stored(cluster, user).await.unwrap_or(false)
        }) => drop(stored?),
    }
    let mut watcher = watch(cluster, 2).await?;

    let link = &cluster.client_links[0];
    // Whoever tries the old node again loses no time.
    link.set(Rules { is_black_hole: [true, false], is_refusing: true, ..Rules::default() });
    client.cut();
    let connected = |it: &Happening| matches!(it, Happening::Connected { .. });
    let back = happening(&mut client, connected).await?;
    let is_in = |it: &Happening| matches!(it, Happening::Entered { channel, .. } if channel.as_str() == ROOM);
    happening(&mut client, is_in).await?;
    let judged = async {
        let ended = until("the old connection is closed", LIVELINESS, async || {
            let Ok(node) = cluster.node(0) else { return false };
            node.metric("tidewire_connections", "").await.is_ok_and(|there| there == 0)
        });
        let ended = tokio::select! {
            error = quiet(&mut watcher) => return Err(error),
            ended = ended => ended?,
        };
        link.reset();
        link.heal();
        cluster.nats_links[0].iter().for_each(Proxy::heal);
        // Whoever is lost after that leaves after whoever was lost before.
        let (carl, carls) = enter(cluster, "carl", 0).await?;
        drop(carl);
        let told = changes(&mut watcher, |all| !left(all).is_empty()).await?;
        anyhow::Ok((ended, carls, told))
    };
    let (ended, carls, told) = tokio::select! {
        error = drive(&mut client) => return Err(error),
        judged = judged => judged?,
    };

    let Happening::Connected { resumed, node, .. } = back else { unreachable!("waited for") };
    ensure!(resumed, "the session was not taken up again");
    ensure!(left(&told) == [carls], "heard of others: {told:?}");
    let joined = told.iter().flat_map(|change| &change.joined).map(|member| member.id);
    ensure!(joined.eq([carls]), "heard of others: {told:?}");
    ensure!(list(&mut watcher, ROOM).await? == [member], "the list has others");
    let entries = entries(cluster).await?;
    ensure!(
        entries.len() == 1 && entries[0].starts_with(&format!("{node}.")),
        "not one entry of {node}: {entries:?}"
    );
    client.leave(Channel::parse(ROOM)?);
    tokio::select! {
        error = drive(&mut client) => return Err(error),
        gone = changes(&mut watcher, |all| left(all) == [member]) => drop(gone?),
    }
    Ok(ended)
}

/// Row 36: a node cannot reach Redis, and NATS is there. Its member leaves with its lease and is back with
/// Redis; what is to be kept is refused meanwhile, and what is fleeting goes on.
pub(super) async fn cut_off(setup: Setup, size: Size) -> Result<String> {
    let cluster = Cluster::start(Setup { redis: RedisLayout::Private, ..setup }).await?;
    let (mut client, ann) = enter(&cluster, "ann", 0).await?;
    let others = enter_others(&mut client).await?;
    let mut watcher = watch(&cluster, 1).await?;
    watcher.subscribe(Channel::parse("fleeting/room")?, Since::Now);
    happening(&mut watcher, |it| matches!(it, Happening::Subscribed(_))).await?;
    let address = cluster.node(0)?.clients();
    let publish = async |id: &str| http::publish(address, (TENANTS[0], "room"), id, "kept").await;
    let (before, _) = publish("before").await?;

    let link = &cluster.own_redis_links[0];
    link.set(Rules { is_refusing: true, ..Rules::default() });
    link.reset();
    let began = tokio::time::Instant::now();
    client.publish(Channel::parse("fleeting/room")?, Payload::checked_json("1".into()))?;
    let (_, fleeting) =
        tokio::try_join!(happening(&mut client, is_published), next_publication(&mut watcher))?;
    let judged = async {
        let is_gone = |all: &[PresenceChange]| !left(all).is_empty();
        let ((status, refusal), gone) =
            tokio::try_join!(publish("meanwhile"), changes(&mut watcher, is_gone))?;
        ensure!(status == 503 && refusal["error"]["retryable"] == true, "{status}: {refusal}");
        let gone_after = began.elapsed();
        link.heal();
        let healed = tokio::time::Instant::now();
        let is_back = |all: &[PresenceChange]| all.iter().any(|change| !change.joined.is_empty());
        let back = changes(&mut watcher, is_back).await?;
        for other in &others {
            while list(&mut watcher, other).await? != [ann] {
                ensure!(
                    healed.elapsed() < BACK_WITHIN * size.slack,
                    "{other} is without its member still"
                );
            }
        }
        Ok((gone, gone_after, back, healed.elapsed()))
    };
    let (gone, gone_after, back, back_after) = tokio::select! {
        error = drive(&mut client) => return Err(error),
        judged = judged => judged?,
    };
    until("a publication is kept again", LIVELINESS, async || {
        publish("after").await.is_ok_and(|(status, _)| status == 200)
    })
    .await?;

    ensure!(before == 200, "a publication before: {before}");
    ensure!(*fleeting.payload.bytes() == "1", "another publication: {fleeting:?}");
    ensure!(left(&gone) == [ann], "others left: {gone:?}");
    ensure!(gone_after < GONE_WITHIN * size.slack, "left after {gone_after:?}");
    let joined: Vec<_> = back.iter().flat_map(|change| &change.joined).collect();
    ensure!(joined.len() == 1 && joined[0].id == ann, "others joined: {back:?}");
    ensure!(back_after < BACK_WITHIN * size.slack, "back after {back_after:?}");
    ensure!(list(&mut watcher, ROOM).await? == [ann], "the list has others");
    Ok(format!(
        "left after {gone_after:.0?}, all {OTHERS} more were back {back_after:.0?} after Redis was"
    ))
}

/// Has a client do what it is asked, for as long as it can.
async fn drive(client: &mut Client) -> anyhow::Error {
    loop {
        if let Err(error) = client.next().await {
            return error.into();
        }
    }
}

/// As [`drive`], and nobody comes or goes meanwhile.
async fn quiet(watcher: &mut Client) -> anyhow::Error {
    loop {
        match watcher.next().await {
            Ok(Happening::Presence { changes, .. }) => {
                return anyhow!("heard of others: {changes:?}");
            }
            Ok(_) => {}
            Err(error) => return error.into(),
        }
    }
}

fn is_published(happening: &Happening) -> bool {
    matches!(happening, Happening::Published { .. })
}

/// A client of one node that is in the room.
async fn enter(cluster: &Cluster, user: &str, node: usize) -> Result<(Client, MemberId)> {
    let mut client = Client::connect(cluster.options(TENANTS[0], user, node)).await?;
    client.enter(Channel::parse(ROOM)?, None);
    match happening(&mut client, |it| matches!(it, Happening::Entered { .. })).await? {
        Happening::Entered { member, .. } => Ok((client, member)),
        other => unreachable!("waited for another: {other:?}"),
    }
}

/// Has a client be in more channels than a node tells the store of again each second in any case.
async fn enter_others(client: &mut Client) -> Result<Vec<String>> {
    let others: Vec<_> = (0..OTHERS).map(|number| format!("present/{number}")).collect();
    for other in &others {
        client.enter(Channel::parse(other)?, None);
        happening(client, |it| matches!(it, Happening::Entered { .. })).await?;
    }
    Ok(others)
}

pub(super) async fn watch(cluster: &Cluster, node: usize) -> Result<Client> {
    let mut client = Client::connect(cluster.options(TENANTS[0], "watcher", node)).await?;
    client.watch(Channel::parse(ROOM)?);
    happening(&mut client, |it| matches!(it, Happening::Watching { .. })).await?;
    Ok(client)
}

/// All changes until they are as wanted. That any may be missing is an error.
async fn changes(
    watcher: &mut Client,
    is_enough: impl Fn(&[PresenceChange]) -> bool,
) -> Result<Vec<PresenceChange>> {
    let mut all = Vec::new();
    let waiting = async {
        while !is_enough(&all) {
            if let Happening::Presence { changes, .. } = watcher.next().await? {
                all.extend(changes);
            }
        }
        anyhow::Ok(())
    };
    timeout(2 * LIVELINESS, waiting).await.context("no such change is told")??;
    ensure!(all.iter().all(|change| !change.lost), "changes are missing: {all:?}");
    Ok(all)
}

fn left(changes: &[PresenceChange]) -> Vec<MemberId> {
    changes.iter().flat_map(|change| &change.left).map(|former| former.id).collect()
}

pub(super) async fn list(client: &mut Client, room: &str) -> Result<Vec<MemberId>> {
    let (mut all, mut from) = (Vec::new(), None);
    loop {
        client.members(Channel::parse(room)?, from, 100);
        match happening(client, |it| matches!(it, Happening::Members { .. })).await? {
            Happening::Members { page, .. } => {
                all.extend(page.members.iter().map(|one| one.id));
                from = page.next;
            }
            other => unreachable!("waited for another: {other:?}"),
        }
        if from.is_none() {
            return Ok(all);
        }
    }
}

/// Whether Redis has a session of this user that is in the last of the other channels.
async fn is_stored(cluster: &Cluster, user: &str) -> Result<bool> {
    let primary = cluster.primary().await.context("there is a primary")?;
    let redis = &cluster.redis[primary];
    let last = format!("present/{}", OTHERS - 1);
    for key in redis.command(&["KEYS", "tw:s:*"]).await?.lines() {
        let session = redis.command(&["HGET", key, "d"]).await?;
        if session.contains(&format!("\"{user}\"")) && session.contains(&last) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What Redis has of the room's members: the life of the node that each is of, and more.
pub(super) async fn entries(cluster: &Cluster) -> Result<Vec<String>> {
    let primary = cluster.primary().await.context("there is a primary")?;
    let redis = &cluster.redis[primary];
    let mut entries = Vec::new();
    for key in redis.command(&["KEYS", &format!("tw:*:p:*:{ROOM}")]).await?.lines() {
        let values = redis.command(&["HVALS", key]).await?;
        entries.extend(values.lines().filter(|value| value.contains('.')).map(str::to_owned));
    }
    Ok(entries)
}
