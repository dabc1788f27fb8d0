use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tidewire_model::{NodeId, Position, Publication, TenantChannel};
use tokio::sync::mpsc;

use crate::{Broker, BrokerError, BrokerEvent, EventQueue, News, Notice, Partition};

/// A network inside one process, which tests can make to fail. Clones are the same network.
///
/// Everything is delivered before the call that sent it returns, to nodes in the order of their
/// names, so that a test is the same in every run.
#[derive(Clone, Default)]
pub struct MemoryNetwork(Arc<Mutex<Network>>);

impl MemoryNetwork {
    /// The most deliveries held back; further ones are lost.
    pub const MAX_HELD: usize = 65_536;

    /// Loses the next `count` publications, but no announcement: they reach nobody.
    pub fn lose_next(&self, count: usize) {
        self.0.lock().to_lose = count;
    }

    /// Cuts the network in two: these nodes on one side, all others on the other. No node is told.
    pub fn partition(&self, nodes: impl IntoIterator<Item = NodeId>) {
        self.0.lock().far_side = nodes.into_iter().collect();
    }

    /// Joins the two sides again. No node is told, and what was lost stays lost.
    pub fn heal(&self) {
        self.0.lock().far_side.clear();
    }

    /// Holds back everything sent from now on, until it is released.
    pub fn hold(&self) {
        self.0.lock().held.get_or_insert_default();
    }

    /// Ceases to hold back, and delivers what was held in the order it was sent.
    pub fn release(&self) {
        self.release_sorted(|_| ());
    }

    /// Ceases to hold back, and delivers what was held in the opposite order.
    pub fn release_reversed(&self) {
        self.release_sorted(|held| held.make_contiguous().reverse());
    }

    /// Tells every node that it may have missed something, as a reconnect does.
    pub fn suspect(&self) {
        self.0.lock().seats.values_mut().for_each(|seat| seat.queue.suspect());
    }

    fn release_sorted(&self, sort: impl FnOnce(&mut VecDeque<Delivery>)) {
        let mut network = self.0.lock();
        let mut held = network.held.take().unwrap_or_default();
        sort(&mut held);
        for (node, event) in held {
            network.hand_over(&node, event);
        }
    }
}

#[derive(Default)]
struct Network {
    seats: BTreeMap<NodeId, Seat>,
    to_lose: usize,
    far_side: BTreeSet<NodeId>,
    held: Option<VecDeque<Delivery>>,
}

type Delivery = (NodeId, BrokerEvent);

/// What the network knows of one node.
struct Seat {
    queue: EventQueue,
    interest: HashSet<Partition>,
}

impl Network {
    fn publish(&mut self, sender: &NodeId, publication: &Publication) {
        if self.to_lose > 0 {
            self.to_lose -= 1;
            return;
        }
        let event = || BrokerEvent::Publication(publication.clone());
        self.send_to_interested(sender, &publication.channel, event);
    }

    fn send_to_interested(
        &mut self,
        sender: &NodeId,
        channel: &TenantChannel,
        event: impl Fn() -> BrokerEvent,
    ) {
        let partition = Partition::of(channel);
        let is_receiver =
            |(node, seat): &(&NodeId, &Seat)| *node != sender && seat.interest.contains(&partition);
        let interested = self.seats.iter().filter(is_receiver);
        let receivers: Vec<_> = interested.map(|(node, _)| node.clone()).collect();
        for receiver in receivers {
            self.send(sender, &receiver, event());
        }
    }

    fn send_to_all(&mut self, sender: &NodeId, event: &BrokerEvent) {
        let receivers: Vec<_> = self.seats.keys().cloned().collect();
        for receiver in receivers {
            self.send(sender, &receiver, event.clone());
        }
    }

    fn send(&mut self, sender: &NodeId, receiver: &NodeId, event: BrokerEvent) {
        let is_cut = self.far_side.contains(sender) != self.far_side.contains(receiver);
        if sender == receiver || is_cut {
            return;
        }
        match &mut self.held {
            None => self.hand_over(receiver, event),
            Some(held) if held.len() < MemoryNetwork::MAX_HELD => {
                held.push_back((receiver.clone(), event));
            }
            Some(_) => {}
        }
    }

    fn hand_over(&mut self, receiver: &NodeId, event: BrokerEvent) {
        if let Some(seat) = self.seats.get_mut(receiver) {
            seat.queue.push(event);
        }
    }
}

/// One node's place in a [`MemoryNetwork`]. With a network of its own, it is a broker for a single
/// node.
pub struct MemoryBroker {
    network: MemoryNetwork,
    node: NodeId,
    events: Mutex<Option<mpsc::Receiver<BrokerEvent>>>,
}

impl MemoryBroker {
    /// Joins `network` as `node`, in place of whoever had that name.
    pub fn new(network: MemoryNetwork, node: NodeId) -> Self {
        Self::with_capacity(network, node, EventQueue::MAX_EVENTS)
    }

    /// As [`MemoryBroker::new`], with a queue of at most `max_events` events.
    pub fn with_capacity(network: MemoryNetwork, node: NodeId, max_events: usize) -> Self {
        let (queue, events) = EventQueue::new(max_events, EventQueue::MAX_BYTES);
        let seat = Seat { queue, interest: HashSet::new() };
        network.0.lock().seats.insert(node.clone(), seat);
        Self { network, node, events: Mutex::new(Some(events)) }
    }

    fn has_left(&self) -> bool {
        !self.network.0.lock().seats.contains_key(&self.node)
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    fn publish(&self, publication: &Publication) {
        let mut network = self.network.0.lock();
        if network.seats.contains_key(&self.node) {
            network.publish(&self.node, publication);
        }
    }

    fn announce(&self, channel: &TenantChannel, position: Position) {
        let mut network = self.network.0.lock();
        if network.seats.contains_key(&self.node) {
            let event = || BrokerEvent::Announcement { channel: channel.clone(), position };
            network.send_to_interested(&self.node, channel, event);
        }
    }

    fn notify(&self, node: &NodeId, notice: &Notice) {
        let mut network = self.network.0.lock();
        if network.seats.contains_key(&self.node) {
            network.send(&self.node, node, BrokerEvent::Notice(notice.clone()));
        }
    }

    fn notify_all(&self, news: News) {
        let mut network = self.network.0.lock();
        if network.seats.contains_key(&self.node) {
            network.send_to_all(&self.node, &BrokerEvent::Notice(Notice::News(news)));
        }
    }

    fn beat(&self) {
        let mut network = self.network.0.lock();
        if network.seats.contains_key(&self.node) {
            network.send_to_all(&self.node, &BrokerEvent::Heard(self.node.clone()));
        }
    }

    async fn subscribe(&self, partition: &Partition) -> Result<(), BrokerError> {
        let mut network = self.network.0.lock();
        let Some(seat) = network.seats.get_mut(&self.node) else { return Err(closed()) };
        seat.interest.insert(partition.clone());
        Ok(())
    }

    fn unsubscribe(&self, partition: &Partition) {
        if let Some(seat) = self.network.0.lock().seats.get_mut(&self.node) {
            seat.interest.remove(partition);
        }
    }

    fn events(&self) -> mpsc::Receiver<BrokerEvent> {
        self.events.lock().take().expect("the events of a broker are taken once")
    }

    fn health(&self) -> Result<(), BrokerError> {
        if self.has_left() { Err(closed()) } else { Ok(()) }
    }

    async fn close(&self) {
        self.network.0.lock().seats.remove(&self.node);
    }
}

fn closed() -> BrokerError {
    BrokerError::Unavailable { address: "memory".into(), reason: "broker is closed".into() }
}
