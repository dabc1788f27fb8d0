use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidewire_client::{Client, Happening, Options};
use tidewire_model::PublicationId;
use tidewire_witness::{Random, Saying, Stamp};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{PUBLISHERS, Phase, Shared, name};
use crate::cluster::TENANTS;

/// Publications it has under way at most; it publishes less while nothing is acknowledged.
const MOST_UNDER_WAY: usize = 2_000;

/// A client that publishes to the channels of its tenant.
pub(super) struct Publisher {
    number: u16,
    options: Options,
    shared: Arc<Shared>,
    random: Random,
    /// The next sequence in each of its tenant's channels.
    sequences: HashMap<u32, u64>,
    waiting: HashMap<PublicationId, Saying>,
    filling: String,
}

impl Publisher {
    pub(super) fn new(number: u16, options: Options, shared: Arc<Shared>) -> Self {
        let random = Random::new(7, number.into());
        let (sequences, waiting) = (HashMap::new(), HashMap::new());
        let filling = "chaos".repeat(shared.size.bytes as usize / 5 + 1);
        Self { number, options, shared, random, sequences, waiting, filling }
    }

    pub(super) async fn run(mut self, mut phases: watch::Receiver<Phase>) {
        let mut client = match Client::connect(self.options.clone()).await {
            Ok(client) => client,
            Err(error) => return self.shared.end("a publisher", &error),
        };
        if phases.wait_for(|phase| *phase >= Phase::Publishing).await.is_err() {
            return;
        }
        let every = Duration::from_secs(1) * PUBLISHERS / self.shared.size.rate;
        let mut next = Instant::now() + every / PUBLISHERS * u32::from(self.number);
        loop {
            tokio::select! {
                happening = client.next() => match happening {
                    Ok(happening) => self.take(&happening),
                    Err(error) => return self.shared.end("a publisher", &error),
                },
                () = tokio::time::sleep_until(next) => {
                    next += every;
                    if self.waiting.len() < MOST_UNDER_WAY {
                        let channels = self.channels();
                        let channel = channels[self.random.below(channels.len())];
                        self.publish(&mut client, channel);
                    }
                }
                _ = phases.wait_for(|phase| *phase >= Phase::Ending) => break,
            }
        }
        for channel in self.channels() {
            let last = self.publish(&mut client, channel);
            self.shared.last.lock().push(last);
        }
        while !self.waiting.is_empty() {
            match client.next().await {
                Ok(happening) => self.take(&happening),
                Err(error) => return self.shared.end("a publisher", &error),
            }
        }
        client.close().await;
    }

    /// The channels of its tenant.
    fn channels(&self) -> Vec<u32> {
        let tenants = u32::try_from(TENANTS.len()).expect("two");
        let first = u32::from(self.number) % tenants;
        (first..self.shared.size.channels).step_by(TENANTS.len()).collect()
    }

    fn publish(&mut self, client: &mut Client, channel: u32) -> Saying {
        let sequence = self.sequences.entry(channel).or_insert(0);
        let now = self.shared.clock();
        let stamp = Stamp {
            run: self.shared.run(channel),
            publisher: self.number,
            sequence: *sequence,
            due: now,
            sent: now,
        };
        *sequence += 1;
        let saying = Saying::new(channel, &stamp);
        let payload = stamp.write(self.shared.size.bytes as usize, &self.filling);
        let published = client.publish(name(channel), payload);
        let id = published.expect("fewer are under way than a client has room for");
        self.waiting.insert(id, saying);
        saying
    }

    fn take(&mut self, happening: &Happening) {
        self.shared.note(happening);
        if let Happening::Published { id, position, .. } = happening
            && let Some(saying) = self.waiting.remove(id)
        {
            let at = self.shared.clock();
            self.shared.account.lock().acknowledge(saying, *position, at);
        }
        if let Happening::Rejected { id, .. } = happening {
            self.waiting.remove(id);
        }
    }
}
