//! Clients that are in a room while something happens to their node, and somebody who watches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use parking_lot::Mutex;
use tidewire_client::{Channel, Client, Happening, MemberId, PresenceChange};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::presence::{ROOM, entries, list, watch as watch_room};
use crate::cluster::{Cluster, TENANTS};
use crate::crowd::LIVELINESS;
use crate::wait::until;

/// Members at node 0, and a client at node 2 that hears who comes and goes.
pub(super) struct Company {
    /// By the member, whether it knows of other nodes than its own.
    members: BTreeMap<MemberId, bool>,
    shared: Arc<Shared>,
    clients: JoinSet<()>,
    watching: JoinSet<Result<Client>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Connections at another node, after the first.
    back: watch::Sender<u32>,
    changes: Mutex<Vec<PresenceChange>>,
    /// How clients ended that were to go on.
    ended: Mutex<Vec<String>>,
    is_over: watch::Sender<bool>,
}

impl Company {
    /// Has `count` clients enter, of which the first `strays` know no node but their own.
    pub(super) async fn gather(cluster: &Cluster, count: u32, strays: u32) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (mut members, mut clients) = (BTreeMap::new(), JoinSet::new());
        for number in 0..count {
            let mut options = cluster.options(TENANTS[0], &format!("member-{number}"), 0);
            let goes_on = number >= strays;
            if !goes_on {
                options.urls.truncate(1);
            }
            let mut client = Client::connect(options).await?;
            client.enter(Channel::parse(ROOM)?, None);
            let entered = |it: &Happening| matches!(it, Happening::Entered { .. });
            let Happening::Entered { member, .. } = super::happening(&mut client, entered).await?
            else {
                unreachable!("waited for")
            };
            members.insert(member, goes_on);
            clients.spawn(Arc::clone(&shared).drive(client, goes_on));
        }
        let mut watching = JoinSet::new();
        watching.spawn(Arc::clone(&shared).hear(watch_room(cluster, 2).await?));
        Ok(Self { members, shared, clients, watching })
    }

    /// How many have come to another node so far.
    pub(super) fn back(&self) -> u32 {
        *self.shared.back.borrow()
    }

    fn going(&self) -> impl Iterator<Item = MemberId> {
        self.members.iter().filter(|(_, goes_on)| **goes_on).map(|(member, _)| *member)
    }

    /// Waits until those have left who do not go on, and judges: nobody else has left or joined, and the
    /// others are there, each once, in the name of a node that runs.
    pub(super) async fn judge(mut self, cluster: &Cluster, within: Duration) -> Result<String> {
        let strays = self.members.len() - self.going().count();
        let took =
            until("who does not come back has left", within, async || self.left().len() >= strays)
                .await;
        let going: BTreeSet<_> = self.going().collect();
        let stored = until("the others are stored by nodes that run", LIVELINESS, async || {
            is_stored_by_others(cluster, going.len()).await.unwrap_or(false)
        })
        .await;
        self.shared.is_over.send_replace(true);
        let watcher = timeout(LIVELINESS, self.watching.join_next()).await?;
        let mut watcher = watcher.context("it watches")???;
        let there = list(&mut watcher, ROOM).await?;

        let (left, joined) = (self.left(), self.joined());
        let ended = self.shared.ended.lock().clone();
        ensure!(ended.is_empty(), "members have ended: {ended:?}");
        let wrong: Vec<_> = left.iter().filter(|member| going.contains(member)).collect();
        ensure!(wrong.is_empty(), "{} left who had come back: {wrong:?}", wrong.len());
        ensure!(joined.is_empty(), "joined again: {joined:?}");
        let took = took?;
        ensure!(left.len() == strays, "{} leaves of {strays}", left.len());
        stored?;
        ensure!(there.len() == going.len(), "{} in the list of {}", there.len(), going.len());
        ensure!(there.into_iter().collect::<BTreeSet<_>>() == going, "the list has others");
        self.clients.abort_all();
        let seconds = took.as_secs_f64();
        Ok(format!("{} of {} members left, after {seconds:.1} s", left.len(), self.members.len()))
    }

    fn left(&self) -> Vec<MemberId> {
        let changes = self.shared.changes.lock();
        changes.iter().flat_map(|change| &change.left).map(|former| former.id).collect()
    }

    /// Who is told to have come, and whether anything is told to be missing.
    fn joined(&self) -> Vec<String> {
        let changes = self.shared.changes.lock();
        let odd = changes.iter().filter(|change| change.lost || !change.joined.is_empty());
        odd.map(|change| format!("{change:?}")).collect()
    }
}

impl Shared {
    /// Has a member do what it is asked.
    async fn drive(self: Arc<Self>, mut client: Client, goes_on: bool) {
        loop {
            match client.next().await {
                Ok(Happening::Connected { .. }) => self.back.send_modify(|count| *count += 1),
                Ok(_) => {}
                Err(error) if goes_on => return self.ended.lock().push(error.to_string()),
                Err(_) => return,
            }
        }
    }

    /// Keeps all that is told of the room, until it is over.
    async fn hear(self: Arc<Self>, mut watcher: Client) -> Result<Client> {
        let mut over = self.is_over.subscribe();
        loop {
            let happening = tokio::select! {
                happening = watcher.next() => happening?,
                _ = over.wait_for(|is_over| *is_over) => return Ok(watcher),
            };
            if let Happening::Presence { changes, .. } = happening {
                self.changes.lock().extend(changes);
            }
        }
    }
}

/// Whether so many members are stored, all of them by nodes that run.
async fn is_stored_by_others(cluster: &Cluster, count: usize) -> Result<bool> {
    let running: Vec<_> = cluster.running().map(|node| format!("{}.", node.name())).collect();
    let entries = entries(cluster).await?;
    let is_of_running = |entry: &String| running.iter().any(|node| entry.starts_with(node));
    Ok(entries.len() == count && entries.iter().all(is_of_running))
}
