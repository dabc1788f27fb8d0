//! The rows of the failure matrix, each a function: provoke, mend, judge.

use std::collections::BTreeMap;
use std::pin::Pin;

use anyhow::{Context as _, Result};
use tidewire_client::{Channel, Client, Happening, Received, Since};
use tokio::time::timeout;

use crate::cluster::{Cluster, Setup};
use crate::crowd::{LIVELINESS, Size};
use crate::http;

mod clocks;
mod company;
mod crowds;
mod flood;
mod nats;
mod nodes;
mod presence;
mod redis;
mod sessions;
mod slots;
mod slow;
mod splits;

/// One fault, and what must come of it.
#[derive(Clone, Copy)]
pub struct Row {
    /// As the failure matrix counts.
    pub number: u32,
    pub what: &'static str,
    run: fn(Setup, Size) -> Running,
}

type Running = Pin<Box<dyn Future<Output = Result<String>>>>;

/// A row of a function that takes a setup and a size.
macro_rules! row {
    ($number:literal, $what:literal, $run:path) => {
        Row { number: $number, what: $what, run: |setup, size| Box::pin($run(setup, size)) }
    };
}

/// Every row there is.
pub const ROWS: &[Row] = &[
    row!(1, "a node is killed under load", nodes::killed),
    row!(2, "a node is stopped, and goes on", nodes::stopped),
    row!(3, "a node drains under load", nodes::drained),
    row!(4, "a node is killed while it drains", nodes::killed_while_draining),
    row!(5, "one node after the other is replaced", nodes::replaced),
    row!(6, "a node appends, is heard by nobody, and is killed", nats::appended_and_killed),
    row!(7, "replies of Redis are lost after the append", redis::replies_lost),
    row!(8, "a publisher repeats itself at another node", nodes::retried_elsewhere),
    row!(9, "two users use one id", nodes::same_id),
    row!(10, "three nodes publish to one channel", nodes::together),
    row!(11, "a NATS server is killed", nats::one_killed),
    row!(12, "all of NATS is down", nats::all_killed),
    row!(13, "the servers of NATS do not hear each other", nats::split),
    row!(14, "NATS is slow to one node", nats::slow),
    row!(15, "interest in a channel is known late", nats::interest_late),
    row!(16, "what two nodes publish arrives out of order", nats::reordered),
    row!(17, "the Redis primary is killed, its replica current", redis::replica_current),
    row!(18, "the Redis primary is killed, its replica 300 ms behind", redis::replica_behind),
    row!(19, "the same, and a node is killed with it", redis::replica_and_node),
    row!(20, "the Redis primary is killed and comes back with its data", redis::restarted),
    row!(21, "Redis is emptied", redis::emptied),
    row!(22, "two servers of Redis are primaries at once", splits::primaries),
    row!(23, "the same, and neither has the fence", splits::unfenced),
    row!(24, "Redis is stopped for five seconds", redis::stopped),
    row!(25, "Redis has no memory left", redis::full),
    row!(26, "slots of a Redis cluster move under load", slots::moved),
    row!(27, "Redis forgets its functions", redis::functions_flushed),
    row!(28, "a channel is trimmed while a client is away", redis::trimmed),
    row!(29, "a client is back before its old node noticed", presence::unnoticed),
    row!(30, "the answer to a resume is lost", sessions::answer_lost),
    row!(31, "two tabs have one token", sessions::two_tabs),
    row!(32, "a session's record is lost", sessions::record_lost),
    row!(33, "a client of a hot channel gets a kilobyte a second", slow::reader),
    row!(34, "five thousand clients come back at once", crowds::returning),
    row!(35, "a tenant keeps to no limit", crowds::noisy),
    row!(36, "a node's link to Redis is cut, and NATS is there", presence::cut_off),
    row!(37, "clocks of nodes and of Redis jump by an hour", clocks::jumped),
];

/// The row of this number.
pub fn row(number: u32) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.number == number)
}

impl Row {
    /// Runs it on a cluster of its own; figures in words.
    ///
    /// # Errors
    ///
    /// What was promised and is not so.
    pub async fn run(&self, setup: Setup, size: Size) -> Result<String> {
        (self.run)(setup, size).await.with_context(|| format!("row {}: {}", self.number, self.what))
    }
}

/// Waits for something to happen to a client.
async fn happening(client: &mut Client, is_it: impl Fn(&Happening) -> bool) -> Result<Happening> {
    let waiting = async {
        loop {
            let happening = client.next().await?;
            if is_it(&happening) {
                return Ok(happening);
            }
        }
    };
    timeout(LIVELINESS, waiting).await.context("nothing of the kind happens")?
}

/// A client of node 0 that has subscribed to a channel, and has heard a first publication, which came
/// through node 1.
async fn reader(cluster: &Cluster, (tenant, channel): (&str, &str)) -> Result<Client> {
    let mut client = Client::connect(cluster.options(tenant, "ann", 0)).await?;
    client.subscribe(Channel::parse(channel)?, Since::Now);
    happening(&mut client, |it| matches!(it, Happening::Subscribed(_))).await?;
    http::publish(cluster.node(1)?.clients(), (tenant, channel), "0", "before").await?;
    next_publication(&mut client).await?;
    Ok(client)
}

/// Waits for the next publication a client passes on.
async fn next_publication(client: &mut Client) -> Result<Received> {
    let publication = |it: &Happening| matches!(it, Happening::Publication { .. });
    match happening(client, publication).await? {
        Happening::Publication { publication, .. } => Ok(publication),
        other => unreachable!("waited for a publication: {other:?}"),
    }
}

/// What Redis has of the owner of each session, its generation first, by its key.
async fn owners(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let primary = cluster.primary().await.context("there is a primary")?;
    let redis = &cluster.redis[primary];
    let mut owners = BTreeMap::new();
    for key in redis.command(&["KEYS", "tw:s:*"]).await?.lines() {
        let owner = redis.command(&["HGET", key, "o"]).await?;
        if !owner.is_empty() {
            owners.insert(key.to_owned(), owner);
        }
    }
    Ok(owners)
}

/// How often nodes that run have read the log because they missed something, or might have.
async fn repair_reads(cluster: &Cluster) -> Result<u64> {
    let mut sum = 0;
    for node in cluster.running() {
        sum += node.metric("tidewire_log_reads_total", "repair").await?;
    }
    Ok(sum)
}
