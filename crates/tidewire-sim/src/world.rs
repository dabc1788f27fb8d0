use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidewire_broker::MemoryNetwork;
use tidewire_model::{
    Channel, ConnectionId, Identity, Permissions, Since, Tenant, TenantChannel, UserId,
};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::dice::Dice;
use crate::fleet::Fleet;
use crate::invariant::{Invariant, Objection};
use crate::outcome::{Counts, Outcome};
use crate::plan::{Knobs, Plan};
use crate::publisher::Publisher;
use crate::redis::Deployment;
use crate::rivals::Rivals;
use crate::subscriber::{Habits, Subscriber};
use crate::trace::Trace;
use crate::truth::Truth;
use crate::weather::Weather;
use crate::wire::Wants;
use crate::witness::Witness;

/// Nodes, clients and publishers on one log and one network, all of it drawn from a seed.
pub(crate) struct World {
    dice: Dice,
    pub(crate) trace: Trace,
    truth: Arc<Mutex<Truth>>,
    pub(crate) fleet: Arc<Fleet>,
    tenant: Tenant,
    channels: Vec<Channel>,
    weather: Arc<Weather>,
    publishers: TaskTracker,
    clients: Vec<(Arc<Mutex<Witness>>, Vec<Channel>)>,
    subscribers: TaskTracker,
    /// Has the subscribers leave.
    leave: CancellationToken,
    _stop_at_end: DropGuard,
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
    pub(crate) fn new(plan: &Plan, keeps_trace: bool) -> Self {
        let knobs = &plan.knobs;
        let channel = |number| Channel::parse(&format!("c{number}")).expect("channel");
        let stop = CancellationToken::new();
        let (truth, weather) = (Arc::<Mutex<Truth>>::default(), Arc::<Weather>::default());
        let fleet = Arc::new(Fleet {
            knobs: knobs.clone(),
            seed: plan.seed,
            network: MemoryNetwork::default(),
            deployment: Arc::new(Deployment::new(Arc::clone(&truth))),
            truth: Arc::clone(&truth),
            weather: Arc::clone(&weather),
            tracker: TaskTracker::new(),
            stop: stop.clone(),
            living: Mutex::default(),
        });
        fleet.start_all();
        let mut world = Self {
            dice: plan.dice(),
            trace: Trace::new(keeps_trace),
            truth,
            fleet,
            tenant: Tenant::parse("acme").expect("tenant"),
            channels: (1..=knobs.channels).map(channel).collect(),
            weather,
            publishers: TaskTracker::new(),
            subscribers: TaskTracker::new(),
            leave: CancellationToken::new(),
            clients: Vec::new(),
            _stop_at_end: stop.drop_guard(),
        };
        world.start_publishers(knobs);
        world.start_subscribers(knobs);
        world
    }

    fn start_publishers(&mut self, knobs: &Knobs) {
        for index in 0..knobs.publishers {
            let publisher = Publisher {
                name: format!("p{index}"),
                connection: ConnectionId(index),
                fleet: Arc::clone(&self.fleet),
                channels: self.channels.iter().map(|channel| self.in_tenant(channel)).collect(),
                truth: Arc::clone(&self.truth),
                weather: Arc::clone(&self.weather),
                dice: self.dice.fork(),
                pause: knobs.pause,
                may_flood: knobs.may_flood,
                life: 0,
            };
            match index {
                1 => self.publishers.spawn(publisher.run_in_bursts(false)),
                3 => self.publishers.spawn(publisher.run_in_bursts(true)),
                _ => self.publishers.spawn(publisher.run_with_ids()),
            };
        }
        let rivals = Rivals {
            fleet: Arc::clone(&self.fleet),
            truth: Arc::clone(&self.truth),
            weather: Arc::clone(&self.weather),
            identity: self.identity(),
            dice: self.dice.fork(),
        };
        self.publishers.spawn(rivals.run());
        self.publishers.close();
    }

    fn start_subscribers(&mut self, knobs: &Knobs) {
        for number in 1..=knobs.clients {
            let mut dice = self.dice.fork();
            let mut channels = self.channels.clone();
            while channels.len() > 1 && dice.chance(30) {
                channels.remove(dice.index(channels.len()));
            }
            let begin = |_: &Channel| dice.pick(&[Since::Now, Since::Now, Since::Last(5)]);
            let sinces: Vec<_> = channels.iter().map(begin).collect();
            let client = format!("s{number}");
            let witness = Witness::new(
                client,
                self.tenant.clone(),
                Arc::clone(&self.truth),
                self.trace.clone(),
            );
            let witness = Arc::new(Mutex::new(witness));
            self.clients.push((Arc::clone(&witness), channels.clone()));
            let subscriber = Subscriber {
                number,
                fleet: Arc::clone(&self.fleet),
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
    pub(crate) async fn run(self, plan: &Plan) -> Outcome {
        self.suffer(&plan.faults, plan.knobs.length).await;
        self.weather.clear_up();
        self.trace.note(format_args!("fair"));
        let fair_since = Instant::now();
        let answered = tokio::time::timeout(ANSWERED_WITHIN, self.publishers.wait()).await;
        if answered.is_err() {
            let text = "a publisher waits for an answer that does not come";
            let objections = vec![Objection::new(Invariant::Settling, text)];
            return self.outcome(objections, fair_since.elapsed());
        }
        let quiet_since = Instant::now();
        let mut objections = self.objections();
        while !objections.is_empty() && quiet_since.elapsed() < PATIENCE {
            if self.violations().next().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
            objections = self.objections();
        }
        let settled_after = quiet_since.elapsed();
        if objections.is_empty() {
            objections = self.leftovers().await;
        }
        self.outcome(objections, settled_after)
    }

    /// What is still kept for subscribers after all of them have left: a place that is not given back
    /// is followed for ever.
    async fn leftovers(&self) -> Vec<Objection> {
        self.leave.cancel();
        self.subscribers.close();
        self.subscribers.wait().await;
        tokio::time::sleep(FORGOTTEN_AFTER).await;
        let kept = |wants: &Wants| {
            let partitions = wants.lock().len();
            (partitions > 0).then(|| format!("{partitions} partitions are wanted by nobody"))
        };
        let (routes, wants) = (self.fleet.routes(), self.fleet.wants());
        let wanted_by_nobody = routes.into_iter().filter(|routes| *routes > 0);
        let leading_nowhere =
            wanted_by_nobody.map(|routes| format!("{routes} routes lead to nobody"));
        let texts = wants.iter().filter_map(kept).chain(leading_nowhere);
        texts.map(|text| Objection::new(Invariant::Bounds, text)).collect()
    }

    /// What no patience mends.
    fn violations(&self) -> impl Iterator<Item = Objection> {
        self.clients.iter().flat_map(|(witness, _)| witness.lock().violations().to_vec())
    }

    /// Everything that is not as it should be once all is quiet; violations first.
    fn objections(&self) -> Vec<Objection> {
        let mut kept = BTreeMap::new();
        for channel in &self.channels {
            let channel = self.in_tenant(channel);
            let entries = self.fleet.deployment.kept(&channel);
            kept.insert(channel, entries);
        }
        let mut objections: Vec<_> = self.violations().collect();
        objections.extend(self.truth.lock().verdict(&kept));
        for (witness, channels) in &self.clients {
            objections.extend(witness.lock().verdict(channels));
        }
        objections
    }

    fn outcome(&self, objections: Vec<Objection>, slowest: Duration) -> Outcome {
        let mut tally = self.fleet.tally();
        let mut story = String::new();
        for (witness, channels) in &self.clients {
            let witness = witness.lock();
            tally.add(witness.tally);
            let is_fine = witness.violations().is_empty() && witness.verdict(channels).is_empty();
            if !is_fine {
                story.push_str(&witness.story(STORY_LINES));
            }
        }
        let truth = self.truth.lock();
        let counts = Counts {
            runs: 1,
            stored: truth.stored_in_all(),
            acknowledged: truth.acknowledged(),
            lost: truth.lost,
            excused: truth.excused(),
            strays: truth.strays,
            changes: truth.restarts,
            duplicates: truth.duplicates,
            healed: truth.healed,
            claims: truth.ownership.granted,
            fenced: truth.ownership.fenced,
            tally,
            slowest,
        };
        let (digest, trace) = (self.trace.digest(), self.trace.take_text());
        Outcome { objections, story, digest, trace, counts }
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
            provenance: None,
        }
    }
}

fn habits(dice: &mut Dice) -> Habits {
    Habits {
        line: dice.pick(&[3, 20, 1_024]),
        stall_percent: dice.pick(&[0, 5, 25]),
        life: dice.pick(&[300, 2_000, 60_000]),
    }
}
