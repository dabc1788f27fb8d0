//! What waits to be handed out of one tenant, in order.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tidewire_hub::Subscribers;
use tidewire_model::{Channel, Delivery, Envelope, Gap, TenantChannel};
use tokio::time::Instant;

use super::windows::{Moment, Windows};
use super::{Clients, Run};

/// Publications of one tenant on their way to connections. All order that matters is inside a
/// channel, and so inside a share.
#[derive(Debug, Default)]
pub(super) struct Share {
    queue: VecDeque<Item>,
    /// How far the first item has come.
    progress: Progress,
    /// Where the next publication of a channel belongs, if it may go with earlier ones.
    open: HashMap<Channel, Place>,
    /// Channels of which nothing is taken until it is known that all places in them are void.
    given_up: HashSet<Channel>,
    /// The number of the first item in the queue.
    first: u64,
    /// What waits in the queue, and what gathers.
    volume: Volume,
    /// What it may cost until it is another tenant's turn.
    pub(super) credit: usize,
    /// It is on the list of those that take turns.
    pub(super) is_listed: bool,
}

/// What waits, or how much may.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Volume {
    /// Publications, and gaps.
    pub(super) offers: usize,
    pub(super) bytes: usize,
}

#[derive(Debug)]
enum Item {
    Run(Run),
    Gap(TenantChannel, Gap),
    /// Begins or ends somebody's place in a channel, behind all that was queued before.
    Place(Delivery),
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Queue(u64),
    Gathering(Moment),
}

/// Whom the first item has reached: a snapshot, which those who come and go meanwhile do not change.
#[derive(Debug, Default)]
struct Progress {
    subscribers: Option<Subscribers>,
    done: usize,
}

/// What handing something to one connection costs beside its bytes, in bytes: about as long as
/// copying so many takes.
pub(super) const SEND: usize = 4 * 1_024;

impl Volume {
    pub(super) const GAP: Self = Self { offers: 1, bytes: 64 };

    pub(super) fn of(envelope: &Envelope) -> Self {
        Self { offers: 1, bytes: envelope.weight() }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.offers += other.offers;
        self.bytes += other.bytes;
    }

    pub(super) fn subtract(&mut self, other: Self) {
        self.offers -= other.offers;
        self.bytes -= other.bytes;
    }

    /// What is left of it beside `other`.
    pub(super) fn less(self, other: Self) -> Self {
        Self {
            offers: self.offers.saturating_sub(other.offers),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    /// Whether it is less in every respect.
    pub(super) fn is_within(self, other: Self) -> bool {
        self.offers < other.offers && self.bytes < other.bytes
    }
}

impl Share {
    pub(super) fn volume(&self) -> Volume {
        self.volume
    }

    pub(super) fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether nothing would be different without it.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_listed && self.volume == Volume::default() && self.given_up.is_empty()
    }

    pub(super) fn has_given_up(&self, channel: &Channel) -> bool {
        !self.given_up.is_empty() && self.given_up.contains(channel)
    }

    pub(super) fn give_up(&mut self, channel: Channel) {
        self.given_up.insert(channel);
    }

    /// Queues a publication, with those before it if they have not left and there is room with them.
    pub(super) fn push(&mut self, envelope: Arc<Envelope>, windows: &mut Windows, now: Instant) {
        self.volume.add(Volume::of(&envelope));
        if let Some(run) = self.open_run(&envelope.channel.channel, windows)
            && run.takes(&envelope)
        {
            if let Some(replaced) = run.push(envelope) {
                self.volume.subtract(Volume::of(&replaced));
            }
            return;
        }
        let channel = envelope.channel.channel.clone();
        // What waits goes first.
        self.close(&channel, windows);
        let place = match windows.begin(envelope, now) {
            Ok(moment) => Place::Gathering(moment),
            Err(run) => {
                self.queue.push_back(Item::Run(run));
                Place::Queue(self.first + self.queue.len() as u64 - 1)
            }
        };
        self.open.insert(channel, place);
    }

    /// Queues what has gathered: its window has ended.
    pub(super) fn take_in(&mut self, run: Run) {
        self.open.remove(&run.channel().channel);
        self.queue.push_back(Item::Run(run));
    }

    pub(super) fn push_gap(&mut self, channel: TenantChannel, gap: Gap) {
        self.volume.add(Volume::GAP);
        self.queue.push_back(Item::Gap(channel, gap));
    }

    /// Queues what begins or ends a place, or gives it back if nothing is queued.
    pub(super) fn push_place(&mut self, delivery: Delivery) -> Option<Delivery> {
        if let Delivery::Lagged { channel, .. } = &delivery {
            self.given_up.remove(&channel.channel);
        }
        if self.queue.is_empty() {
            return Some(delivery);
        }
        self.queue.push_back(Item::Place(delivery));
        None
    }

    /// The run that takes the channel's next publication: none that has begun to be handed out.
    fn open_run<'a>(
        &'a mut self,
        channel: &Channel,
        windows: &'a mut Windows,
    ) -> Option<&'a mut Run> {
        match *self.open.get(channel)? {
            Place::Gathering(moment) => windows.run(moment),
            Place::Queue(number) => {
                let has_begun = self.progress.subscribers.is_some();
                let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
                match self.queue.get_mut(index)? {
                    Item::Run(run) if index > 0 || !has_begun => Some(run),
                    Item::Run(_) | Item::Gap(..) | Item::Place(_) => None,
                }
            }
        }
    }

    /// Lets nothing more join what has gathered of a channel, and sends it on its way.
    pub(super) fn close(&mut self, channel: &Channel, windows: &mut Windows) {
        if let Some(Place::Gathering(moment)) = self.open.remove(channel)
            && let Some(run) = windows.end(moment)
        {
            self.queue.push_back(Item::Run(run));
        }
    }

    /// The same before somebody's place begins or ends. A sample goes on gathering: whoever has a place
    /// then gets it, if it comes after what they have.
    pub(super) fn close_before_place(&mut self, channel: &Channel, windows: &mut Windows) {
        let is_sampled = match self.open.get(channel) {
            Some(Place::Gathering(moment)) => {
                windows.run(*moment).is_some_and(|run| run.is_sampled())
            }
            Some(Place::Queue(_)) | None => false,
        };
        if !is_sampled {
            self.close(channel, windows);
        }
    }

    /// Hands out what costs `most`, or somewhat more: the last connection gets its run whole. Returns
    /// what it has cost.
    pub(super) fn hand_out(&mut self, most: usize, clients: &mut impl Clients) -> usize {
        let mut cost = 0;
        while cost < most && self.has_work() {
            cost += self.hand_out_first(most - cost, clients);
        }
        cost
    }

    /// Hands out the first item, as far as that costs `most`.
    fn hand_out_first(&mut self, most: usize, clients: &mut impl Clients) -> usize {
        let place = self.queue.pop_front_if(|item| matches!(item, Item::Place(_)));
        if let Some(Item::Place(delivery)) = place {
            self.first += 1;
            let cost = SEND + delivery.weight();
            clients.perform(delivery);
            return cost;
        }
        let is_last = self.queue.len() == 1;
        let Some(item) = self.queue.front_mut() else { return 0 };
        let (channel, each) = match item {
            Item::Run(run) => (run.channel(), SEND + run.bytes()),
            Item::Gap(channel, _) => (&*channel, SEND),
            Item::Place(_) => return 0,
        };
        if self.progress.subscribers.is_none() {
            self.progress = Progress { subscribers: clients.subscribers(channel), done: 0 };
        }
        let Some(subscribers) = &self.progress.subscribers else {
            self.pop();
            return SEND;
        };
        let rest = &subscribers[self.progress.done..];
        let slice = &rest[..rest.len().min(most.div_ceil(each))];
        for subscriber in slice {
            match item {
                Item::Run(run) => clients.hand(*subscriber, is_last, run),
                Item::Gap(_, gap) => clients.tell(*subscriber, *gap),
                Item::Place(_) => {}
            }
        }
        let handed = slice.len();
        self.progress.done += handed;
        if self.progress.done == subscribers.len() {
            self.pop();
        }
        handed * each
    }

    fn pop(&mut self) {
        match self.queue.pop_front() {
            Some(Item::Run(run)) => {
                self.volume.subtract(Volume { offers: run.len(), bytes: run.bytes() });
                if let Some(Place::Queue(number)) = self.open.get(&run.channel().channel)
                    && *number == self.first
                {
                    self.open.remove(&run.channel().channel);
                }
            }
            Some(Item::Gap(..)) => self.volume.subtract(Volume::GAP),
            Some(Item::Place(_)) | None => {}
        }
        self.first += 1;
        self.progress = Progress::default();
    }
}
