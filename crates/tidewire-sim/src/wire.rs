use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tidewire_broker::{Broker, BrokerError, BrokerEvent, MemoryBroker, News, Notice, Partition};
use tidewire_model::{NodeId, Position, Publication, TenantChannel};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::dice::Dice;
use crate::gate::Gate;
use crate::weather::Weather;

/// One node's line to the network: it loses and delays what arrives, and the network learns of the
/// node's interest some time after the node was told that it had.
pub(crate) struct Wire {
    pub(crate) inner: MemoryBroker,
    pub(crate) gate: Gate,
    pub(crate) tracker: TaskTracker,
    pub(crate) weather: Arc<Weather>,
    pub(crate) dice: Mutex<Dice>,
    pub(crate) faults: WireFaults,
    /// From when on what is published in a partition arrives.
    pub(crate) known_from: Wants,
}

/// The partitions a node wants, and from when on the network knows.
pub(crate) type Wants = Arc<Mutex<HashMap<Partition, Instant>>>;

/// How bad a line is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireFaults {
    pub(crate) loss_percent: u64,
    /// The longest that an event is under way, in milliseconds.
    pub(crate) distance: u64,
    /// The longest until the network knows of a new interest, in milliseconds.
    pub(crate) ignorance: u64,
}

/// More than any run sends.
const CAPACITY: usize = 65_536;

#[async_trait]
impl Broker for Wire {
    fn publish(&self, publication: &Publication) {
        if self.gate.is_open() {
            self.inner.publish(publication);
        }
    }

    fn announce(&self, channel: &TenantChannel, position: Position) {
        if self.gate.is_open() {
            self.inner.announce(channel, position);
        }
    }

    fn notify(&self, node: &NodeId, notice: &Notice) {
        if self.gate.is_open() {
            self.inner.notify(node, notice);
        }
    }

    fn notify_all(&self, news: News) {
        if self.gate.is_open() {
            self.inner.notify_all(news);
        }
    }

    fn beat(&self) {
        if self.gate.is_open() {
            self.inner.beat();
        }
    }

    async fn subscribe(&self, partition: &Partition) -> Result<(), BrokerError> {
        let (ignorance, wait) = {
            let mut dice = self.dice.lock();
            (dice.millis(0, self.faults.ignorance), dice.millis(0, self.faults.distance))
        };
        self.gate.pass().await;
        self.inner.subscribe(partition).await?;
        tokio::time::sleep(wait).await;
        self.known_from.lock().insert(partition.clone(), Instant::now() + ignorance);
        Ok(())
    }

    fn unsubscribe(&self, partition: &Partition) {
        self.known_from.lock().remove(partition);
        if self.gate.is_open() {
            self.inner.unsubscribe(partition);
        }
    }

    fn events(&self) -> mpsc::Receiver<BrokerEvent> {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let carrier = Carrier {
            dice: self.dice.lock().fork(),
            weather: Arc::clone(&self.weather),
            faults: self.faults,
            gate: self.gate.clone(),
            known_from: Arc::clone(&self.known_from),
            under_way: BTreeMap::new(),
            count: 0,
        };
        self.tracker.spawn(carrier.run(self.inner.events(), sender));
        receiver
    }

    fn health(&self) -> Result<(), BrokerError> {
        self.inner.health()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

struct Carrier {
    dice: Dice,
    weather: Arc<Weather>,
    faults: WireFaults,
    gate: Gate,
    known_from: Wants,
    under_way: BTreeMap<(Instant, u64), BrokerEvent>,
    count: u64,
}

impl Carrier {
    async fn run(mut self, mut from: mpsc::Receiver<BrokerEvent>, to: mpsc::Sender<BrokerEvent>) {
        loop {
            let next = self.under_way.first_key_value().map(|((at, _), _)| *at);
            tokio::select! {
                biased;
                event = from.recv() => match event {
                    Some(event) => self.take(event),
                    None => return,
                },
                () = arrival(next) => {
                    self.gate.pass().await;
                    let arrived = self.under_way.pop_first();
                    let Some((_, event)) = arrived else { continue };
                    if to.try_send(event).is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn take(&mut self, event: BrokerEvent) {
        let channel = match &event {
            BrokerEvent::Publication(publication) => Some(&publication.channel),
            BrokerEvent::Announcement { channel, .. } => Some(channel),
            BrokerEvent::Notice(_) | BrokerEvent::Heard(_) | BrokerEvent::Suspect => None,
        };
        if channel.is_some_and(|channel| self.is_lost(channel)) {
            return;
        }
        self.count += 1;
        let at = Instant::now() + self.dice.millis(0, self.faults.distance);
        self.under_way.insert((at, self.count), event);
    }

    fn is_lost(&mut self, channel: &TenantChannel) -> bool {
        let known_from = self.known_from.lock().get(&Partition::of(channel)).copied();
        let is_unknown = known_from.is_none_or(|from| from > Instant::now());
        let is_dropped = self.dice.chance(self.faults.loss_percent);
        is_unknown || (is_dropped && !self.weather.is_fair())
    }
}

async fn arrival(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
