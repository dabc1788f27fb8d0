//! What happens to sessions.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidewire_client::{Channel, Client, Connection, Happening, Since};
use tidewire_model::{Resume, SessionNonce};
use tokio::time::timeout;

use super::{happening, next_publication, owners, reader};
use crate::cluster::{Cluster, Setup, TENANTS};
use crate::crowd::{Crowd, LIVELINESS, Size};
use crate::http;
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

/// Row 31: two tabs have one token.
pub(super) async fn two_tabs(setup: Setup, _: Size) -> Result<String> {
    let cluster = Cluster::start(setup).await?;
    let options = cluster.options(TENANTS[0], "ann", 0);
    let (first, connected) = Connection::open(&options, 0, None).await?;
    drop(first);

    let mut tabs = Vec::new();
    for nonce in [1, 2] {
        let resume = Resume {
            token: connected.resume_token.clone().context("the session is not kept")?,
            nonce: SessionNonce::from_bytes([nonce; 16]),
            positions: Vec::new(),
        };
        tabs.push(Connection::open(&options, nonce.into(), Some(resume)).await?);
    }
    let resumed: Vec<bool> = tabs.iter().map(|(_, connected)| connected.resumed).collect();
    let mut ended = Vec::new();
    for (tab, _) in &mut tabs {
        let over = async { while tab.next().await.is_ok() {} };
        ended.push(timeout(Duration::from_secs(3), over).await.is_ok());
    }

    ensure!(resumed == [true, false], "resumed: {resumed:?}");
    ensure!(ended == [false, false], "ended: {ended:?}");
    ensure!(tabs[0].1.session != tabs[1].1.session, "one session for both");
    Ok("two sessions, and both stay".into())
}

/// Row 32: the session's record is lost while its client is away.
pub(super) async fn record_lost(setup: Setup, _: Size) -> Result<String> {
    const AWAY: u64 = 20;

    let cluster = Cluster::start(setup).await?;
    let place = (TENANTS[0], "room");
    let address = cluster.node(1)?.clients();
    let mut client = reader(&cluster, place).await?;

    client.cut();
    for number in 1..=AWAY {
        http::publish(address, place, &number.to_string(), "away").await?;
    }
    // The node writes the record once more when it notices that the client has gone.
    until("no connection", LIVELINESS, async || {
        let Ok(node) = cluster.node(0) else { return false };
        node.metric("tidewire_connections", "").await.is_ok_and(|there| there == 0)
    })
    .await?;
    for session in owners(&cluster).await?.keys() {
        cluster.redis[0].command(&["DEL", session]).await?;
    }
    let connected = |it: &Happening| matches!(it, Happening::Connected { .. });
    let back = happening(&mut client, connected).await?;
    let mut offsets = Vec::new();
    for _ in 0..AWAY {
        offsets.push(next_publication(&mut client).await?.position.offset);
    }

    let Happening::Connected { resumed, .. } = back else { unreachable!("waited for") };
    ensure!(!resumed, "a session that is gone was taken up again");
    ensure!(offsets == (2..AWAY + 2).collect::<Vec<_>>(), "{offsets:?}");
    Ok("a new session, nothing missed".into())
}
