use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tidewire_broker::{Appended, Draft};
use tidewire_model::{
    ConnectionId, ErrorCode, Failure, Payload, PublicationId, Published, RequestId, TenantChannel,
    UserId,
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

/// What was sent, and nobody said whether it is stored, in the order it was sent.
type Unknown = BTreeMap<usize, (TenantChannel, Draft)>;

/// Whether what was refused so may be stored all the same.
fn may_have_happened(refusal: &Failure) -> bool {
    refusal.code == ErrorCode::Timeout
}

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
    /// What a killed node leaves unanswered, or any node answers with `timeout`, may be stored yet: its
    /// call may be with Redis. Who gives ids publishes that again, in order, before anything new. Who
    /// gives none cannot, and what it sends next stands in no order with it: it is another session
    /// from then on.
    pub(crate) async fn run_in_bursts(mut self, has_ids: bool) {
        let mut number = 0;
        while !self.weather.is_fair() {
            let mut drafts = Vec::new();
            for _ in 0..self.burst() {
                number += 1;
                drafts.push(self.draft(number, has_ids));
            }
            let unknown = if self.dice.chance(50) {
                self.publish_by_calls(drafts).await
            } else {
                self.publish_by_asking(drafts).await
            };
            if has_ids {
                self.publish_again(unknown).await;
            } else {
                self.life += u64::from(!unknown.is_empty());
            }
            self.rest().await;
        }
    }

    async fn publish_again(&mut self, unknown: Unknown) {
        for (channel, draft) in unknown.into_values() {
            let node = self.fleet.node(&mut self.dice);
            self.publish_until_answered(node, &channel, &draft).await;
        }
    }

    /// Returns what may have been stored.
    async fn publish_by_calls(&mut self, drafts: Vec<(TenantChannel, Draft)>) -> Unknown {
        let (index, node) = self.fleet.node(&mut self.dice);
        let mut unknown = Unknown::new();
        // An answer counts from when it comes, and not from when those before it have come.
        let mut answers = FuturesUnordered::new();
        for (number, (channel, draft)) in drafts.into_iter().enumerate() {
            let publishing = node.publish(channel.clone(), draft.clone()).await;
            answers.push(async move {
                // That of a node that has been killed never comes.
                let answer = tokio::time::timeout(LONGEST_ANSWER, publishing.finish()).await;
                (number, (channel, draft), answer)
            });
        }
        while let Some((number, (channel, draft), answer)) = answers.next().await {
            match answer {
                Ok(Ok(Appended { position, .. })) => {
                    let name = draft.payload.bytes();
                    self.truth.lock().answered(&channel, name, (index, position));
                }
                Ok(Err(refusal)) if !may_have_happened(&refusal) => {}
                Ok(Err(_)) | Err(_) => drop(unknown.insert(number, (channel, draft))),
            }
        }
        unknown
    }

    /// Publishes as a connection does, and returns what may have been stored without its knowing.
    async fn publish_by_asking(&mut self, drafts: Vec<(TenantChannel, Draft)>) -> Unknown {
        let worker = self.fleet.worker(&mut self.dice);
        worker.connect(self.connection, drafts.len());
        let (mut asked, mut unknown) = (Unknown::new(), Unknown::new());
        for (request, (channel, draft)) in (1_u32..).zip(drafts) {
            asked.insert(request as usize, (channel.clone(), draft.clone()));
            worker.publish(channel, draft, self.connection, RequestId(request));
        }
        while !asked.is_empty() {
            let words = tokio::select! {
                biased;
                words = worker.take(self.connection, usize::MAX) => words,
                () = worker.gone() => {
                    unknown.append(&mut asked);
                    return unknown;
                }
            };
            for word in words {
                let Word::Published { request, outcome } = word else {
                    unreachable!("it has joined nothing")
                };
                let request = request.0 as usize;
                let (channel, draft) = asked.remove(&request).expect("one answer each");
                match outcome {
                    Ok(Published { position, .. }) => {
                        let place = (worker.node_index(), position);
                        self.truth.lock().answered(&channel, draft.payload.bytes(), place);
                    }
                    Err(refusal) if may_have_happened(&refusal) => {
                        unknown.insert(request, (channel, draft));
                    }
                    Err(_) => {}
                }
            }
        }
        worker.disconnect(self.connection);
        unknown
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
