//! From a worker's drafts through a shard, its lane and the log in memory, back to the worker as
//! answers and as publications.

use tidewire_broker::Draft;
use tidewire_hub::{Inbox, Outbox, QueueLimits, outbox};
use tidewire_model::{ConnectionId, Delivery, JoinId, RequestId, Since, TenantChannel};
use tidewire_node::{Ask, Join, Node};
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{node, samples};

/// Drafts published at once: a batch of the lane.
const DRAFTS: u32 = 64;
const CONNECTION: ConnectionId = ConnectionId(1);

pub(crate) fn through_shard(times: u32) {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let node = node::start(&tracker, &stop);
        let mut worker = Worker::new(node);
        worker.join().await;
        for _ in 0..times {
            worker.publish().await;
        }
        stop.cancel();
        tracker.close();
        tracker.wait().await;
    });
}

/// A worker of the edge that only counts.
struct Worker {
    node: Node,
    outbox: Outbox,
    inbox: Inbox,
    deliveries: Vec<Delivery>,
    channel: TenantChannel,
    draft: Draft,
}

impl Worker {
    fn new(node: Node) -> Self {
        let (outbox, inbox) = outbox(QueueLimits::default());
        let (channel, deliveries) = (samples::channel(), Vec::new());
        let (publisher, payload) = (Some(samples::user()), samples::payload(128));
        let draft = Draft { id: None, publisher, payload };
        Self { node, outbox, inbox, deliveries, channel, draft }
    }

    /// Follows the channel from here on.
    async fn join(&mut self) {
        let (channel, outbox) = (self.channel.clone(), self.outbox.clone());
        let (since, connection, id) = (Since::Now, CONNECTION, JoinId(1));
        self.ask(Ask::Join(Join { channel, since, is_new: true, connection, id, outbox }));
        self.take(1).await;
    }

    /// Publishes a batch, and takes it as one who follows the channel and as one who asked.
    async fn publish(&mut self) {
        for request in 0..DRAFTS {
            self.ask(Ask::Publish {
                channel: self.channel.clone(),
                draft: self.draft.clone(),
                connection: CONNECTION,
                request: RequestId(request),
                outbox: self.outbox.clone(),
            });
        }
        self.take(2 * DRAFTS as usize).await;
    }

    fn ask(&self, ask: Ask) {
        assert!(self.node.ask(ask).is_ok(), "a shard has room for one batch");
    }

    /// Waits for so many deliveries, and drops them.
    async fn take(&mut self, count: usize) {
        let mut taken = 0;
        while taken < count {
            self.inbox.filled().await;
            taken += self.inbox.take_ready(&mut self.deliveries, count);
            self.deliveries.clear();
        }
    }
}
