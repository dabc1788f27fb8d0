use std::sync::Arc;

use tidewire_broker::{BrokerEvent, Notice, Partition};
use tidewire_model::{NodeId, TenantChannel};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::shard::{Action, Suspicion};

/// Hands what arrives from the broker to the shard whose channel it is, and never waits: a shard
/// that is full loses it, is told that it did, and repairs from the log.
pub(crate) struct Router {
    shards: Vec<mpsc::Sender<Action>>,
    suspicions: Vec<Arc<Suspicion>>,
    notices: mpsc::Sender<Notice>,
    heard: mpsc::Sender<NodeId>,
    dropped: metrics::Counter,
}

impl Router {
    pub(crate) fn new(
        shards: Vec<mpsc::Sender<Action>>,
        suspicions: Vec<Arc<Suspicion>>,
        notices: mpsc::Sender<Notice>,
        heard: mpsc::Sender<NodeId>,
    ) -> Self {
        let dropped =
            metrics::counter!("tidewire_messages_dropped_total", "reason" => "broker_gap");
        Self { shards, suspicions, notices, heard, dropped }
    }

    pub(crate) async fn run(
        self,
        mut events: mpsc::Receiver<BrokerEvent>,
        stop: CancellationToken,
    ) {
        loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                event = events.recv() => event,
            };
            match event {
                None => return,
                Some(event) => self.route(event),
            }
        }
    }

    fn route(&self, event: BrokerEvent) {
        match event {
            BrokerEvent::Publication(publication) => {
                let index = self.index_of(&publication.channel);
                self.pass_to(index, Action::Receive(publication));
            }
            BrokerEvent::Announcement { channel, position } => {
                self.pass_to(self.index_of(&channel), Action::Observe { channel, position });
            }
            BrokerEvent::Notice(notice) => {
                if self.notices.try_send(notice).is_err() {
                    // The old connection also learns it at its next write to the store.
                    tracing::warn!("notice dropped, too many are waiting");
                }
            }
            // If there is no room, it beats again in a second.
            BrokerEvent::Heard(node) => drop(self.heard.try_send(node)),
            BrokerEvent::Suspect => self.suspicions.iter().for_each(|shard| shard.raise()),
        }
    }

    fn pass_to(&self, index: usize, action: Action) {
        if self.shards[index].try_send(action).is_err() {
            self.dropped.increment(1);
            self.suspicions[index].raise();
        }
    }

    fn index_of(&self, channel: &TenantChannel) -> usize {
        usize::from(Partition::of(channel).index) % self.shards.len()
    }
}
