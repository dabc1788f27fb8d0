//! What happens to nodes.

use std::time::Duration;

use anyhow::{Result, ensure};
use tidewire_client::{Channel, Client, Happening, Since};

use super::{happening, next_publication};
use crate::cluster::{Cluster, Setup, TENANTS};
use crate::crowd::{LIVELINESS, Size};
use crate::http;
use crate::proxy::Rules;
use crate::stage::Stage;
use crate::wait::until;

/// All clients of a node that is killed are back within this.
const BACK_WITHIN: Duration = Duration::from_secs(15);

/// Row 1: SIGKILL under load. All its clients resume elsewhere, and nobody is asked who they are.
pub(super) async fn killed(setup: Setup, size: Size) -> Result<String> {
    let mut stage = Stage::set(setup, size).await?;
    let there = stage.cluster.node(0)?.metric("tidewire_connections", "").await?;
    ensure!(there > 0, "nobody is at the node");
    let verified = verified_tokens(&stage.cluster).await?;

    stage.cluster.kill_node(0)?;
    let back = until("everybody is back", LIVELINESS, async || {
        u64::from(stage.crowd.counts().resumed) >= there
    })
    .await?;
    stage.steady(size).await?;

    let asked = verified_tokens(&stage.cluster).await? - verified;
    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    outcome.check_sessions()?;
    ensure!(back <= BACK_WITHIN, "back after {back:?}");
    ensure!(asked == 0, "{asked} tokens were verified for it");
    Ok(format!("{there} clients back after {:.1} s; {outcome}", back.as_secs_f64()))
}

/// Row 8: a publisher that gets no answer from one node repeats itself at another.
pub(super) async fn retried_elsewhere(setup: Setup, _: Size) -> Result<String> {
    let cluster = Cluster::start(setup).await?;
    let place = (TENANTS[0], "orders");
    let mut listener = Client::connect(cluster.options(place.0, "ann", 2)).await?;
    listener.subscribe(Channel::parse(place.1)?, Since::Now);
    happening(&mut listener, |it| matches!(it, Happening::Subscribed(_))).await?;

    cluster.client_links[0].set(Rules { mute_after: Some(1), ..Rules::default() });
    let first = http::publish(cluster.client_links[0].address(), place, "order-1", "first");
    let heard = async {
        let heard = next_publication(&mut listener).await?;
        cluster.client_links[0].reset();
        anyhow::Ok(heard)
    };
    let (unanswered, heard) = tokio::join!(first, heard);
    let heard = heard?;
    ensure!(unanswered.is_err(), "an answer came: {unanswered:?}");
    let (status, again) =
        http::publish(cluster.node(1)?.clients(), place, "order-1", "first").await?;
    let (_, other) = http::publish(cluster.node(1)?.clients(), place, "order-2", "second").await?;
    let next = next_publication(&mut listener).await?;

    ensure!(status == 200 && again["duplicate"] == true, "{status}: {again}");
    ensure!(again["offset"] == heard.position.offset, "{again}, heard at {}", heard.position);
    ensure!(other["offset"] == next.position.offset, "{other}, then heard {}", next.position);
    ensure!(next.position.offset == heard.position.offset + 1, "one entry: {}", next.position);
    Ok(format!("stored once at {}", heard.position))
}

/// Tokens that the nodes but the first have verified so far.
async fn verified_tokens(cluster: &Cluster) -> Result<u64> {
    let mut verified = 0;
    for number in 1..3 {
        verified += cluster.node(number)?.metric("tidewire_auth_total", "\"token\"").await?;
    }
    Ok(verified)
}
