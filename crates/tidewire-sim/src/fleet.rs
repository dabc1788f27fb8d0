use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidewire_broker::{Broker as _, MemoryBroker, MemoryNetwork, Retention};
use tidewire_hub::QueueLimits;
use tidewire_model::{NodeId, Random};
use tidewire_node::{LeaseReport, Node, NodeConfig, Ports, RingLimits, Tasks};
use tidewire_store::{MemoryPresence, NodeLease, NodeLoad, NodeState};
use tidewire_store_redis::{RedisLog, RedisMembership, RedisSessionStore, simulated};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dice::Dice;
use crate::gate::Gate;
use crate::log::WatchedLog;
use crate::plan::Knobs;
use crate::redis::{Deployment, Way};
use crate::truth::Truth;
use crate::weather::Weather;
use crate::wire::{Wants, Wire, WireFaults};
use crate::witness::Tally;
use crate::worker::{Pace, Worker};

/// The nodes: each of them may be killed, and comes back as another process of the same name.
pub(crate) struct Fleet {
    pub(crate) knobs: Knobs,
    pub(crate) seed: u64,
    pub(crate) network: MemoryNetwork,
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) truth: Arc<Mutex<Truth>>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) living: Mutex<Living>,
}

#[derive(Default)]
pub(crate) struct Living {
    nodes: Vec<Option<LiveNode>>,
    boots: u64,
    /// Of workers that are no more.
    past: Tally,
}

/// A node as a process.
struct LiveNode {
    workers: Vec<Worker>,
    gate: Gate,
    broker: Arc<Wire>,
    stop: CancellationToken,
    gone: CancellationToken,
}

impl Fleet {
    pub(crate) fn start_all(&self) {
        for index in 0..self.knobs.nodes {
            self.living.lock().nodes.push(None);
            self.start(index);
        }
    }

    /// Starts a node that is not there.
    pub(crate) fn start(&self, index: usize) {
        let boot = {
            let mut living = self.living.lock();
            living.boots += 1;
            living.boots
        };
        // Of its own, so that what one node draws does not depend on what others have.
        let mut dice = Dice::new(self.seed ^ (boot << 32) ^ (index as u64) << 56);
        let (gate, stop, gone) =
            (Gate::default(), self.stop.child_token(), CancellationToken::new());
        let id = name_of(index);
        let broker = Arc::new(self.wire(id.clone(), gate.clone(), &mut dice));
        let ports = self.ports(index, (&gate, &broker), &mut dice);
        let ring_limits = RingLimits { publications: self.knobs.ring, ..RingLimits::default() };
        let random = random(dice.fork());
        let config = NodeConfig { shards: 2, ring_limits, random, ..NodeConfig::new(id.clone()) };
        let runtimes = [Handle::current()];
        let tasks = Tasks { runtimes: &runtimes, tracker: &self.tracker, stop: &stop };
        let (node, _) = Node::start(config, ports, report(id), tasks);
        let mut workers = Vec::new();
        for _ in 0..dice.between(1, 2) {
            let limits = QueueLimits { deliveries: self.knobs.outbox, ..QueueLimits::default() };
            let (worker, inbox) = Worker::new((index, node.clone()), gone.clone(), limits);
            let pace = Pace {
                dice: dice.fork(),
                weather: Arc::clone(&self.weather),
                stall_percent: dice.pick(&[0, 5, 25]),
            };
            self.tracker.spawn(worker.clone().run(inbox, pace, stop.clone()));
            workers.push(worker);
        }
        self.living.lock().nodes[index] = Some(LiveNode { workers, gate, broker, stop, gone });
    }

    fn wire(&self, id: NodeId, gate: Gate, dice: &mut Dice) -> Wire {
        Wire {
            inner: MemoryBroker::new(self.network.clone(), id),
            gate,
            tracker: self.tracker.clone(),
            weather: Arc::clone(&self.weather),
            dice: Mutex::new(dice.fork()),
            faults: WireFaults {
                loss_percent: self.knobs.loss_percent,
                distance: self.knobs.wire_distance,
                ignorance: self.knobs.ignorance,
            },
            known_from: Arc::default(),
        }
    }

    fn ports(&self, index: usize, (gate, broker): (&Gate, &Arc<Wire>), dice: &mut Dice) -> Ports {
        let Knobs { log_size: size, log_ttl: ttl, log_distance, .. } = self.knobs;
        let way =
            Way::new(Arc::clone(&self.deployment), index, gate.clone(), dice.fork(), log_distance);
        let connection = simulated::connection(Arc::new(way), random(dice.fork()));
        let log = RedisLog::new(connection.clone(), Retention { size, ttl });
        let way =
            Way::new(Arc::clone(&self.deployment), index, gate.clone(), dice.fork(), log_distance);
        let sessions = simulated::connection(Arc::new(way), random(dice.fork()));
        Ports {
            log: Arc::new(WatchedLog { log, truth: Arc::clone(&self.truth) }),
            broker: Arc::clone(broker) as _,
            sessions: Arc::new(RedisSessionStore::new(sessions)),
            membership: Arc::new(RedisMembership::new(connection)),
            presence: Arc::new(MemoryPresence::default()),
        }
    }

    /// Kills a node, as a signal that cannot be caught does.
    pub(crate) async fn kill(&self, index: usize) {
        let Some(live) = self.living.lock().nodes[index].take() else { return };
        live.gate.close();
        live.stop.cancel();
        live.gone.cancel();
        live.broker.inner.close().await;
        self.truth.lock().killed(index);
        let past = &mut self.living.lock().past;
        live.workers.iter().for_each(|worker| past.add(worker.tally()));
    }

    /// Holds a node still: nothing that it does is told, and it is told nothing.
    pub(crate) async fn hold(&self, index: usize, length: Duration) {
        let live = self.living.lock().nodes[index].as_ref().map(|live| live.gate.clone());
        let Some(gate) = live else { return };
        gate.hold();
        tokio::time::sleep(length).await;
        gate.open();
    }

    /// Any of the nodes, and which it is.
    pub(crate) fn node(&self, dice: &mut Dice) -> (usize, Node) {
        let worker = self.worker(dice);
        (worker.node_index(), worker.node().clone())
    }

    /// Any worker of any of the nodes.
    pub(crate) fn worker(&self, dice: &mut Dice) -> Worker {
        let living = self.living.lock();
        let live: Vec<_> = living.nodes.iter().flatten().collect();
        let node = live[dice.index(live.len())];
        dice.pick(&node.workers)
    }

    /// What the nodes want of the network.
    pub(crate) fn wants(&self) -> Vec<Wants> {
        let living = self.living.lock();
        living.nodes.iter().flatten().map(|live| Arc::clone(&live.broker.known_from)).collect()
    }

    pub(crate) fn routes(&self) -> Vec<usize> {
        let living = self.living.lock();
        let workers = living.nodes.iter().flatten().flat_map(|live| &live.workers);
        workers.map(Worker::routes).collect()
    }

    pub(crate) fn tally(&self) -> Tally {
        let living = self.living.lock();
        let mut tally = living.past;
        let workers = living.nodes.iter().flatten().flat_map(|live| &live.workers);
        workers.for_each(|worker| tally.add(worker.tally()));
        tally
    }
}

pub(crate) fn name_of(index: usize) -> NodeId {
    NodeId::parse(&format!("node-{index}")).expect("node")
}

fn random(dice: Dice) -> Random {
    let dice = Mutex::new(dice);
    Random::new(move || dice.lock().draw())
}

fn report(node: NodeId) -> LeaseReport {
    Box::new(move || NodeLease {
        node: node.clone(),
        slot: None,
        state: NodeState::Ready,
        weight: 100,
        connections: 0,
        started_at_ms: 0,
        beats: true,
        load: NodeLoad::default(),
        url: None,
    })
}
