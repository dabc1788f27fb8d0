//! The rows of the failure matrix, each a function: provoke, mend, judge.

use std::pin::Pin;

use anyhow::{Context as _, Result};
use tidewire_client::{Client, Happening, Received};
use tokio::time::timeout;

use crate::cluster::Setup;
use crate::crowd::{LIVELINESS, Size};

mod nats;
mod nodes;
mod redis;
mod sessions;

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
    row!(7, "replies of Redis are lost after the append", redis::replies_lost),
    row!(8, "a publisher repeats itself at another node", nodes::retried_elsewhere),
    row!(11, "a NATS server is killed", nats::one_killed),
    row!(18, "the Redis primary is killed, its replica 300 ms behind", redis::replica_behind),
    row!(20, "the Redis primary is killed and comes back with its data", redis::restarted),
    row!(30, "the answer to a resume is lost", sessions::answer_lost),
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

/// Waits for the next publication a client passes on.
async fn next_publication(client: &mut Client) -> Result<Received> {
    let publication = |it: &Happening| matches!(it, Happening::Publication { .. });
    match happening(client, publication).await? {
        Happening::Publication { publication, .. } => Ok(publication),
        other => unreachable!("waited for a publication: {other:?}"),
    }
}
