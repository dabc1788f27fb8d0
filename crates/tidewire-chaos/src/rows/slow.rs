//! A client that reads slowly.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tidewire_client::{Channel, Client, Happening, Position, Since};
use tidewire_model::Recovery;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::happening;
use crate::cluster::{Cluster, Setup, TENANTS};
use crate::crowd::{LIVELINESS, Size};
use crate::http;
use crate::node::NodeProcess;
use crate::proxy::{Proxy, Rules};
use crate::stage::Stage;

const HOT: &str = "hot";
const PAYLOAD_BYTES: usize = 16 << 10;
/// What passes to it in a second.
const BYTES_PER_SECOND: u32 = 1_024;
/// Publications at least: twice the memory that they may cost.
const LEAST: u64 = 2_000;
/// How long it goes on after the client has fallen behind: longer than it may be behind.
const GOES_ON_FOR: Duration = Duration::from_secs(8);
/// What is unsent of one client, what channels keep in memory, and what an allocator keeps beside.
const MOST_GROWTH: u64 = 16 << 20;

/// Row 33: one client of a hot channel gets a kilobyte a second. It falls behind, at a bounded cost, and
/// when it can read again it gets all of it or is told what it does not get. Nobody else notices.
pub(super) async fn reader(setup: Setup, size: Size) -> Result<String> {
    let stage = Stage::set(setup, size).await?;
    let node = stage.cluster.node(0)?;
    let link = Proxy::start(node.clients()).await?;
    let mut options = stage.cluster.options(TENANTS[0], "slow", 0);
    options.urls = vec![format!("ws://{}", link.address())];
    let mut client = Client::connect(options).await?;
    client.subscribe(Channel::parse(HOT)?, Since::Now);
    let first = happening(&mut client, |it| matches!(it, Happening::Subscribed(_))).await?;
    let mut heard = Heard::default();
    heard.take(&first)?;
    link.set(Rules { bytes_per_second: [None, Some(BYTES_PER_SECOND)], ..Rules::default() });

    let (last, is_last) = watch::channel(None);
    let before = node.resident().context("it runs")?;
    let flooding = async {
        let (published, most) = flood(&stage.cluster, node).await?;
        link.heal();
        last.send_replace(Some(published));
        anyhow::Ok((published, most))
    };
    let ((published, most), ()) = tokio::try_join!(flooding, heard.up_to(&mut client, is_last))?;

    let lagged = lagged(node).await?;
    let grown = most.saturating_sub(before);
    ensure!(grown <= MOST_GROWTH, "{grown} bytes more, and {MOST_GROWTH} are allowed");
    let (_, outcome) = stage.judge().await?;
    outcome.check()?;
    ensure!(outcome.counts.lost == 0, "others were disturbed: {:?}", outcome.counts);
    let Heard { publications, gaps, connections, .. } = heard;
    Ok(format!(
        "behind {lagged} times, {} MiB more; of {published} it got {publications}, was told of {gaps} \
         gaps, over {connections} more connections; {outcome}",
        grown >> 20
    ))
}

/// Publishes until the client has been behind for longer than it may be; how often, and the most memory
/// that the node took meanwhile.
async fn flood(cluster: &Cluster, node: &NodeProcess) -> Result<(u64, u64)> {
    let address = cluster.node(1)?.clients();
    let payload = "x".repeat(PAYLOAD_BYTES);
    let begun = Instant::now();
    let (mut published, mut most, mut behind_since) = (0, 0, None::<Instant>);
    while published < LEAST || behind_since.is_none_or(|since| since.elapsed() < GOES_ON_FOR) {
        published += 1;
        let id = published.to_string();
        let (status, answer) = http::publish(address, (TENANTS[0], HOT), &id, &payload).await?;
        ensure!(status == 200, "{status}: {answer}");
        most = most.max(node.resident().context("it runs")?);
        if behind_since.is_none() && published % 50 == 0 && lagged(node).await? > 0 {
            behind_since = Some(Instant::now());
        }
        ensure!(begun.elapsed() < 3 * LIVELINESS, "it does not fall behind");
    }
    Ok((published, most))
}

async fn lagged(node: &NodeProcess) -> Result<u64> {
    node.metric("tidewire_slow_consumers_total", "lag").await
}

/// What the slow client has heard.
#[derive(Debug, Default)]
struct Heard {
    seen: Option<Position>,
    publications: u64,
    gaps: u64,
    connections: u64,
}

impl Heard {
    /// Goes on up to the offset that is named once it is known.
    async fn up_to(
        &mut self,
        client: &mut Client,
        mut last: watch::Receiver<Option<u64>>,
    ) -> Result<()> {
        loop {
            let wanted = *last.borrow_and_update();
            if wanted.is_some_and(|wanted| self.offset() >= wanted) {
                return Ok(());
            }
            tokio::select! {
                happening = client.next() => self.take(&happening?)?,
                changed = last.changed() => changed?,
                () = sleep(LIVELINESS), if wanted.is_some() => {
                    bail!("it stays at {} and is to be at {wanted:?}", self.offset())
                }
            }
        }
    }

    fn offset(&self) -> u64 {
        self.seen.map_or(0, |seen| seen.offset)
    }

    /// Fails if something is missing without a word.
    fn take(&mut self, happening: &Happening) -> Result<()> {
        match happening {
            Happening::Publication { publication, .. } => {
                let (offset, expected) = (publication.position.offset, self.offset() + 1);
                ensure!(offset == expected, "{offset} came, and {expected} was next");
                self.publications += 1;
                self.seen = Some(publication.position);
            }
            Happening::Gap { gap, .. } => {
                self.gaps += 1;
                self.seen = Some(gap.position);
            }
            Happening::Subscribed(subscribed) => {
                if let Recovery::Failed(_) = subscribed.recovery {
                    self.gaps += 1;
                    self.seen = Some(subscribed.position);
                }
                self.seen.get_or_insert(subscribed.position);
            }
            Happening::Connected { .. } => self.connections += 1,
            Happening::Refused { .. } | Happening::Rejected { .. } => bail!("{happening:?}"),
            _ => {}
        }
        Ok(())
    }
}
