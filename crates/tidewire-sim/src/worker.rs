use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tidewire_broker::Draft;
use tidewire_hub::{Hub, Inbox, Outbox, QueueLimits, Subscriber, outbox};
use tidewire_model::{
    ConnectionId, Delivery, Envelope, Failure, Gap, JoinId, Joined, Published, RequestId, Since,
    TenantChannel, Tenure,
};
use tidewire_node::{Ask, Join, Node};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::dice::Dice;
use crate::weather::Weather;
use crate::witness::Tally;

/// A worker of the edge, as it is seen from the node: all its connections share one outbox, and what
/// comes through it finds them by a hub of the worker's own.
#[derive(Clone)]
pub(crate) struct Worker(Arc<Inner>);

struct Inner {
    /// Which of the nodes it is of.
    index: usize,
    /// Cancelled when its node is killed.
    gone: CancellationToken,
    node: Node,
    outbox: Outbox,
    desk: Mutex<Desk>,
    /// Rung when the backlog is filled.
    refused: Notify,
}

/// How a worker takes what is in its queue.
pub(crate) struct Pace {
    pub(crate) dice: Dice,
    pub(crate) weather: Arc<Weather>,
    /// How often it does something else for a while.
    pub(crate) stall_percent: u64,
}

/// What a worker knows of its connections.
#[derive(Default)]
struct Desk {
    hub: Hub,
    lines: BTreeMap<ConnectionId, Line>,
    /// What shards had no room for, in order.
    backlog: VecDeque<Ask>,
    tally: Tally,
}

/// The way from a worker to one of its connections.
struct Line {
    words: VecDeque<Word>,
    /// How many words make it full. Answers and last words go in all the same.
    limit: usize,
    filled: Arc<Notify>,
    /// Joins that have not been answered.
    joining: HashSet<JoinId>,
}

/// What a connection is told.
pub(crate) enum Word {
    Joined {
        join: JoinId,
        outcome: Result<Joined, Failure>,
    },
    Publication {
        join: JoinId,
        envelope: Arc<Envelope>,
    },
    Gap {
        join: JoinId,
        gap: Gap,
    },
    /// The worker's queue was full.
    Lagged {
        join: JoinId,
    },
    /// The connection's line was full.
    Slow {
        join: JoinId,
    },
    Published {
        request: RequestId,
        outcome: Result<Published, Failure>,
    },
}

impl Worker {
    pub(crate) fn new(
        (index, node): (usize, Node),
        gone: CancellationToken,
        limits: QueueLimits,
    ) -> (Self, Inbox) {
        let (outbox, inbox) = outbox(limits);
        let (desk, refused) = (Mutex::default(), Notify::new());
        (Self(Arc::new(Inner { index, gone, node, outbox, desk, refused })), inbox)
    }

    pub(crate) fn node(&self) -> &Node {
        &self.0.node
    }

    pub(crate) fn node_index(&self) -> usize {
        self.0.index
    }

    /// Waits until its node is killed.
    pub(crate) async fn gone(&self) {
        self.0.gone.cancelled().await;
    }

    pub(crate) fn tally(&self) -> Tally {
        self.0.desk.lock().tally
    }

    /// Channels somebody is routed to.
    pub(crate) fn routes(&self) -> usize {
        self.0.desk.lock().hub.channels()
    }

    /// Hands on what comes, until `stop`.
    pub(crate) async fn run(self, mut inbox: Inbox, mut pace: Pace, stop: CancellationToken) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.catch_up() => continue,
                () = inbox.filled() => {}
            }
            if !pace.weather.is_fair() && pace.dice.chance(pace.stall_percent) {
                tokio::time::sleep(pace.dice.millis(1, 300)).await;
            }
            inbox.take_ready(&mut batch, pace.dice.index(100) + 1);
            for delivery in batch.drain(..) {
                self.hand_on(delivery);
            }
        }
    }

    /// Waits until something can be asked that was refused, and asks it.
    async fn catch_up(&self) {
        loop {
            let first = self.0.desk.lock().backlog.front().map(|ask| ask.channel().clone());
            let Some(channel) = first else {
                self.0.refused.notified().await;
                continue;
            };
            self.0.node.room(&channel).await;
            let mut desk = self.0.desk.lock();
            while let Some(ask) = desk.backlog.pop_front() {
                if let Err(ask) = self.0.node.ask(ask) {
                    desk.backlog.push_front(ask);
                    break;
                }
            }
            return;
        }
    }

    fn hand_on(&self, delivery: Delivery) {
        let asks = {
            let mut desk = self.0.desk.lock();
            let mut asks = Vec::new();
            desk.hand_on(delivery, |channel, tenure| {
                let outbox = self.0.outbox.clone();
                asks.push(Ask::Release { channel, tenure, outbox });
            });
            asks
        };
        for ask in asks {
            self.ask(ask);
        }
    }

    /// Asks a shard, after everything that was asked before.
    fn ask(&self, ask: Ask) {
        let mut desk = self.0.desk.lock();
        if !desk.backlog.is_empty() {
            return desk.backlog.push_back(ask);
        }
        if let Err(ask) = self.0.node.ask(ask) {
            desk.backlog.push_back(ask);
            self.0.refused.notify_one();
        }
    }

    /// Takes a connection, whose line holds up to `limit` words.
    pub(crate) fn connect(&self, connection: ConnectionId, limit: usize) {
        let (filled, joining) = (Arc::default(), HashSet::new());
        let line = Line { words: VecDeque::new(), limit, filled, joining };
        self.0.desk.lock().lines.insert(connection, line);
    }

    pub(crate) fn disconnect(&self, connection: ConnectionId) {
        self.0.desk.lock().lines.remove(&connection);
    }

    pub(crate) fn join(
        &self,
        channel: TenantChannel,
        since: Since,
        connection: ConnectionId,
        id: JoinId,
    ) {
        if let Some(line) = self.0.desk.lock().lines.get_mut(&connection) {
            line.joining.insert(id);
        }
        let outbox = self.0.outbox.clone();
        self.ask(Ask::Join(Join { channel, since, is_new: true, connection, id, outbox }));
    }

    pub(crate) fn leave(&self, channel: TenantChannel, connection: ConnectionId, join: JoinId) {
        let (tenure, was_joining) = {
            let mut desk = self.0.desk.lock();
            let line = desk.lines.get_mut(&connection);
            let was_joining = line.is_some_and(|line| line.joining.remove(&join));
            (desk.hub.remove(&channel, connection, join), was_joining)
        };
        if let Some(tenure) = tenure {
            let outbox = self.0.outbox.clone();
            self.ask(Ask::Release { channel, tenure, outbox });
        } else if was_joining {
            self.ask(Ask::Withdraw { channel, connection, join });
        }
    }

    pub(crate) fn publish(
        &self,
        channel: TenantChannel,
        draft: Draft,
        connection: ConnectionId,
        request: RequestId,
    ) {
        let outbox = self.0.outbox.clone();
        self.ask(Ask::Publish { channel, draft, connection, request, outbox });
    }

    /// Waits for words to a connection, and takes up to `most`. Cancel-safe.
    pub(crate) async fn take(&self, connection: ConnectionId, most: usize) -> Vec<Word> {
        loop {
            let filled = {
                let mut desk = self.0.desk.lock();
                let line = desk.lines.get_mut(&connection).expect("it is connected");
                if !line.words.is_empty() {
                    let most = most.min(line.words.len());
                    return line.words.drain(..most).collect();
                }
                Arc::clone(&line.filled)
            };
            filled.notified().await;
        }
    }

    /// Everything that is there for a connection.
    pub(crate) fn take_ready(&self, connection: ConnectionId) -> Vec<Word> {
        let mut desk = self.0.desk.lock();
        let line = desk.lines.get_mut(&connection).expect("it is connected");
        line.words.drain(..).collect()
    }
}

impl Desk {
    /// Tells whom it is for; `release` takes the places that are given back for it.
    fn hand_on(&mut self, delivery: Delivery, mut release: impl FnMut(TenantChannel, Tenure)) {
        match delivery {
            Delivery::Joined { channel, connection, join, tenure, outcome } => {
                let is_live = outcome.as_ref().is_ok_and(|joined| joined.live);
                let line = self.lines.get_mut(&connection);
                let Some(line) = line.filter(|line| line.joining.contains(&join)) else {
                    if is_live {
                        self.tally.late += 1;
                        release(channel, tenure);
                    }
                    return;
                };
                line.joining.remove(&join);
                line.push(Word::Joined { join, outcome });
                if is_live {
                    self.hub.add(&channel, tenure, Subscriber { connection, join });
                }
            }
            Delivery::Publication(envelope) => {
                let word = |join| Word::Publication { join, envelope: Arc::clone(&envelope) };
                self.tell_all(&envelope.channel, word, release);
            }
            Delivery::Gap { channel, gap } => {
                self.tell_all(&channel, |join| Word::Gap { join, gap }, release);
            }
            Delivery::Lagged { channel, tenure } => {
                for Subscriber { connection, join } in self.hub.evict(&channel, tenure) {
                    if let Some(line) = self.lines.get_mut(&connection) {
                        line.push(Word::Lagged { join });
                    }
                }
            }
            Delivery::Published { connection, request, outcome, .. } => {
                self.tally.asked += u64::from(outcome.is_ok());
                if let Some(line) = self.lines.get_mut(&connection) {
                    line.push(Word::Published { request, outcome });
                }
            }
            // Nobody here enters a channel.
            Delivery::Told { .. } => {}
        }
    }

    fn tell_all(
        &mut self,
        channel: &TenantChannel,
        word: impl Fn(JoinId) -> Word,
        mut release: impl FnMut(TenantChannel, Tenure),
    ) {
        let Some(subscribers) = self.hub.subscribers(channel) else { return };
        for Subscriber { connection, join } in subscribers.iter().copied() {
            let line = self.lines.get_mut(&connection).expect("it left the hub with its line");
            if line.words.len() < line.limit {
                line.push(word(join));
            } else if let Some(tenure) = self.hub.remove(channel, connection, join) {
                line.push(Word::Slow { join });
                release(channel.clone(), tenure);
            }
        }
    }
}

impl Line {
    fn push(&mut self, word: Word) {
        self.words.push_back(word);
        self.filled.notify_one();
    }
}
