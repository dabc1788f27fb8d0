//! What happens to nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidewire_client::{
    Channel, Client, Command, Connection, Happening, Payload, ServerEvent, Since,
};
use tidewire_model::{PublicationId, Publish, Resume, SessionNonce};
use tokio::time::timeout;

use super::company::Company;
use super::presence::GONE_WITHIN;
use super::{happening, next_publication, owners, repair_reads};
use crate::cluster::{Cluster, Setup, TENANTS};
use crate::crowd::{LIVELINESS, Size};
use crate::http;
use crate::proxy::Rules;
use crate::stage::Stage;
use crate::wait::until;

/// All clients of a node that is killed are back within this.
const BACK_WITHIN: Duration = Duration::from_secs(15);

/// Row 1: SIGKILL under load. All its clients resume elsewhere, and nobody is asked who they are. Of the
/// members of a room only those leave who do not come back.
pub(super) async fn killed(setup: Setup, size: Size) -> Result<String> {
    let mut stage = Stage::set(setup, size).await?;
    let strays = size.listeners / 4;
    let company = Company::gather(&stage.cluster, size.listeners, strays).await?;
    let there = stage.cluster.node(0)?.metric("tidewire_connections", "").await?;
    ensure!(there > u64::from(size.listeners), "nobody of the crowd is at the node");
    let there = there - u64::from(strays);
    let verified = verified_tokens(&stage.cluster).await?;

    stage.cluster.kill_node(0)?;
    let back = until("everybody is back", LIVELINESS * size.slack, async || {
        u64::from(stage.crowd.counts().resumed + company.back()) >= there
    })
    .await?;
    stage.steady(size).await?;
    let members = company.judge(&stage.cluster, 2 * GONE_WITHIN).await?;

    let asked = verified_tokens(&stage.cluster).await? - verified;
    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    outcome.check_sessions()?;
    ensure!(back <= BACK_WITHIN * size.slack, "back after {back:?}");
    ensure!(asked == 0, "{asked} tokens were verified for it");
    Ok(format!("{there} clients back after {:.1} s; {members}; {outcome}", back.as_secs_f64()))
}

/// Row 2: SIGSTOP until its clients have gone elsewhere. When it goes on it finds that their sessions
/// are not its own any more, writes to none, and closes a connection that is still there with 4408.
pub(super) async fn stopped(setup: Setup, size: Size) -> Result<String> {
    let stage = Stage::set(setup, size).await?;
    let there = stage.cluster.node(0)?.metric("tidewire_connections", "").await?;

    let closed = moved_meanwhile(&stage.cluster).await?;
    stage.cluster.node(0)?.pause()?;
    let back = until("everybody is elsewhere", LIVELINESS, async || {
        u64::from(stage.crowd.counts().resumed) >= there
    })
    .await?;
    let before = owners(&stage.cluster).await?;
    stage.cluster.node(0)?.go_on()?;
    stage.steady(size).await?;
    stage.steady(size).await?;
    let after = owners(&stage.cluster).await?;

    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    outcome.check_sessions()?;
    ensure!(closed == Some(4408), "closed with {closed:?}");
    check_owners(&before, &after)?;
    let (back, sessions) = (back.as_secs_f64(), before.len());
    Ok(format!("{there} clients elsewhere after {back:.1} s, {sessions} sessions kept; {outcome}"))
}

/// Stops node 0 for just as long as it takes to go on elsewhere with a session it has, while its
/// connection stays open; the code this is closed with then.
async fn moved_meanwhile(cluster: &Cluster) -> Result<Option<u16>> {
    let ann = |node| cluster.options(TENANTS[0], "ann", node);
    let (mut stays, connected) = Connection::open(&ann(0), 0, None).await?;
    let token = connected.resume_token.context("the session can be taken up")?;
    let nonce = SessionNonce::from_bytes([2; 16]);
    let resume = Resume { token, nonce, positions: Vec::new() };

    cluster.node(0)?.pause()?;
    let elsewhere = Connection::open(&ann(1), 0, Some(resume)).await;
    cluster.node(0)?.go_on()?;
    let (goes_on, elsewhere) = elsewhere?;
    let ending = async {
        loop {
            if let Err(lost) = stays.next().await {
                return lost.code();
            }
        }
    };
    let closed = timeout(LIVELINESS, ending).await.context("the connection stays open")?;

    ensure!(elsewhere.resumed, "the session was not taken over");
    goes_on.close().await;
    Ok(closed)
}

/// Fails if somebody wrote to a session who did not own it any more: a generation has one owner, and
/// is followed by higher ones only.
fn check_owners(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Result<()> {
    for (session, owned) in before {
        let Some(owns) = after.get(session) else { continue };
        let (was, is) = (ownership(owned)?, ownership(owns)?);
        ensure!(was == is || was.0 < is.0, "{session} was owned by {was:?}, then by {is:?}");
    }
    Ok(())
}

/// The generation of a session, and who has it in that.
fn ownership(text: &str) -> Result<(u64, &str)> {
    let mut words = text.split(' ');
    let (generation, owner) = (words.next(), words.next());
    Ok((generation.unwrap_or_default().parse()?, owner.context("a session has an owner")?))
}

/// Row 3: SIGTERM under load. Of the members of a room nobody leaves.
pub(super) async fn drained(setup: Setup, size: Size) -> Result<String> {
    let mut stage = Stage::set(setup, size).await?;
    let company = Company::gather(&stage.cluster, size.listeners, 0).await?;

    let took = stage.leave(0).await?;
    stage.steady(size).await?;
    let members = company.judge(&stage.cluster, GONE_WITHIN).await?;

    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    outcome.check_sessions()?;
    Ok(format!("ended after {:.1} s; {members}; {outcome}", took.as_secs_f64()))
}

/// Row 4: SIGTERM, and SIGKILL in each state of the drain that follows.
pub(super) async fn killed_while_draining(setup: Setup, size: Size) -> Result<String> {
    let mut stage = Stage::set(setup, size).await?;

    let states = ["announced", "refusing", "migrating", "settling", "flushing"];
    for (round, state) in states.into_iter().enumerate() {
        let number = round % 3;
        let node = stage.cluster.node(number)?;
        node.terminate()?;
        if state == "settling" {
            // A second signal is in a hurry: it does not wait until all have moved.
            node.line_with("drain: migrating").await?;
            node.terminate()?;
        }
        node.line_with(&format!("drain: {state}")).await?;
        stage.cluster.kill_node(number)?;
        stage.steady(size).await?;
        stage.cluster.restart_node(number).await?;
    }

    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    outcome.check_sessions()?;
    Ok(outcome.to_string())
}

/// Row 5: one node after the other is replaced.
pub(super) async fn replaced(setup: Setup, size: Size) -> Result<String> {
    let mut stage = Stage::set(setup, size).await?;

    for node in 0..3 {
        stage.leave(node).await?;
        stage.cluster.restart_node(node).await?;
        stage.steady(size).await?;
    }

    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    outcome.check_sessions()?;
    let moves = f64::from(outcome.counts.moved) / f64::from(size.listeners);
    Ok(format!("{moves:.1} moves for each client; {outcome}"))
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

/// Row 9: two users use one id.
pub(super) async fn same_id(setup: Setup, _: Size) -> Result<String> {
    let cluster = Cluster::start(setup).await?;
    let mut offsets = Vec::new();
    for (node, user) in ["ann", "bob"].into_iter().enumerate() {
        let options = cluster.options(TENANTS[0], user, node);
        let (mut connection, _) = Connection::open(&options, 0, None).await?;
        let id = Some(PublicationId::parse("1")?);
        let payload = Payload::json("1".into())?;
        let publish = Publish { channel: Channel::parse("orders")?, id, payload };
        connection.send(Command::Publish(publish))?;
        let answered = async {
            loop {
                if let ServerEvent::Published { position, duplicate, .. } =
                    connection.next().await?
                {
                    return anyhow::Ok((position.offset, duplicate));
                }
            }
        };
        offsets.push(timeout(LIVELINESS, answered).await.context("an answer")??);
        connection.close().await;
    }

    ensure!(offsets == [(1, false), (2, false)], "{offsets:?}");
    Ok("two entries".into())
}

/// Row 10: three nodes publish to one channel at once.
pub(super) async fn together(setup: Setup, size: Size) -> Result<String> {
    const MOST_READS: u64 = 50;

    let size = Size { channels: 2, rate: size.rate * 4, ..size };
    let stage = Stage::set(setup, size).await?;

    // Channels that are new have been read again by now for what was missed before they were known.
    let before = repair_reads(&stage.cluster).await?;
    stage.crowd.progress(3_000).await?;
    let reads = repair_reads(&stage.cluster).await? - before;

    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    ensure!(reads < MOST_READS, "{reads} reads for holes");
    Ok(format!("{reads} reads for holes; {outcome}"))
}

/// Tokens that the nodes but the first have verified so far.
async fn verified_tokens(cluster: &Cluster) -> Result<u64> {
    let mut verified = 0;
    for number in 1..3 {
        verified += cluster.node(number)?.metric("tidewire_auth_total", "\"token\"").await?;
    }
    Ok(verified)
}
