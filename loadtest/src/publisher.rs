use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidewire_client::{Channel, Client, Happening, Options};
use tidewire_model::PublicationId;
use tidewire_witness::{Acknowledged, Random, Stamp};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::pace::Pace;
use crate::phase::{Hold, Later, known};
use crate::subscriber::explain;
use crate::tally::{Tally, Window};

/// A client that publishes, and remembers what it was acknowledged.
pub(crate) struct Publisher {
    pub(crate) number: u16,
    pub(crate) run: u32,
    pub(crate) options: Options,
    pub(crate) channels: Vec<(u32, Channel)>,
    /// Chooses the channel of each publication.
    pub(crate) random: Random,
    pub(crate) pace: Pace,
    /// The most it publishes.
    pub(crate) count: u32,
    /// The most it has without an acknowledgement, and no more than a client has room for.
    pub(crate) in_flight: usize,
    pub(crate) payload_bytes: usize,
    /// How long to wait for the last acknowledgements.
    pub(crate) settle: Duration,
    pub(crate) tally: Arc<Tally>,
    /// When to publish, once that is known.
    pub(crate) window: Later<Window>,
}

impl Publisher {
    /// Connects, holding `until_ready`; publishes in the window, holding `until_stopped`; then waits
    /// for acknowledgements until the time to settle is over.
    pub(crate) async fn run(mut self, until_ready: Hold, until_stopped: Hold) -> Acknowledged {
        let begun = Instant::now();
        let client = match Client::connect(self.options.clone()).await {
            Ok(client) => client,
            Err(error) => {
                self.tally.blame(&explain(&error));
                return Acknowledged::new(self.number);
            }
        };
        self.tally.connect(begun.elapsed());
        self.tally.ready.increment();
        drop(until_ready);
        let mut window = self.window.clone();
        let mut desk = Desk::new(&self, client);
        // The first that happens to a client is that it is connected.
        drop(desk.client.next().await);
        let opened = tokio::select! {
            opened = known(&mut window) => opened,
            () = desk.wait() => None,
        };
        if let Some(window) = opened {
            self.publish(&mut desk, window).await;
        }
        drop(until_stopped);
        desk.settle(Instant::now() + self.settle).await
    }

    async fn publish(&mut self, desk: &mut Desk, window: Window) {
        let mut number = 0;
        while number < self.count && !desk.is_ended {
            let is_full = desk.client.unacknowledged() >= self.in_flight;
            let due = self.pace.due(number).map(|after| window.start + after);
            let now = Instant::now();
            // What was due in the window is published even if this wakes up after it.
            let next = due.unwrap_or(now);
            if !is_full && next <= now && next < window.end {
                self.publish_one(desk, next, now);
                number += 1;
                continue;
            }
            if now >= window.end {
                return;
            }
            let wake = if is_full { window.end } else { next.min(window.end) };
            tokio::select! {
                () = desk.wait_once() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    fn publish_one(&mut self, desk: &mut Desk, due: Instant, now: Instant) {
        let index = self.random.below(self.channels.len());
        let (id, channel) = &self.channels[index];
        let stamp = Stamp {
            run: self.run,
            publisher: self.number,
            sequence: desk.sequences[index],
            due: self.tally.clock(due),
            sent: self.tally.clock(now),
        };
        desk.sequences[index] += 1;
        let payload = stamp.write(self.payload_bytes, &desk.filling);
        let published = desk.client.publish(channel.clone(), payload);
        let publication = published.expect("a client has room for the most that are in flight");
        desk.waiting.insert(publication, (*id, stamp.sequence));
        self.tally.published.increment();
    }
}

/// A publisher's connection, and its publications' whereabouts.
struct Desk {
    client: Client,
    tally: Arc<Tally>,
    filling: String,
    /// The next sequence in each of the channels.
    sequences: Vec<u64>,
    /// Channel and sequence of what is not acknowledged.
    waiting: HashMap<PublicationId, (u32, u64)>,
    acknowledged: Acknowledged,
    is_ended: bool,
}

impl Desk {
    fn new(publisher: &Publisher, client: Client) -> Self {
        let mut random = publisher.random.clone();
        let letter = |_| char::from(b'a' + u8::try_from(random.below(26)).expect("below 26"));
        Self {
            client,
            tally: Arc::clone(&publisher.tally),
            filling: (0..publisher.payload_bytes).map(letter).collect(),
            sequences: vec![0; publisher.channels.len()],
            waiting: HashMap::new(),
            acknowledged: Acknowledged::new(publisher.number),
            is_ended: false,
        }
    }

    /// Takes what happens, until the client cannot go on. Cancel-safe.
    async fn wait(&mut self) {
        while !self.is_ended {
            self.wait_once().await;
        }
    }

    /// Takes the next thing that happens. Cancel-safe.
    async fn wait_once(&mut self) {
        match self.client.next().await {
            Ok(happening) => self.take(&happening),
            Err(error) => {
                self.is_ended = true;
                self.tally.ended.increment();
                self.tally.blame(&explain(&error));
            }
        }
    }

    fn take(&mut self, happening: &Happening) {
        self.tally.note(happening);
        match happening {
            Happening::Published { id, position, .. } => {
                if let Some((channel, sequence)) = self.waiting.remove(id) {
                    self.acknowledged.push(channel, *position, sequence);
                    self.tally.acknowledged.increment();
                }
            }
            Happening::Rejected { id, .. } => {
                self.waiting.remove(id);
            }
            _ => {}
        }
    }

    /// Waits for the last acknowledgements, and leaves.
    async fn settle(mut self, deadline: Instant) -> Acknowledged {
        let answered = async {
            while !self.waiting.is_empty() && !self.is_ended {
                self.wait_once().await;
            }
        };
        // Whatever has no answer by then is counted below.
        drop(timeout_at(deadline, answered).await);
        for (channel, _) in self.waiting.values() {
            self.acknowledged.doubt(*channel);
        }
        self.client.close().await;
        self.acknowledged
    }
}
