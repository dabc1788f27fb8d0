//! What happens to NATS.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidewire_client::{Channel, Client, Happening, Since};
use tokio::time::{Instant, timeout};

use super::{happening, next_publication, repair_reads};
use crate::cluster::{Cluster, Setup, TENANTS};
use crate::crowd::{LIVELINESS, Size};
use crate::http;
use crate::proxy::Rules;
use crate::stage::Stage;
use crate::wait::until;

/// What a NATS server that dies may add to a delivery.
const EXTRA: Duration = Duration::from_secs(2);
/// Once nodes have noticed that they do not hear each other, they ask the log each second.
const POLLED_WITHIN: Duration = Duration::from_millis(1_500);
/// What it may take before they have, and for the first deliveries after that.
const NOTICED_WITHIN: Duration = Duration::from_secs(4);
/// Interest in a channel is known everywhere, or what was missed is found, within this.
const FOUND_WITHIN: Duration = Duration::from_secs(2);

/// Row 11: a server that nodes are connected to is killed, and comes back.
pub(super) async fn one_killed(setup: Setup, size: Size) -> Result<String> {
    let mut stage = Stage::set(setup, size).await?;
    let server = busiest(&stage.cluster).context("nodes are connected to NATS")?;

    let begun = stage.crowd.now();
    stage.cluster.nats[server].kill();
    stage.steady(size).await?;
    stage.cluster.nats[server].restart().await;
    stage.steady(size).await?;
    let mended = stage.crowd.now();

    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    let longest = outcome.wait(begun..mended, 100);
    ensure!(longest <= EXTRA * size.slack, "a delivery took {longest:?}");
    Ok(format!("longest delivery {longest:.0?}; {outcome}"))
}

/// Row 12: all of it is down for a minute; a third of that in a small run.
pub(super) async fn all_killed(setup: Setup, size: Size) -> Result<String> {
    let mut stage = Stage::set(setup, size).await?;
    let length = Duration::from_secs(if size.rate < Size::FULL.rate { 20 } else { 60 });

    let begun = stage.crowd.now();
    stage.cluster.nats.iter_mut().for_each(tidewire_testkit::services::NatsServer::kill);
    stage.crowd.go_on_for(length).await;
    let mended = stage.crowd.now();
    for server in &mut stage.cluster.nats {
        server.restart().await;
    }
    stage.steady(size).await?;

    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    let noticed = begun + u64::try_from(NOTICED_WITHIN.as_nanos())?;
    let (first, p99) = (outcome.wait(begun..noticed, 100), outcome.wait(noticed..mended, 99));
    ensure!(p99 <= POLLED_WITHIN, "p99 of deliveries was {p99:?}");
    ensure!(first <= NOTICED_WITHIN + POLLED_WITHIN, "the first took {first:?}");
    Ok(format!("at first {first:.0?} at most, then p99 {p99:.0?}; {outcome}"))
}

/// Row 13: the servers do not hear each other for ten seconds.
pub(super) async fn split(setup: Setup, size: Size) -> Result<String> {
    let stage = Stage::set(setup, size).await?;

    let begun = stage.crowd.now();
    let rules = Rules { is_black_hole: [true; 2], ..Rules::default() };
    stage.cluster.routes.iter().for_each(|route| route.set(rules.clone()));
    stage.crowd.go_on_for(Duration::from_secs(10)).await;
    let mended = stage.crowd.now();
    stage.cluster.routes.iter().for_each(crate::Proxy::heal);
    stage.steady(size).await?;

    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    let longest = outcome.wait(begun..mended, 100);
    ensure!(longest <= NOTICED_WITHIN + POLLED_WITHIN, "a delivery took {longest:?}");
    Ok(format!("longest delivery {longest:.0?}; {outcome}"))
}

/// Row 14: one node reads and writes a kilobyte a second, far less than there is, until its server
/// cuts it for that.
pub(super) async fn slow(setup: Setup, size: Size) -> Result<String> {
    let setup = Setup { is_nats_pinned: true, nats_config: HASTY, ..setup };
    let size = Size { bytes: 4_096, ..size };
    let stage = Stage::set(setup, size).await?;

    let rules = Rules { bytes_per_second: [Some(1_000); 2], ..Rules::default() };
    stage.cluster.nats_links[0].iter().for_each(|link| link.set(rules.clone()));
    let cut = until("a slow consumer is cut", LIVELINESS, async || {
        stage.cluster.nats[0].log().contains("Slow Consumer")
    })
    .await?;
    stage.crowd.go_on_for(Duration::from_secs(5)).await;
    stage.cluster.nats_links[0].iter().for_each(crate::Proxy::heal);
    stage.steady(size).await?;

    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    Ok(format!("cut after {:.1} s; {outcome}", cut.as_secs_f64()))
}

/// A NATS server that waits for a slow reader no longer than this.
const HASTY: &str = "write_deadline: \"2s\"\nmax_pending: 1MB\n";

/// Row 15: a channel that nobody had is subscribed to at one node and published to at another, before
/// the servers between them know of the interest.
pub(super) async fn interest_late(setup: Setup, _: Size) -> Result<String> {
    const ROUNDS: u32 = 5;

    let cluster = Cluster::start(Setup { is_nats_pinned: true, ..setup }).await?;
    let mut listener = Client::connect(cluster.options(TENANTS[0], "ann", 0)).await?;
    let rules = Rules { delay: [Duration::from_millis(500); 2], ..Rules::default() };
    cluster.routes.iter().for_each(|route| route.set(rules.clone()));

    let mut longest = Duration::ZERO;
    for round in 0..ROUNDS {
        let name = format!("fresh-{round}");
        listener.subscribe(Channel::parse(&name)?, Since::Now);
        happening(&mut listener, |it| matches!(it, Happening::Subscribed(_))).await?;
        let begun = Instant::now();
        let place = (TENANTS[0], name.as_str());
        let (status, answer) =
            http::publish(cluster.node(2)?.clients(), place, "first", "hello").await?;
        ensure!(status == 200, "{status}: {answer}");
        next_publication(&mut listener).await?;
        longest = longest.max(begun.elapsed());
    }

    ensure!(longest <= FOUND_WITHIN, "it took {longest:?}");
    Ok(format!("{ROUNDS} times, {longest:.0?} at most"))
}

/// Row 16: what two nodes publish arrives in another order than it was stored.
pub(super) async fn reordered(setup: Setup, size: Size) -> Result<String> {
    let stage = Stage::set(setup, size).await?;

    let rules = Rules { delay: [Duration::from_millis(80); 2], ..Rules::default() };
    stage.cluster.nats_links[1].iter().for_each(|link| link.set(rules.clone()));
    stage.steady(size).await?;
    stage.steady(size).await?;
    let learnt = repair_reads(&stage.cluster).await?;
    stage.steady(size).await?;
    let reads = repair_reads(&stage.cluster).await? - learnt;
    stage.cluster.nats_links[1].iter().for_each(crate::Proxy::heal);

    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    ensure!(reads * 4 < learnt, "{reads} reads, {learnt} before nodes knew how late");
    Ok(format!("{learnt} reads before, {reads} once nodes knew how late; {outcome}"))
}

/// Row 6: a node that nobody hears appends something and is killed.
pub(super) async fn appended_and_killed(setup: Setup, _: Size) -> Result<String> {
    let mut cluster = Cluster::start(setup).await?;
    let mut listeners = Vec::new();
    for node in [1, 2] {
        let mut listener = Client::connect(cluster.options(TENANTS[0], "ann", node)).await?;
        listener.subscribe(Channel::parse("orders")?, Since::Now);
        happening(&mut listener, |it| matches!(it, Happening::Subscribed(_))).await?;
        listeners.push(listener);
    }

    let rules = Rules { is_black_hole: [true; 2], ..Rules::default() };
    cluster.nats_links[0].iter().for_each(|link| link.set(rules.clone()));
    let place = (TENANTS[0], "orders");
    let (status, answer) = http::publish(cluster.node(0)?.clients(), place, "1", "hello").await?;
    ensure!(status == 200, "{status}: {answer}");
    let begun = Instant::now();
    cluster.kill_node(0)?;
    let mut heard = Vec::new();
    for listener in &mut listeners {
        let publication = timeout(ORPHAN_WITHIN, next_publication(listener)).await;
        heard.push(publication.context("not heard in time")??.position.offset);
    }

    ensure!(heard.iter().all(|offset| answer["offset"] == *offset), "{answer}, heard {heard:?}");
    Ok(format!("heard after {:.1} s", begun.elapsed().as_secs_f64()))
}

/// What was appended by a node that died before it could say so is found within this.
const ORPHAN_WITHIN: Duration = Duration::from_secs(10);

/// The server that most connections of nodes go to.
fn busiest(cluster: &Cluster) -> Option<usize> {
    let connections = |server: &usize| -> usize {
        cluster.nats_links.iter().map(|links| links[*server].connections()).sum()
    };
    (0..cluster.nats.len()).max_by_key(connections).filter(|server| connections(server) > 0)
}
