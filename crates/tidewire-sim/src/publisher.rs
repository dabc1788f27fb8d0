use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tidewire_broker::{Appended, Draft};
use tidewire_model::{
    ConnectionId, Payload, PublicationId, Published, RequestId, TenantChannel, UserId,
};
use tidewire_node::Node;

use crate::dice::Dice;
use crate::fleet::Fleet;
use crate::truth::Truth;
use crate::weather::Weather;
use crate::worker::Word;

/// Publishes to all channels until the weather is fair.
pub(crate) struct Publisher {
    pub(crate) name: String,
    /// What it is to its workers.
    pub(crate) connection: ConnectionId,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) channels: Vec<TenantChannel>,
    pub(crate) truth: Arc<Mutex<Truth>>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) dice: Dice,
    /// The longest pause between two publications, in milliseconds.
    pub(crate) pause: u64,
    /// Whether a burst may be more than a read of the log returns at once.
    pub(crate) may_flood: bool,
    /// How often it has given up what it was not answered, and begun as somebody else.
    pub(crate) life: u64,
}

/// What was sent and not answered, in the order it was sent.
type Unanswered = Vec<(TenantChannel, Draft)>;

/// Whether a publication of this name has an id: its name.
pub(crate) fn has_id(name: &[u8]) -> bool {
    !name.contains(&b'.')
}

/// More than any publication waits for its answer.
const LONGEST_ANSWER: Duration = Duration::from_secs(20);

impl Publisher {
    /// One publication at a time, under an id: without an answer, the same again, on any node.
    pub(crate) async fn run_with_ids(mut self) {
        let mut number = 0;
        let mut node = self.fleet.node(&mut self.dice);
        while !self.weather.is_fair() {
            number += 1;
            let (channel, draft) = self.draft(number, true);
            node = self.publish_until_answered(node, &channel, &draft).await;
            if self.dice.chance(10) {
                node = self.fleet.node(&mut self.dice);
                node = self.publish_until_answered(node, &channel, &draft).await;
            }
            self.rest().await;
        }
    }

    async fn publish_until_answered(
        &mut self,
        mut node: (usize, Node),
        channel: &TenantChannel,
        draft: &Draft,
    ) -> (usize, Node) {
        loop {
            let publishing = node.1.publish(channel.clone(), draft.clone()).await;
            let patience = self.dice.millis(5, 2_000);
            let verdict = tokio::time::timeout(patience, publishing.finish()).await;
            if let Ok(Ok(Appended { position, .. })) = verdict {
                let name = draft.payload.bytes();
                self.truth.lock().answered(channel, name, (node.0, position));
                return node;
            }
            tokio::time::sleep(self.dice.millis(10, 300)).await;
            node = self.fleet.node(&mut self.dice);
        }
    }

    /// Several at a time without waiting for one another; what is refused is lost.
    ///
    /// What a killed node leaves unanswered may be stored yet: its call may be with Redis. Who gives
    /// ids publishes that again, in order, before anything new. Who gives none cannot, and what it
    /// sends next stands in no order with it: it is another session from then on.
    pub(crate) async fn run_in_bursts(mut self, has_ids: bool) {
        let mut number = 0;
        while !self.weather.is_fair() {
            let mut drafts = Vec::new();
            for _ in 0..self.burst() {
                number += 1;
                drafts.push(self.draft(number, has_ids));
            }
            if self.dice.chance(50) {
                self.publish_by_calls(drafts).await;
            } else {
                let unanswered = self.publish_by_asking(drafts).await;
                if has_ids {
                    self.publish_again(unanswered).await;
                } else {
                    self.life += u64::from(!unanswered.is_empty());
                }
            }
            self.rest().await;
        }
    }

    async fn publish_again(&mut self, unanswered: Unanswered) {
        for (channel, draft) in unanswered {
            let node = self.fleet.node(&mut self.dice);
            self.publish_until_answered(node, &channel, &draft).await;
        }
    }

    async fn publish_by_calls(&mut self, drafts: Vec<(TenantChannel, Draft)>) {
        let (index, node) = self.fleet.node(&mut self.dice);
        // An answer counts from when it comes, and not from when those before it have come.
        let mut answers = FuturesUnordered::new();
        for (channel, draft) in drafts {
            let name = draft.payload.bytes().clone();
            let publishing = node.publish(channel.clone(), draft).await;
            answers.push(async move {
                // That of a node that has been killed never comes.
                let answer = tokio::time::timeout(LONGEST_ANSWER, publishing.finish()).await;
                (channel, name, answer)
            });
        }
        while let Some((channel, name, answer)) = answers.next().await {
            if let Ok(Ok(Appended { position, .. })) = answer {
                self.truth.lock().answered(&channel, &name, (index, position));
            }
        }
    }

    /// Publishes as a connection does, and returns what its node was killed before answering.
    async fn publish_by_asking(&mut self, drafts: Vec<(TenantChannel, Draft)>) -> Unanswered {
        let worker = self.fleet.worker(&mut self.dice);
        worker.connect(self.connection, drafts.len());
        let mut asked = BTreeMap::new();
        for (request, (channel, draft)) in (1..).map(RequestId).zip(drafts) {
            asked.insert(request, (channel.clone(), draft.clone()));
            worker.publish(channel, draft, self.connection, request);
        }
        while !asked.is_empty() {
            let words = tokio::select! {
                biased;
                words = worker.take(self.connection, usize::MAX) => words,
                () = worker.gone() => return asked.into_values().collect(),
            };
            for word in words {
                let Word::Published { request, outcome } = word else {
                    unreachable!("it has joined nothing")
                };
                let (channel, draft) = asked.remove(&request).expect("one answer each");
                let name = draft.payload.bytes();
                if let Ok(Published { position, .. }) = outcome {
                    self.truth.lock().answered(&channel, name, (worker.node_index(), position));
                }
            }
        }
        worker.disconnect(self.connection);
        Unanswered::new()
    }

    fn burst(&mut self) -> u64 {
        let floods = self.may_flood && self.dice.chance(3);
        if floods { 800 } else { self.dice.between(1, 8) }
    }

    fn draft(&mut self, number: u64, has_id: bool) -> (TenantChannel, Draft) {
        let name = if has_id {
            format!("{}-{number}", self.name)
        } else {
            format!("{}.{}-{number}", self.name, self.life)
        };
        let id = has_id.then(|| PublicationId::parse(&name).expect("id"));
        let publisher = Some(UserId::parse(&self.name).expect("user"));
        let payload = Payload::binary(Bytes::from(name));
        (self.dice.pick(&self.channels), Draft { id, publisher, payload })
    }

    async fn rest(&mut self) {
        // Now and then long enough for a channel to fall silent.
        let pause = if self.dice.chance(5) { 1_500 } else { self.pause };
        tokio::time::sleep(self.dice.millis(1, pause)).await;
    }
}

#[cfg(test)]
mod tests;
