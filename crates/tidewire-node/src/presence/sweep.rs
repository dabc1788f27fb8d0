//! Letting those leave whose time is up, and marking the members of nodes that are gone as away.
//!
//! There is one sweeper in each node. What it does may be done by two at once, so nobody is locked
//! out: which node does it first follows from the leases, by rendezvous hashing.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tidewire_broker::Partition;
use tidewire_model::{ChannelRules, LiveRules, PresenceChange, TenantChannel};
use tidewire_store::{Departed, Life, NodeLease, NodeState, StoreError, Telling};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

use super::PresenceWay;
use super::roll::former;
use super::say::{publications, terms};
use crate::ask::Reply;
use crate::lane::Pending;
use crate::shard::Action;

pub(crate) struct Sweeper {
    way: Arc<PresenceWay>,
    shards: Vec<mpsc::Sender<Action>>,
    members: watch::Receiver<Vec<NodeLease>>,
    rules: LiveRules,
    due: mpsc::Receiver<(u16, Instant)>,
    /// When to look for those whose time is up, in which part. Rounded, so that there are not many.
    dues: BTreeSet<(Instant, u16)>,
    started: Instant,
    ticks: u64,
    /// Since when lives that may have members have had no lease, in one stretch of being in touch
    /// with the store.
    unseen: HashMap<Life, Instant>,
    /// Lives that had a lease when they were last looked for.
    seen: HashSet<Life>,
    /// Whether any life may have members.
    has_lives: bool,
}

/// What the sweeper may have waiting.
pub(crate) const DUES: usize = 1_024;

const TICK: Duration = Duration::from_secs(1);
/// How often somebody looks into each part for those whose time is up and whom nobody has let leave.
const EXPIRED_EVERY: u64 = 5;
const ROUNDED_MS: u64 = 100;
const MOST_EXPIRED: u32 = 500;
/// How long a life has no lease before its members are marked: renewals come each second once a store is back.
const GRACE: Duration = Duration::from_secs(3);
/// The same of one that was never seen with a lease: it may be about to write its first.
const FIRST_GRACE: Duration = Duration::from_secs(12);
/// After marking so many members others have their turn.
const MARKED_AT_ONCE: u64 = 500;
const CHANNEL_COST: u64 = 5;
const REST: Duration = Duration::from_millis(50);

impl Sweeper {
    pub(crate) fn new(
        way: Arc<PresenceWay>,
        shards: Vec<mpsc::Sender<Action>>,
        members: watch::Receiver<Vec<NodeLease>>,
        rules: LiveRules,
        due: mpsc::Receiver<(u16, Instant)>,
    ) -> Self {
        Self {
            way,
            shards,
            members,
            rules,
            due,
            dues: BTreeSet::new(),
            started: Instant::now(),
            ticks: 0,
            unseen: HashMap::new(),
            seen: HashSet::new(),
            has_lives: false,
        }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sweeping: Option<BoxFuture<'static, ()>> = None;
        loop {
            let next = self.dues.first().map(|(at, _)| *at);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some((part, at)) = self.due.recv() => self.note(part, at),
                () = until(next) => self.expire_due().await,
                () = finished(&mut sweeping) => sweeping = None,
                _ = tick.tick() => {
                    self.ticks += 1;
                    let dead = self.look().await;
                    if sweeping.is_none() && let Some(life) = dead {
                        sweeping = Some(self.sweep(life).boxed());
                    }
                    self.expire_own_parts().await;
                }
            }
        }
    }

    fn note(&mut self, part: u16, at: Instant) {
        let after = at.saturating_duration_since(self.started).as_millis();
        let steps = u64::try_from(after).unwrap_or(u64::MAX).div_ceil(ROUNDED_MS);
        let at = self.started + Duration::from_millis(steps.saturating_mul(ROUNDED_MS));
        self.dues.insert((at, part));
    }

    async fn expire_due(&mut self) {
        let now = Instant::now();
        let mut parts = BTreeSet::new();
        while self.dues.first().is_some_and(|(at, _)| *at <= now) {
            parts.extend(self.dues.pop_first().map(|(_, part)| part));
        }
        for part in parts {
            self.expire(part).await;
        }
    }

    async fn expire_own_parts(&self) {
        if !self.has_lives || !self.ticks.is_multiple_of(EXPIRED_EVERY) {
            return;
        }
        for part in 0..self.way.store.parts() {
            if self.is_first_for(&format!("part {part}")) {
                self.expire(part).await;
            }
        }
    }

    /// Lets those leave whose time is up, and says so.
    async fn expire(&self, part: u16) {
        loop {
            match self.way.store.expire(part, MOST_EXPIRED).await {
                Ok(expired) => {
                    for departed in expired.channels {
                        self.tell(departed).await;
                    }
                    if !expired.has_more {
                        return;
                    }
                }
                Err(error) => return tracing::debug!(%error, "cannot let members leave"),
            }
        }
    }

    async fn tell(&self, departed: Departed) {
        let Departed { channel, sessions, occupancy, telling } = departed;
        let left: Vec<_> = sessions.iter().map(|(session, user)| former(session, user)).collect();
        self.way.metrics.left.increment(left.len() as u64);
        let change = PresenceChange { left, ..PresenceChange::at(occupancy) };
        tell(&self.shards, &channel, change, telling).await;
    }

    /// Looks who is alive. Yields a life that is gone and whose members this node is to mark.
    async fn look(&mut self) -> Option<Life> {
        let own = &self.way.life;
        let noted = self.way.is_noted.load(Ordering::Relaxed).then_some(own);
        let lives = match self.way.store.lives(noted).await {
            Ok(lives) => lives,
            Err(error) => {
                tracing::debug!(%error, "cannot look whose members there are");
                self.unseen.clear();
                return None;
            }
        };
        self.has_lives = !lives.is_empty();
        let now = Instant::now();
        let live: HashSet<_> = self.members.borrow().iter().map(life_of).collect();
        if live.is_empty() {
            // The leases have not been read yet.
            return None;
        }
        self.seen.retain(|life| lives.contains(life));
        self.seen.extend(lives.iter().filter(|life| live.contains(*life)).cloned());
        self.unseen.retain(|life, _| lives.contains(life) && !live.contains(life));
        let gone = lives.into_iter().filter(|life| !live.contains(life) && life != own);
        let dead = gone.filter(|life| {
            let since = *self.unseen.entry(life.clone()).or_insert(now);
            let grace = if self.seen.contains(life) { GRACE } else { FIRST_GRACE };
            now >= since + grace
        });
        let dead: Vec<_> = dead.collect();
        dead.into_iter().find(|life| self.is_first_for(&life.to_string()))
    }

    /// Whether of all nodes that take part this one is to do something first.
    fn is_first_for(&self, what: &str) -> bool {
        let members = self.members.borrow();
        let is_ready = |lease: &&NodeLease| lease.state == NodeState::Ready;
        let rank = |lease: &&NodeLease| xxh3_64(format!("{what}/{}", lease.node).as_bytes());
        let first = members.iter().filter(is_ready).max_by_key(rank);
        let first = first.or_else(|| members.iter().max_by_key(rank));
        first.is_some_and(|lease| lease.node == self.way.life.node)
    }

    /// Marks all members of a life that is gone as away, and forgets it.
    fn sweep(&self, life: Life) -> impl Future<Output = ()> + Send + use<> {
        let (way, rules) = (Arc::clone(&self.way), self.rules.clone());
        let (shards, members) = (self.shards.clone(), self.members.clone());
        let sweep = Sweep { way, rules, shards, members };
        async move {
            match sweep.run(&life).await {
                Ok(marked) => tracing::info!(%life, marked, "members of a node that is gone"),
                Err(error) => tracing::debug!(%life, %error, "cannot mark members as away yet"),
            }
        }
    }
}

/// The marking of one life's members.
struct Sweep {
    way: Arc<PresenceWay>,
    rules: LiveRules,
    shards: Vec<mpsc::Sender<Action>>,
    members: watch::Receiver<Vec<NodeLease>>,
}

impl Sweep {
    async fn run(&self, life: &Life) -> Result<u64, StoreError> {
        let (mut marked, mut spent) = (0, 0);
        for part in 0..self.way.store.parts() {
            loop {
                if self.is_back(life) {
                    return Ok(marked);
                }
                let channels = self.way.store.channels_of(part, life).await?;
                if channels.is_empty() {
                    break;
                }
                for channel in channels {
                    let here = self.mark((part, &channel), life).await?;
                    marked += here;
                    spent = rest_if_long(spent + CHANNEL_COST + here % MARKED_AT_ONCE).await;
                }
            }
        }
        self.way.store.forget(life).await?;
        Ok(marked)
    }

    /// Whether the life has a lease again. It tells the store once who is here: what is marked after that
    /// would leave.
    fn is_back(&self, life: &Life) -> bool {
        self.members.borrow().iter().any(|lease| life_of(lease) == *life)
    }

    /// Marks the members in one channel.
    async fn mark(
        &self,
        (part, channel): (u16, &TenantChannel),
        life: &Life,
    ) -> Result<u64, StoreError> {
        let rule = |rules: &ChannelRules| rules.presence(&channel.tenant, &channel.channel);
        let debounce = terms(self.rules.read(rule)).debounce;
        let (mut marked, mut from) = (0, Some(0));
        while let Some(place) = from.filter(|_| !self.is_back(life)) {
            let step = self.way.store.orphan(channel, life, place, debounce).await?;
            from = step.next;
            marked += step.marked;
            self.way.metrics.swept.increment(step.marked);
            let change = PresenceChange::at(step.tally.occupancy);
            tell(&self.shards, channel, change, step.tally.telling).await;
            if from.is_some() {
                sleep(REST).await;
            }
        }
        // If there is no room, the regular look finds them.
        let _ = self.way.due.try_send((part, Instant::now() + debounce));
        Ok(marked)
    }
}

/// Lets others have their turn, if enough has been marked since they had one. Yields how much has.
async fn rest_if_long(spent: u64) -> u64 {
    if spent < MARKED_AT_ONCE {
        return spent;
    }
    sleep(REST).await;
    0
}

/// Has the shard of a channel tell those who watch it. One that has stopped tells nobody: who watched there
/// is gone.
async fn tell(
    shards: &[mpsc::Sender<Action>],
    channel: &TenantChannel,
    change: PresenceChange,
    telling: Telling,
) {
    // A channel and what is named after it are one shard's.
    let shard = &shards[usize::from(Partition::of(channel).index) % shards.len()];
    if let Telling::CountLater(wait) = telling {
        let _ = shard.send(Action::Owe { channel: channel.clone(), wait }).await;
    }
    for (channel, draft) in publications(channel, change, telling) {
        let (reply, _nobody_waits) = oneshot::channel();
        let pending = Pending { draft, reply: Reply::Caller(reply) };
        let _ = shard.send(Action::Publish { channel, pending }).await;
    }
}

fn life_of(lease: &NodeLease) -> Life {
    Life { node: lease.node.clone(), started_at_ms: lease.started_at_ms }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Resolves when what is under way is done; never, while nothing is.
async fn finished(sweeping: &mut Option<BoxFuture<'static, ()>>) {
    match sweeping {
        Some(sweeping) => sweeping.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use tidewire_model::{Channel, Generation, NodeId, SessionId, Tenant, UserId};
    use tidewire_store::{Age, Entry, MemoryPresence, Move, NodeLoad, Presence, Terms};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_has_a_lease_again_is_marked_no_further_and_not_forgotten() {
        let (store, dead) = (Arc::new(MemoryPresence::default()), life("a"));
        let room = TenantChannel::new(
            Tenant::parse("acme").expect("valid"),
            Channel::parse("room").expect("valid"),
        );
        let terms = Terms { debounce: Duration::from_secs(5), listed: 10 };
        let moves: Vec<_> = (0..1_500).map(enter).collect();
        store.lives(Some(&dead)).await.expect("noted");
        store.apply(&room, &dead, &moves, terms).await.expect("entered");
        let (due, _dues) = mpsc::channel(DUES);
        let (shard, _actions) = mpsc::channel(DUES);
        let (leases, members) = watch::channel(Vec::new());
        let way = Arc::new(PresenceWay::new(Arc::clone(&store) as _, life("b"), due));
        let sweep = Sweep { way, rules: LiveRules::default(), shards: vec![shard], members };

        let returning = async {
            sleep(REST / 2).await;
            leases.send_replace(vec![lease(&dead)]);
        };
        let (marked, ()) = tokio::join!(sweep.run(&dead), returning);

        assert_eq!(marked.expect("the store is there"), 500, "the first page");
        assert_eq!(store.lives(None).await.expect("lives"), [dead]);
    }

    fn enter(number: u32) -> Move {
        let mut bytes = [7; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        let (session, user) = (SessionId::from_bytes(bytes), UserId::parse("ann").expect("valid"));
        let age = Age { generation: Generation(1), version: 1 };
        Move::Enter { entry: Entry { session, user, word: None }, age }
    }

    fn life(name: &str) -> Life {
        Life { node: NodeId::parse(name).expect("valid"), started_at_ms: 7 }
    }

    fn lease(life: &Life) -> NodeLease {
        NodeLease {
            node: life.node.clone(),
            slot: None,
            state: NodeState::Ready,
            weight: 100,
            connections: 0,
            started_at_ms: life.started_at_ms,
            beats: true,
            load: NodeLoad::default(),
            url: None,
        }
    }
}
