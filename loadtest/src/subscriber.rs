use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidewire_client::{Channel, Client, ClientError, Happening, Options, Since};
use tidewire_witness::{Checker, Findings, Ledger, Stamp};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::moves::{Kind, Move};
use crate::phase::{Hold, Later, known};
use crate::tally::Tally;

/// A client that subscribes, and checks and times what comes.
pub(crate) struct Subscriber {
    pub(crate) number: u32,
    pub(crate) run: u32,
    pub(crate) options: Options,
    pub(crate) kind: Kind,
    pub(crate) channels: Vec<(u32, Channel)>,
    /// How long to wait for the last deliveries.
    pub(crate) settle: Duration,
    pub(crate) tally: Arc<Tally>,
    /// What was published, once that is known.
    pub(crate) ledger: Later<Arc<Ledger>>,
}

impl Subscriber {
    /// Connects, holding `permit` meanwhile, and subscribes, holding `until_ready`; then listens until
    /// everything in the ledger has come or the time to settle is over.
    pub(crate) async fn run(self, permit: OwnedSemaphorePermit, until_ready: Hold) -> Findings {
        let begun = Instant::now();
        let connected = Client::connect(self.options.clone()).await;
        drop(permit);
        let client = match connected {
            Ok(client) => client,
            Err(error) => {
                self.tally.blame(&explain(&error));
                return Findings::default();
            }
        };
        self.tally.connect(begun.elapsed());
        let mut listener = Listener::new(&self, client);
        if let Err(reason) = listener.settle_in().await {
            self.tally.blame(&reason);
            return Findings::default();
        }
        self.tally.ready.increment();
        drop(until_ready);
        let ledger = listener.listen(self.ledger, self.settle).await;
        listener.finish(&ledger).await
    }
}

const LINGER: Duration = Duration::from_millis(250);

/// A subscriber that is connected.
struct Listener {
    number: u32,
    run: u32,
    client: Client,
    checkers: HashMap<Channel, Checker>,
    journey: Move,
    tally: Arc<Tally>,
}

impl Listener {
    fn new(subscriber: &Subscriber, mut client: Client) -> Self {
        let mut checkers = HashMap::new();
        for (id, channel) in &subscriber.channels {
            client.subscribe(channel.clone(), Since::Now);
            checkers.insert(channel.clone(), Checker::new(*id));
        }
        let Subscriber { number, run, .. } = *subscriber;
        let journey = Move::new(subscriber.kind, checkers.len());
        Self { number, run, client, checkers, journey, tally: Arc::clone(&subscriber.tally) }
    }

    /// Waits until every subscription is confirmed.
    async fn settle_in(&mut self) -> Result<(), String> {
        let mut waiting = self.checkers.len();
        while waiting > 0 {
            match self.client.next().await.map_err(|error| explain(&error))? {
                Happening::Subscribed(subscribed) => {
                    let Some(checker) = self.checkers.get_mut(&subscribed.channel) else {
                        continue;
                    };
                    waiting -= usize::from(!checker.is_subscribed());
                    checker.subscribe(&subscribed);
                }
                Happening::Refused { refusal, .. } => return Err(refusal.to_string()),
                Happening::Lost { reason } => return Err(reason),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes what comes until nothing more is expected.
    async fn listen(&mut self, mut ledger: Later<Arc<Ledger>>, settle: Duration) -> Arc<Ledger> {
        loop {
            tokio::select! {
                published = known(&mut ledger) => {
                    let published = published.unwrap_or_default();
                    self.drain(&published, Instant::now() + settle).await;
                    self.linger().await;
                    return published;
                }
                happening = self.client.next() => match happening {
                    Ok(happening) => self.take(happening),
                    Err(error) => {
                        self.end(&error);
                        return known(&mut ledger).await.unwrap_or_default();
                    }
                },
            }
        }
    }

    /// Takes what is still on its way.
    async fn drain(&mut self, ledger: &Ledger, deadline: Instant) {
        while !self.checkers.values().all(|checker| checker.is_complete(ledger)) {
            tokio::select! {
                happening = self.client.next() => match happening {
                    Ok(happening) => self.take(happening),
                    Err(error) => return self.end(&error),
                },
                () = sleep_until(deadline) => return,
            }
        }
    }

    /// Listens on for what should not come: duplicates of the last.
    async fn linger(&mut self) {
        let deadline = Instant::now() + LINGER;
        while let Ok(Ok(happening)) = timeout_at(deadline, self.client.next()).await {
            self.take(happening);
        }
        self.take_repeats();
    }

    async fn finish(self, ledger: &Ledger) -> Findings {
        self.client.close().await;
        self.tally.moves.end(&self.journey);
        let mut findings = Findings::default();
        for checker in self.checkers.into_values() {
            findings.add(&checker.finish(ledger));
        }
        findings
    }

    fn take(&mut self, happening: Happening) {
        self.tally.note(&happening);
        if self.tally.moves.have_begun() {
            self.journey.note(&happening, Instant::now());
        }
        match happening {
            Happening::Publication { channel, publication } => {
                let stamp = Stamp::read(&publication.payload).filter(|stamp| stamp.run == self.run);
                if let Some(stamp) = &stamp {
                    let now = Instant::now();
                    self.tally.deliver(self.number, stamp, now);
                    let due = self.tally.instant(stamp.due);
                    self.tally.moves.deliver(&mut self.journey, due, now);
                }
                if let Some(checker) = self.checkers.get_mut(&channel) {
                    checker.receive(publication.position, stamp.as_ref());
                }
            }
            Happening::Subscribed(subscribed) => {
                if let Some(checker) = self.checkers.get_mut(&subscribed.channel) {
                    checker.subscribe(&subscribed);
                }
            }
            Happening::Gap { channel, gap } => {
                if let Some(checker) = self.checkers.get_mut(&channel) {
                    checker.announce(&gap);
                }
            }
            _ => {}
        }
        self.take_repeats();
    }

    fn take_repeats(&mut self) {
        while let Some((channel, position)) = self.client.next_repeat() {
            if let Some(checker) = self.checkers.get_mut(&channel) {
                checker.repeat(position);
            }
        }
    }

    fn end(&mut self, error: &ClientError) {
        self.take_repeats();
        self.tally.ended.increment();
        self.tally.blame(&explain(error));
    }
}

/// An error with what caused it.
pub(crate) fn explain(error: &ClientError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
