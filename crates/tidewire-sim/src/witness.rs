use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewire_model::{
    Channel, Event, Gap, GapReason, Position, Publication, Recovery, Subscribed, Tenant,
    TenantChannel,
};
use tokio::time::Instant;

use crate::invariant::{Invariant, Objection};
use crate::trace::Trace;
use crate::truth::{Entry, Truth};

/// What one client was told, judged against what the log truly did.
pub(crate) struct Witness {
    client: String,
    tenant: Tenant,
    truth: Arc<Mutex<Truth>>,
    record: Trace,
    started: Instant,
    sights: BTreeMap<Channel, Sight>,
    trace: Vec<(Instant, Saw)>,
    pub(crate) tally: Tally,
    violations: Vec<Objection>,
}

/// How often what happened, to prove that a run met what it is there for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tally {
    pub(crate) publications: u64,
    pub(crate) recovered: u64,
    pub(crate) rewound: u64,
    pub(crate) windows: u64,
    pub(crate) resets: u64,
    /// A worker's queue was full, and this client lost its place with the others of its worker.
    pub(crate) lagged: u64,
    /// This client took too slowly, and its worker took its place from it.
    pub(crate) slow: u64,
    /// Live answers to joins that nobody waited for any more.
    pub(crate) late: u64,
    /// Publications a worker asked for and was told the position of.
    pub(crate) asked: u64,
    /// Answers to a join that did not reach the top.
    pub(crate) pages: u64,
    pub(crate) doubles: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.publications += other.publications;
        self.recovered += other.recovered;
        self.rewound += other.rewound;
        self.windows += other.windows;
        self.resets += other.resets;
        self.lagged += other.lagged;
        self.slow += other.slow;
        self.late += other.late;
        self.asked += other.asked;
        self.pages += other.pages;
        self.doubles += other.doubles;
    }
}

/// One channel as a client has it.
#[derive(Debug, Default)]
struct Sight {
    is_subscribed: bool,
    at: Option<Position>,
    /// Everything after this is to be seen, or under a notice.
    start: u64,
    /// By offset; what a notice took back is gone.
    seen: BTreeMap<u64, Entry>,
    /// Offsets after the first up to the second, which a notice said would not come.
    holes: Vec<(u64, u64)>,
    /// Where each was seen last, taken back or not.
    names: HashMap<Bytes, Position>,
}

#[derive(Debug)]
enum Saw {
    Event(Event),
    Connection(String),
}

impl Witness {
    pub(crate) fn new(
        client: String,
        tenant: Tenant,
        truth: Arc<Mutex<Truth>>,
        record: Trace,
    ) -> Self {
        Self {
            client,
            tenant,
            truth,
            record,
            started: Instant::now(),
            sights: BTreeMap::new(),
            trace: Vec::new(),
            tally: Tally::default(),
            violations: Vec::new(),
        }
    }

    /// Where the client goes on from.
    pub(crate) fn position(&self, channel: &Channel) -> Option<Position> {
        self.sights.get(channel)?.at
    }

    pub(crate) fn is_subscribed(&self, channel: &Channel) -> bool {
        self.sights.get(channel).is_some_and(|sight| sight.is_subscribed)
    }

    /// The client has lost or ended its connection, or begins one.
    pub(crate) fn connection(&mut self, what: String) {
        self.record.note(format_args!("{} {what}", self.client));
        self.trace.push((Instant::now(), Saw::Connection(what)));
        for sight in self.sights.values_mut() {
            sight.is_subscribed = false;
        }
    }

    /// The client was sent this.
    pub(crate) fn hear(&mut self, event: Event) {
        let truth = Arc::clone(&self.truth);
        let truth = truth.lock();
        self.record.note(format_args!("{} {event:?}", self.client));
        match &event {
            Event::Subscribed(subscribed) => self.subscribed(subscribed, &truth),
            Event::Publications { channel, publications, .. } => {
                for envelope in publications {
                    self.publication(channel, envelope, &truth);
                }
            }
            Event::Gap { channel, gap } => self.gap(channel, *gap, &truth),
            Event::Unsubscribed { channel, .. } => self.sight(channel).is_subscribed = false,
            _ => {}
        }
        self.trace.push((Instant::now(), Saw::Event(event)));
    }

    fn subscribed(&mut self, subscribed: &Subscribed, truth: &Truth) {
        let Subscribed { channel, recovery, position, .. } = subscribed;
        let sight = self.sight(channel);
        let was_subscribed = std::mem::replace(&mut sight.is_subscribed, true);
        if was_subscribed {
            self.object(Invariant::Order, &format!("{channel}: subscribed twice"));
        }
        let Some(at) = self.sight(channel).at else {
            let sight = self.sight(channel);
            sight.at = Some(*position);
            sight.start = position.offset;
            return;
        };
        match recovery {
            Recovery::NotAsked => {
                self.object(
                    Invariant::Honesty,
                    &format!("{channel}: begun anew though the client was at {at}"),
                );
            }
            Recovery::Recovered => {
                self.tally.recovered += 1;
                if at.offset != position.offset {
                    self.object(
                        Invariant::Honesty,
                        &format!("{channel}: recovered from {position} instead of {at}"),
                    );
                }
                self.sight(channel).at = Some(*position);
            }
            Recovery::Rewound => self.take_back(channel, *position, truth),
            Recovery::Failed(reason) => self.fail(channel, *reason, *position, truth),
        }
    }

    fn gap(&mut self, channel: &Channel, gap: Gap, truth: &Truth) {
        let Some(at) = self.sight(channel).at.filter(|_| self.is_subscribed(channel)) else {
            return self
                .object(Invariant::Order, &format!("{channel}: a gap without a subscription"));
        };
        let missing = gap.position.offset.checked_sub(at.offset);
        if gap.missed.is_some() && gap.missed != missing {
            self.object(
                Invariant::Honesty,
                &format!("{channel}: {gap:?} is wrong about what is missing after {at}"),
            );
        }
        match gap.reason {
            GapReason::Rewind => self.take_back(channel, gap.position, truth),
            reason => self.fail(channel, reason, gap.position, truth),
        }
    }

    /// The newest publications the client saw are no longer.
    fn take_back(&mut self, channel: &Channel, to: Position, truth: &Truth) {
        self.tally.rewound += 1;
        let tenant_channel = self.in_tenant(channel);
        let sight = self.sight(channel);
        let was_at = sight.at.replace(to);
        sight.start = sight.start.min(to.offset);
        let taken = sight.seen.split_off(&(to.offset + 1));
        sight.holes.retain_mut(|(from, until)| {
            *until = (*until).min(to.offset);
            from < until
        });
        let is_cause = |entry: &Entry| !truth.keeps(&tenant_channel, entry.position);
        let has_cause = taken.is_empty() || taken.values().any(is_cause);
        if was_at.is_none_or(|at| at.offset <= to.offset) || truth.restarts == 0 || !has_cause {
            self.object(
                Invariant::Honesty,
                &format!("{channel}: rewound from {was_at:?} to {to} without a cause"),
            );
        }
    }

    /// Publications will not come. The log says so too of a lost tail that is followed by what it
    /// no longer keeps.
    fn fail(&mut self, channel: &Channel, reason: GapReason, to: Position, truth: &Truth) {
        let tenant_channel = self.in_tenant(channel);
        let is_trimmed = truth.is_trimmed_at(&tenant_channel, to.offset);
        let keeps = |position| truth.keeps(&tenant_channel, position);
        let sight = self.sight(channel);
        let Some(at) = sight.at.replace(to) else { return };
        let agreed = sight.agreed(keeps, at.offset);
        let is_justified = match reason {
            GapReason::Window => is_trimmed && (at.offset < to.offset || !keeps(at)),
            GapReason::Reset => truth.restarts > 0,
            // More was missed than a client that comes back is sent.
            GapReason::Limit => at.offset < to.offset,
            // No channel of the simulation leaves anything out.
            GapReason::Rewind | GapReason::Skipped => false,
        };
        if reason == GapReason::Reset {
            // What was seen before means nothing in the new numbering.
            sight.seen.clear();
            sight.holes.clear();
            sight.names.clear();
            sight.start = to.offset;
            self.tally.resets += 1;
        } else {
            sight.start = sight.start.min(to.offset);
            sight.seen.split_off(&(agreed + 1));
            sight.holes.push((agreed, to.offset));
            self.tally.windows += 1;
        }
        if !is_justified {
            self.object(
                Invariant::Honesty,
                &format!("{channel}: {reason:?} from {at} to {to} without a cause"),
            );
        }
    }

    fn publication(&mut self, channel: &Channel, publication: &Publication, truth: &Truth) {
        self.tally.publications += 1;
        let tenant_channel = self.in_tenant(channel);
        let position = publication.position;
        let name = publication.payload.bytes();
        let true_name = truth.name_of(&tenant_channel, position);
        if true_name != Some(name) || publication.channel != tenant_channel {
            self.object(
                Invariant::Agreement,
                &format!("{channel}: {position} is {name:?}, the log has {true_name:?}"),
            );
        }
        let is_subscribed = self.is_subscribed(channel);
        let sight = self.sight(channel);
        let Some(at) = sight.at.filter(|_| is_subscribed) else {
            return self.object(
                Invariant::Order,
                &format!("{channel}: {position} without a subscription"),
            );
        };
        sight.at = Some(position);
        sight.seen.insert(position.offset, Entry { position, name: name.clone() });
        let before = sight.names.insert(name.clone(), position);
        let follows = position.offset == at.offset + 1
            && position.epoch.incarnation() >= at.epoch.incarnation();
        if !follows {
            self.object(Invariant::Order, &format!("{channel}: {position} right after {at}"));
        }
        let Some(before) = before else { return };
        self.tally.doubles += 1;
        let is_again = before == position || truth.keeps(&tenant_channel, before);
        if is_again && !truth.may_repeat(&tenant_channel, name) {
            self.object(
                Invariant::Once,
                &format!("{channel}: {name:?} at {before} and again at {position}"),
            );
        }
    }

    /// What is missing or wrong now, if nothing more were to come: every channel is to be at the
    /// log's top, with everything after its start seen or under a notice.
    pub(crate) fn verdict(&self, channels: &[Channel]) -> Vec<Objection> {
        let truth = self.truth.lock();
        let mut objections = Vec::new();
        for channel in channels {
            let entries = truth.entries(&self.in_tenant(channel));
            match self.sights.get(channel).filter(|sight| sight.is_subscribed) {
                None => {
                    let text = format!("{}: {channel}: not subscribed", self.client);
                    objections.push(Objection::new(Invariant::Settling, text));
                }
                Some(sight) => objections.extend(sight.shortcoming(entries).map(|text| {
                    let text = format!("{}: {channel}: {text}", self.client);
                    Objection::new(Invariant::Completeness, text)
                })),
            }
        }
        objections
    }

    /// What was wrong the moment it was seen, whatever comes later.
    pub(crate) fn violations(&self) -> &[Objection] {
        &self.violations
    }

    /// The last `most` things the client saw, a line each.
    pub(crate) fn story(&self, most: usize) -> String {
        let mut story = format!("what {} saw:\n", self.client);
        for (at, saw) in &self.trace[self.trace.len().saturating_sub(most)..] {
            let seconds = (*at - self.started).as_secs_f64();
            let line = match saw {
                Saw::Connection(what) => format!("-- {what}"),
                Saw::Event(Event::Publications { channel, publications, .. }) => {
                    let each = publications.iter().map(|envelope| {
                        let name = String::from_utf8_lossy(envelope.payload.bytes());
                        format!("{}={name}", envelope.position)
                    });
                    format!("{channel} {}", each.collect::<Vec<_>>().join(" "))
                }
                Saw::Event(event) => format!("{event:?}"),
            };
            writeln!(story, "{seconds:9.3} {line}").expect("a string takes everything");
        }
        story
    }

    fn sight(&mut self, channel: &Channel) -> &mut Sight {
        self.sights.entry(channel.clone()).or_default()
    }

    fn in_tenant(&self, channel: &Channel) -> TenantChannel {
        TenantChannel::new(self.tenant.clone(), channel.clone())
    }

    fn object(&mut self, invariant: Invariant, violation: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        let text = format!("{} at {seconds:.3}: {violation}", self.client);
        self.violations.push(Objection::new(invariant, text));
    }
}

impl Sight {
    /// The last offset before anything that was seen and has been lost since.
    fn agreed(&self, keeps: impl Fn(Position) -> bool, at: u64) -> u64 {
        let lost = self.seen.values().find(|entry| !keeps(entry.position));
        lost.map_or(at, |entry| at.min(entry.position.offset - 1))
    }

    fn shortcoming(&self, entries: &[Entry]) -> Option<String> {
        let (at, top) = (self.at?, entries.len() as u64);
        if at.offset != top {
            return Some(format!("at {at}, the log's top is {top}"));
        }
        let under_notice =
            |offset: u64| self.holes.iter().any(|(from, until)| *from < offset && offset <= *until);
        let after_start = entries.iter().filter(|entry| entry.position.offset > self.start);
        after_start
            .filter(|entry| !under_notice(entry.position.offset))
            .find(|entry| self.seen.get(&entry.position.offset) != Some(entry))
            .map(|entry| {
                let seen = self.seen.get(&entry.position.offset);
                format!("saw {seen:?}, the log has {entry:?}, and there was no notice")
            })
    }
}
