use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewire_hub::Subscribers;
use tidewire_model::{
    ChannelRules, Delivery, Deltas, Envelope, Event, Gap, Position, Reader, TenantChannel,
};
use tidewire_protocol::Protocol;
use tidewire_transport::{Deflate, Prepared, Scratch};
use tokio::time::Instant;

use super::{Context, Slots};
use crate::connection::{Connection, FRAME_BYTES, Word};
use crate::metrics::Tally;

/// Publications on their way from the shards to the connections: in order per channel, a slice at a
/// time, framed once for everybody who gets them alike.
#[derive(Debug)]
pub(crate) struct FanOut {
    /// As they were when the turn began.
    rules: Reader<ChannelRules>,
    queue: VecDeque<Item>,
    /// How far the first item has come.
    progress: Progress,
    /// Runs that wait for more to come, by when they wait no longer.
    gathering: BTreeMap<(Instant, u64), Run>,
    /// Where the next publication of a channel belongs, if it may go with earlier ones.
    open: HashMap<TenantChannel, Place>,
    /// The number of the first item in the queue.
    first: u64,
    gathered: u64,
    waiting: usize,
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
    Gathering(Instant, u64),
}

/// Whom the first item has reached: a snapshot, which those who come and go meanwhile do not change.
#[derive(Debug, Default)]
struct Progress {
    subscribers: Option<Subscribers>,
    done: usize,
}

/// Consecutive publications of one channel, in one epoch.
#[derive(Debug)]
pub(crate) struct Run {
    envelopes: Vec<Arc<Envelope>>,
    bytes: usize,
    written: Vec<Written>,
}

/// A run in one of the shared forms.
#[derive(Debug)]
struct Written {
    protocol_index: u8,
    deltas: Deltas,
    prepared: Prepared,
    tally: Tally,
}

/// In which of the shared forms a connection gets publications.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Form {
    pub(crate) protocol_index: u8,
    pub(crate) deflate: Option<Deflate>,
}

/// Publications in one run, and their bytes. A connection with room for one byte more is handed a
/// whole run.
const RUN_PUBLICATIONS: usize = 128;
const RUN_BYTES: usize = 64 * 1_024;
/// Publications to be handed out above which no more are taken from the shards.
const MOST_WAITING: usize = 4_096;

impl Run {
    fn new(envelope: Arc<Envelope>) -> Self {
        let bytes = envelope.weight();
        Self { envelopes: vec![envelope], bytes, written: Vec::new() }
    }

    /// Whether a publication comes right behind, and there is room for it.
    fn takes(&self, envelope: &Envelope) -> bool {
        let (_, last) = self.span();
        self.envelopes.len() < RUN_PUBLICATIONS
            && self.bytes < RUN_BYTES
            && last.epoch == envelope.position.epoch
            && last.offset + 1 == envelope.position.offset
    }

    fn push(&mut self, envelope: Arc<Envelope>) {
        self.bytes += envelope.weight();
        self.envelopes.push(envelope);
    }

    pub(crate) fn channel(&self) -> &TenantChannel {
        &self.envelopes[0].channel
    }

    /// The first position and the last.
    pub(crate) fn span(&self) -> (Position, Position) {
        (self.envelopes[0].position, self.envelopes[self.envelopes.len() - 1].position)
    }

    pub(crate) fn len(&self) -> usize {
        self.envelopes.len()
    }

    pub(crate) fn envelopes(&self) -> &[Arc<Envelope>] {
        &self.envelopes
    }

    /// The whole run as it is written to sockets, made by the first connection that needs it in this
    /// form, and what deltas there are in it.
    pub(crate) fn wire(
        &mut self,
        form: Form,
        deltas: Deltas,
        protocol: &mut dyn Protocol,
        scratch: &mut Scratch,
    ) -> (Bytes, Tally) {
        let is_it = |written: &Written| {
            (written.protocol_index, written.deltas) == (form.protocol_index, deltas)
        };
        let at = self.written.iter().position(is_it).unwrap_or_else(|| {
            self.written.push(self.write(form.protocol_index, deltas, protocol));
            self.written.len() - 1
        });
        let Written { prepared, tally, .. } = &mut self.written[at];
        (prepared.wire(form.deflate, scratch).clone(), *tally)
    }

    fn write(&self, protocol_index: u8, deltas: Deltas, protocol: &mut dyn Protocol) -> Written {
        let channel = self.channel().channel.clone();
        let publications = self.envelopes.clone();
        let mut frames = Vec::new();
        let event = Event::Publications { channel, publications, deltas };
        protocol.encode(&[event], FRAME_BYTES, &mut frames);
        let tally = Tally::of(&self.envelopes, deltas);
        Written { protocol_index, deltas, prepared: Prepared::new(&frames), tally }
    }
}

impl FanOut {
    pub(crate) fn new(rules: Reader<ChannelRules>) -> Self {
        Self {
            rules,
            queue: VecDeque::new(),
            progress: Progress::default(),
            gathering: BTreeMap::new(),
            open: HashMap::new(),
            first: 0,
            gathered: 0,
            waiting: 0,
        }
    }

    /// Takes the rules as they are now.
    pub(crate) fn begin_turn(&mut self) {
        self.rules.look();
    }

    /// Queues a publication, with those before it if they have not left.
    pub(crate) fn push(&mut self, envelope: Arc<Envelope>, now: Instant) {
        self.waiting += 1;
        if let Some(run) = self.open_run(&envelope.channel)
            && run.takes(&envelope)
        {
            return run.push(envelope);
        }
        let channel = envelope.channel.clone();
        // What waits goes first.
        self.close(&channel);
        let window = self.rules.flush_window(&channel);
        let run = Run::new(envelope);
        let place = if window == Duration::ZERO {
            self.queue.push_back(Item::Run(run));
            Place::Queue(self.first + self.queue.len() as u64 - 1)
        } else {
            self.gathered += 1;
            let key = (now + window, self.gathered);
            self.gathering.insert(key, run);
            Place::Gathering(key.0, key.1)
        };
        self.open.insert(channel, place);
    }

    /// Queues a gap behind the channel's publications that came before it.
    pub(crate) fn push_gap(&mut self, channel: TenantChannel, gap: Gap) {
        self.close(&channel);
        self.queue.push_back(Item::Gap(channel, gap));
    }

    /// Queues what begins or ends a place in `channel` behind what is yet to be handed out, or gives
    /// it back if that is nothing.
    pub(crate) fn push_place(
        &mut self,
        channel: &TenantChannel,
        delivery: Delivery,
    ) -> Option<Delivery> {
        self.close(channel);
        if self.queue.is_empty() {
            return Some(delivery);
        }
        self.queue.push_back(Item::Place(delivery));
        None
    }

    /// The run that takes the channel's next publication: none that has begun to be handed out.
    fn open_run(&mut self, channel: &TenantChannel) -> Option<&mut Run> {
        match *self.open.get(channel)? {
            Place::Gathering(at, number) => self.gathering.get_mut(&(at, number)),
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
    fn close(&mut self, channel: &TenantChannel) {
        if let Some(Place::Gathering(at, number)) = self.open.remove(channel)
            && let Some(run) = self.gathering.remove(&(at, number))
        {
            self.queue.push_back(Item::Run(run));
        }
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    /// When a window ends.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.gathering.first_key_value().map(|((at, _), _)| *at)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.waiting >= MOST_WAITING
    }

    /// Hands out as much as reaches `sends` connections.
    pub(crate) fn step(
        &mut self,
        sends: usize,
        connections: &mut Slots<Connection>,
        cx: &mut Context,
    ) {
        self.end_windows(cx.started);
        let mut left = sends;
        while left > 0 && !self.queue.is_empty() {
            left = left.saturating_sub(self.hand_out(left, connections, cx).max(1));
        }
    }

    fn end_windows(&mut self, now: Instant) {
        // What has gathered must not keep more from being taken, answers among it.
        let is_full = self.is_full();
        while let Some(entry) = self.gathering.first_entry()
            && (is_full || entry.key().0 <= now)
        {
            let run = entry.remove();
            self.open.remove(run.channel());
            self.queue.push_back(Item::Run(run));
        }
    }

    /// Hands the first item to at most `most` connections; says to how many.
    fn hand_out(
        &mut self,
        most: usize,
        connections: &mut Slots<Connection>,
        cx: &mut Context,
    ) -> usize {
        let place = self.queue.pop_front_if(|item| matches!(item, Item::Place(_)));
        if let Some(Item::Place(delivery)) = place {
            self.first += 1;
            perform(delivery, connections, cx);
            return 1;
        }
        let is_last = self.queue.len() == 1;
        let Some(item) = self.queue.front_mut() else { return 0 };
        let channel = match item {
            Item::Run(run) => run.channel(),
            Item::Gap(channel, _) => channel,
            Item::Place(_) => return 0,
        };
        if self.progress.subscribers.is_none() {
            self.progress = Progress { subscribers: cx.hub.subscribers(channel), done: 0 };
        }
        let Some(subscribers) = &self.progress.subscribers else {
            self.pop();
            return 0;
        };
        let rest = &subscribers[self.progress.done..];
        let slice = &rest[..rest.len().min(most)];
        for subscriber in slice {
            let Some(connection) = connections.find(subscriber.connection) else { continue };
            match item {
                Item::Run(run) => connection.hand((subscriber.join, is_last), run, cx),
                Item::Gap(_, gap) => connection.tell(Word::Gap(subscriber.join, *gap), cx),
                Item::Place(_) => {}
            }
        }
        let handed = slice.len();
        self.progress.done += handed;
        if self.progress.done == subscribers.len() {
            self.pop();
        }
        handed
    }

    fn pop(&mut self) {
        let popped = self.queue.pop_front();
        if let Some(Item::Run(run)) = popped {
            self.waiting -= run.len();
            if let Some(Place::Queue(number)) = self.open.get(run.channel())
                && *number == self.first
            {
                self.open.remove(run.channel());
            }
        }
        self.first += 1;
        self.progress = Progress::default();
    }
}

/// Does what a delivery says that is not for everybody in a channel.
pub(crate) fn perform(delivery: Delivery, connections: &mut Slots<Connection>, cx: &mut Context) {
    match &delivery {
        Delivery::Joined { connection, .. } | Delivery::Published { connection, .. } => {
            match connections.find(*connection) {
                Some(connection) => connection.answer(delivery, cx),
                None => cx.give_back(&delivery),
            }
        }
        Delivery::Lagged { channel, tenure } => {
            for subscriber in cx.hub.evict(channel, *tenure) {
                if let Some(connection) = connections.find(subscriber.connection) {
                    connection.tell(Word::Lagged(subscriber.join), cx);
                }
            }
        }
        Delivery::Publication(_) | Delivery::Gap { .. } => {}
    }
}
