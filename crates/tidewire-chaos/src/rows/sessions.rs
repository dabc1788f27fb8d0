//! What happens to sessions.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidewire_client::{Channel, Client, Happening, Since};
use tokio::time::timeout;

use super::happening;
use crate::cluster::{Cluster, Setup, TENANTS};
use crate::crowd::{Crowd, LIVELINESS, Size};
use crate::proxy::Rules;
use crate::stage::Stage;
use crate::wait::until;

/// Row 30: a node has claimed the session for a client that never learns of it. The client asks again,
/// elsewhere, and has its session.
pub(super) async fn answer_lost(setup: Setup, size: Size) -> Result<String> {
    let cluster = Cluster::start(setup).await?;
    let mut client = Client::connect(cluster.options(TENANTS[0], "ann", 0)).await?;
    client.subscribe(Channel::parse("room")?, Since::Now);
    let subscribed = |happening: &Happening| matches!(happening, Happening::Subscribed(_));
    happening(&mut client, subscribed).await?;
    let before = owners(&cluster).await?;
    ensure!(before.len() == 1, "one session: {before:?}");

    // The upgrade and `connect` arrive, and what the node answers to `connect` does not.
    cluster.client_links[0].set(Rules { mute_after: Some(2), ..Rules::default() });
    client.cut();
    let claimed = until("a claim", LIVELINESS, async || {
        let waiting = timeout(Duration::from_millis(20), client.next()).await;
        waiting.is_err() && owners(&cluster).await.is_ok_and(|owners| owners != before)
    });
    claimed.await?;
    cluster.client_links[0].reset();
    cluster.client_links[0].heal();
    let connected = |happening: &Happening| matches!(happening, Happening::Connected { .. });
    let back = happening(&mut client, connected).await?;

    let Happening::Connected { resumed, .. } = back else { unreachable!("waited for") };
    ensure!(resumed, "the session was not taken up again");
    let after = owners(&cluster).await?;
    ensure!(after.len() == 1, "there is one session still: {after:?}");
    // Everything else works meanwhile and afterwards.
    let crowd = Crowd::gather(size, &cluster).await?;
    let stage = Stage { cluster, crowd };
    stage.steady(size).await?;
    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    Ok(format!("resumed after its answer was lost; {outcome}"))
}

/// What Redis has of the owner of each session: its generation first.
async fn owners(cluster: &Cluster) -> Result<Vec<String>> {
    let primary = cluster.primary().await.context("there is a primary")?;
    let redis = &cluster.redis[primary];
    let mut owners = Vec::new();
    for key in redis.command(&["KEYS", "tw:s:*"]).await?.lines() {
        let owner = redis.command(&["HGET", key, "o"]).await?;
        if !owner.is_empty() && !owner.starts_with("WRONGTYPE") {
            owners.push(owner);
        }
    }
    Ok(owners)
}
