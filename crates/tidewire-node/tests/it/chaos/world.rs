use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidewire_broker::{Log as _, MemoryBroker, MemoryNetwork, Retention};
use tidewire_hub::QueueLimits;
use tidewire_model::{
    Channel, ConnectionId, Direction, HistoryQuery, Identity, NodeId, Permissions, Publication,
    Since, Tenant, TenantChannel, UserId,
};
use tidewire_node::{Node, NodeConfig, Ports, RingLimits, Tasks};
use tidewire_store::{MemoryMembership, MemorySessionStore};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::dice::Dice;
use super::log::{FaultyLog, RemoteLog};
use super::publisher::Publisher;
use super::subscriber::{Habits, Subscriber};
use super::weather::Weather;
use super::wire::{Wants, Wire, WireFaults};
use super::witness::{Tally, Witness};
use super::worker::{Pace, Worker};
use crate::fleet::report;

/// Nodes, clients and publishers on one log and one network, all of it drawn from a seed.
pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) network: MemoryNetwork,
    pub(super) log: Arc<FaultyLog>,
    pub(super) nodes: Vec<Node>,
    pub(super) loses_publications: bool,
    workers: Vec<Worker>,
    tenant: Tenant,
    channels: Vec<Channel>,
    weather: Arc<Weather>,
    publishers: TaskTracker,
    clients: Vec<(Arc<Mutex<Witness>>, Vec<Channel>)>,
    subscribers: TaskTracker,
    /// Has the subscribers leave.
    leave: CancellationToken,
    /// What each node wants of the network.
    wants: Vec<Wants>,
    /// Whoever runs until the end.
    others: TaskTracker,
    stop: CancellationToken,
    _stop_at_end: DropGuard,
}

/// What came of a run.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) objections: Vec<String>,
    pub(super) story: String,
    pub(super) tally: Tally,
    pub(super) stored: usize,
    pub(super) lost: usize,
    pub(super) duplicates: usize,
    /// How long after the last fault everybody was where they should be.
    pub(super) settled_after: Duration,
}

/// How long after the last fault somebody may still be behind: positions are compared every 12 s or
/// more often, and what is found to be missing is read at once.
const PATIENCE: Duration = Duration::from_secs(15);
/// A publisher is at the end of its turn, and each attempt is answered within seconds.
const ANSWERED_WITHIN: Duration = Duration::from_mins(1);
/// A channel nobody wants is given up after half a minute.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(1);
const STORY_LINES: usize = 60;

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let ttl = dice.pick(&[Duration::from_mins(5), Duration::from_mins(5), SHORT_TTL]);
        let retention = Retention { size: dice.pick(&[8, 40, 1_000]), ttl };
        let names = 1..=dice.between(1, 3);
        let channel = |number| Channel::parse(&format!("c{number}")).expect("channel");
        let stop = CancellationToken::new();
        let mut world = Self {
            network: MemoryNetwork::default(),
            log: Arc::new(FaultyLog::new(retention)),
            nodes: Vec::new(),
            workers: Vec::new(),
            loses_publications: dice.chance(60),
            tenant: Tenant::parse("acme").expect("tenant"),
            channels: names.map(channel).collect(),
            weather: Arc::default(),
            publishers: TaskTracker::new(),
            subscribers: TaskTracker::new(),
            leave: CancellationToken::new(),
            wants: Vec::new(),
            clients: Vec::new(),
            others: TaskTracker::new(),
            _stop_at_end: stop.clone().drop_guard(),
            stop,
            dice,
        };
        world.start_nodes();
        world.start_workers();
        world.start_publishers();
        world.start_subscribers();
        world
    }

    fn start_nodes(&mut self) {
        let (sessions, membership) =
            (Arc::new(MemorySessionStore::default()), Arc::new(MemoryMembership::default()));
        let ring = self.dice.pick(&[2, 10, 256]);
        let log_distance = self.dice.pick(&[0, 2, 40]);
        let faults = WireFaults {
            loss_percent: self.dice.pick(&[0, 5, 30]),
            distance: self.dice.pick(&[0, 3, 80]),
            ignorance: self.dice.pick(&[0, 200, 1_500]),
        };
        for index in 0..self.dice.between(2, 3) {
            let id = NodeId::parse(&format!("node-{index}")).expect("node");
            let broker = Wire {
                inner: MemoryBroker::new(self.network.clone(), id.clone()),
                tracker: self.others.clone(),
                weather: Arc::clone(&self.weather),
                dice: Mutex::new(self.dice.fork()),
                faults,
                known_from: Arc::default(),
            };
            self.wants.push(Arc::clone(&broker.known_from));
            let log = RemoteLog {
                log: Arc::clone(&self.log),
                dice: Mutex::new(self.dice.fork()),
                distance: log_distance,
            };
            let ports = Ports {
                log: Arc::new(log),
                broker: Arc::new(broker),
                sessions: Arc::clone(&sessions) as _,
                membership: Arc::clone(&membership) as _,
            };
            let ring_limits = RingLimits { publications: ring, ..RingLimits::default() };
            let config = NodeConfig { shards: 2, ring_limits, ..NodeConfig::new(id.clone()) };
            let runtimes = [Handle::current()];
            let tasks = Tasks { runtimes: &runtimes, tracker: &self.others, stop: &self.stop };
            let (node, _) = Node::start(config, ports, report(id), tasks);
            self.nodes.push(node);
        }
    }

    fn start_workers(&mut self) {
        let deliveries = self.dice.pick(&[3, 40, 16_384]);
        let limits = QueueLimits { deliveries, ..QueueLimits::default() };
        for node in self.nodes.clone() {
            for _ in 0..self.dice.between(1, 2) {
                let (worker, inbox) = Worker::new(node.clone(), limits);
                let pace = Pace {
                    dice: self.dice.fork(),
                    weather: Arc::clone(&self.weather),
                    stall_percent: self.dice.pick(&[0, 5, 25]),
                };
                self.others.spawn(worker.clone().run(inbox, pace, self.stop.clone()));
                self.workers.push(worker);
            }
        }
    }

    fn start_publishers(&mut self) {
        let pause = self.dice.pick(&[30, 150, 400]);
        let may_flood = self.dice.chance(5);
        for index in 0..self.dice.between(2, 4) {
            let publisher = Publisher {
                name: format!("p{index}"),
                connection: ConnectionId(index),
                nodes: self.nodes.clone(),
                workers: self.workers.clone(),
                channels: self.channels.iter().map(|channel| self.in_tenant(channel)).collect(),
                log: Arc::clone(&self.log),
                weather: Arc::clone(&self.weather),
                dice: self.dice.fork(),
                pause,
                may_flood,
            };
            if index % 2 == 0 {
                self.publishers.spawn(publisher.run_with_ids());
            } else {
                self.publishers.spawn(publisher.run_in_bursts());
            }
        }
        self.publishers.close();
    }

    fn start_subscribers(&mut self) {
        for number in 1..=self.dice.between(3, 6) {
            let mut dice = self.dice.fork();
            let mut channels = self.channels.clone();
            while channels.len() > 1 && dice.chance(30) {
                channels.remove(dice.index(channels.len()));
            }
            let begin = |_: &Channel| dice.pick(&[Since::Now, Since::Now, Since::Last(5)]);
            let sinces: Vec<_> = channels.iter().map(begin).collect();
            let client = format!("s{number}");
            let witness = Witness::new(client, self.tenant.clone(), Arc::clone(&self.log));
            let witness = Arc::new(Mutex::new(witness));
            self.clients.push((Arc::clone(&witness), channels.clone()));
            let subscriber = Subscriber {
                number,
                workers: self.workers.clone(),
                identity: self.identity(),
                wanted: channels.into_iter().zip(sinces).collect(),
                habits: habits(&mut dice),
                weather: Arc::clone(&self.weather),
                witness,
                dice,
                saved: None,
                connections: 0,
            };
            self.subscribers.spawn(subscriber.run(self.leave.clone()));
        }
    }

    /// Lets faults happen, then waits until everybody is where they should be.
    pub(super) async fn run(mut self) -> Outcome {
        let length = self.dice.millis(2_000, 8_000);
        self.suffer(length).await;
        self.weather.clear_up();
        let answered = tokio::time::timeout(ANSWERED_WITHIN, self.publishers.wait()).await;
        assert!(answered.is_ok(), "a publisher waits for an answer that does not come");
        let fair_since = Instant::now();
        let mut objections = self.objections().await;
        while !objections.is_empty() && fair_since.elapsed() < PATIENCE {
            if self.violations().next().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
            objections = self.objections().await;
        }
        let settled_after = fair_since.elapsed();
        if objections.is_empty() {
            objections = self.leftovers().await;
        }
        self.outcome(objections, settled_after)
    }

    /// What is still kept for subscribers after all of them have left: a place that is not given back
    /// is followed for ever.
    async fn leftovers(&self) -> Vec<String> {
        self.leave.cancel();
        self.subscribers.close();
        self.subscribers.wait().await;
        tokio::time::sleep(FORGOTTEN_AFTER).await;
        let kept = |wants: &Wants| {
            let partitions = wants.lock().len();
            (partitions > 0).then(|| format!("{partitions} partitions are wanted by nobody"))
        };
        let leftover = self.workers.iter().map(Worker::routes).filter(|routes| *routes > 0);
        let routed = leftover.map(|routes| format!("{routes} routes lead to nobody"));
        self.wants.iter().filter_map(kept).chain(routed).collect()
    }

    /// What no patience mends.
    fn violations(&self) -> impl Iterator<Item = String> {
        self.clients.iter().flat_map(|(witness, _)| witness.lock().violations().to_vec())
    }

    /// Everything that is not as it should be once all is quiet; violations first.
    async fn objections(&self) -> Vec<String> {
        let mut kept = HashMap::new();
        for channel in &self.channels {
            kept.insert(self.in_tenant(channel), self.kept(channel).await);
        }
        let mut objections: Vec<_> = self.violations().collect();
        objections.extend(self.log.truth.lock().verdict(&kept));
        for (witness, channels) in &self.clients {
            objections.extend(witness.lock().verdict(channels));
        }
        objections
    }

    async fn kept(&self, channel: &Channel) -> Vec<Publication> {
        let query = HistoryQuery { direction: Direction::Forward, from: None, limit: u32::MAX };
        let page = self.log.memory().page(&self.in_tenant(channel), query).await;
        page.expect("memory is always there").publications
    }

    fn outcome(&self, objections: Vec<String>, settled_after: Duration) -> Outcome {
        let truth = self.log.truth.lock();
        let (stored, lost, duplicates) = (truth.stored(), truth.lost, truth.duplicates);
        drop(truth);
        let mut tally = Tally::default();
        self.workers.iter().for_each(|worker| tally.add(worker.tally()));
        let mut story = String::new();
        for (witness, channels) in &self.clients {
            let witness = witness.lock();
            tally.add(witness.tally);
            let is_fine = witness.violations().is_empty() && witness.verdict(channels).is_empty();
            if !is_fine {
                story.push_str(&witness.story(STORY_LINES));
            }
        }
        Outcome { objections, story, tally, stored, lost, duplicates, settled_after }
    }

    fn in_tenant(&self, channel: &Channel) -> TenantChannel {
        TenantChannel::new(self.tenant.clone(), channel.clone())
    }

    fn identity(&self) -> Identity {
        Identity {
            tenant: self.tenant.clone(),
            user: UserId::parse("ann").expect("user"),
            permissions: Permissions::all(),
            expires_at: None,
        }
    }
}

const SHORT_TTL: Duration = Duration::from_secs(1);

fn habits(dice: &mut Dice) -> Habits {
    Habits {
        line: dice.pick(&[3, 20, 1_024]),
        stall_percent: dice.pick(&[0, 5, 25]),
        life: dice.pick(&[300, 2_000, 60_000]),
    }
}
