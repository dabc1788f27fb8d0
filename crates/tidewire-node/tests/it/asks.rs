//! What a worker may ask, and what it may count on.

use std::sync::Arc;
use std::time::Duration;

use tidewire_broker::{Log, MemoryBroker, MemoryNetwork};
use tidewire_hub::{Inbox, Outbox, QueueLimits, outbox};
use tidewire_model::{
    ConnectionId, Delivery, ErrorCode, Failure, JoinId, Joined, NodeId, Published, RequestId,
    Since, Tenure,
};
use tidewire_node::{Ask, Join, Node, NodeConfig, Ports, Tasks};
use tidewire_store::{MemoryMembership, MemoryPresence, MemorySessionStore};
use tidewire_testkit::SwitchedLog;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fleet::{Fleet, Subscriber, channel, draft, publish, report, take};

/// A worker of the edge: it asks, and keeps what it is handed.
struct Worker {
    node: Node,
    outbox: Outbox,
    inbox: Inbox,
    heard: Vec<Delivery>,
}

impl Worker {
    fn new(node: &Node, limits: QueueLimits) -> Self {
        let (outbox, inbox) = outbox(limits);
        Self { node: node.clone(), outbox, inbox, heard: Vec::new() }
    }

    fn ask_join(&self, name: &str, number: u32, since: Since) {
        self.node.ask(self.join(name, number, since)).expect("room");
    }

    fn join(&self, name: &str, number: u32, since: Since) -> Ask {
        let (channel, connection) = (channel(name), ConnectionId(u64::from(number)));
        let (id, outbox) = (JoinId(number), self.outbox.clone());
        Ask::Join(Join { channel, since, is_new: true, connection, id, outbox })
    }

    fn publish(&self, name: &str, number: u32) -> Ask {
        Ask::Publish {
            channel: channel(name),
            draft: draft(&number.to_string()),
            connection: ConnectionId(1),
            request: RequestId(number),
            outbox: self.outbox.clone(),
        }
    }

    fn release(&self, name: &str, tenure: Tenure) {
        let outbox = self.outbox.clone();
        self.node.ask(Ask::Release { channel: channel(name), tenure, outbox }).expect("room");
    }

    fn give_up(&self, name: &str) {
        let outbox = self.outbox.clone();
        self.node.ask(Ask::GiveUp { channel: channel(name), outbox }).expect("room");
    }

    async fn joined(&mut self) -> (u32, Tenure, Result<Joined, Failure>) {
        match self.next().await {
            Delivery::Joined { join, tenure, outcome, .. } => (join.0, tenure, outcome),
            other => unreachable!("unexpected {other:?}"),
        }
    }

    /// Joins and waits for the answer.
    async fn live(&mut self, name: &str, number: u32) -> Tenure {
        self.ask_join(name, number, Since::Now);
        let (join, tenure, outcome) = self.joined().await;
        assert_eq!((join, outcome.expect("joined").live), (number, true));
        tenure
    }

    async fn next(&mut self) -> Delivery {
        let mut one = Vec::new();
        take(&mut self.inbox, &mut one, 1).await;
        one.pop().expect("it waited for one")
    }

    /// What has come and was not waited for: offsets of publications, and the rest by name.
    fn ready(&mut self) -> Vec<String> {
        self.heard.clear();
        self.inbox.take_ready(&mut self.heard, usize::MAX);
        let text = |delivery: &Delivery| match delivery {
            Delivery::Publication(envelope) => envelope.position.offset.to_string(),
            Delivery::Lagged { tenure, .. } => format!("lagged {}", tenure.0),
            other => format!("{other:?}"),
        };
        self.heard.iter().map(text).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_publication_comes_once_to_a_worker_however_many_subscribers_it_has() {
    let Fleet { nodes: [a], .. } = &Fleet::start();
    let mut worker = Worker::new(a, QueueLimits::default());
    let tenures = [worker.live("news", 1).await, worker.live("news", 2).await];
    let mut other = Subscriber::live(a, "news").await;

    publish(a, "news", draft("one")).await;
    other.hear(1).await;
    assert_eq!(worker.ready(), ["1"]);
    assert_eq!(tenures[0], tenures[1]);

    worker.release("news", tenures[0]);
    publish(a, "news", draft("two")).await;
    other.hear(1).await;
    assert_eq!(worker.ready(), ["2"], "one place is left");

    worker.release("news", tenures[1]);
    publish(a, "news", draft("three")).await;
    other.hear(1).await;
    assert_eq!(worker.ready(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_lagged_has_no_place_and_joins_again_from_where_it_was() {
    let Fleet { nodes: [a], .. } = &Fleet::start();
    let mut worker = Worker::new(a, QueueLimits { deliveries: 2, bytes: 1 << 20 });
    let voided = worker.live("news", 1).await;
    assert_eq!(worker.live("news", 2).await, voided);
    let mut first = None;
    for number in 0..4 {
        let position = publish(a, "news", draft(&number.to_string())).await;
        first.get_or_insert(position);
    }
    let lagged = format!("lagged {}", voided.0);
    assert_eq!(worker.ready(), ["1", "2", lagged.as_str()]);

    worker.release("news", voided);
    worker.ask_join("news", 3, Since::Position(first.expect("published")));
    let (_, tenure, outcome) = worker.joined().await;
    worker.release("news", voided);
    let fifth = publish(a, "news", draft("4")).await;

    let missed: Vec<_> = outcome.expect("joined").missed;
    assert_eq!(missed.iter().map(|one| one.position.offset).collect::<Vec<_>>(), [2, 3, 4]);
    assert_ne!(tenure, voided);
    assert_eq!(fifth.offset, 5);
    assert_eq!(worker.ready(), ["5"], "a release under the voided tenure took nothing");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_gives_up_gets_a_last_word_and_nothing_more() {
    let Fleet { nodes: [a], .. } = &Fleet::start();
    let mut worker = Worker::new(a, QueueLimits::default());
    let mut other = Subscriber::live(a, "news").await;
    let given_up = worker.live("news", 1).await;
    assert_eq!(worker.live("news", 2).await, given_up);

    worker.give_up("news");
    let lagged = |delivery: Delivery| match delivery {
        Delivery::Lagged { tenure, .. } => tenure,
        other => unreachable!("unexpected {other:?}"),
    };
    assert_eq!(lagged(worker.next().await), given_up);
    publish(a, "news", draft("one")).await;
    other.hear(1).await;
    assert_eq!(worker.ready(), [""; 0]);

    worker.give_up("news");
    assert_eq!(lagged(worker.next().await), Tenure::default(), "an answer comes all the same");
    assert_ne!(worker.live("news", 3).await, given_up);
}

#[tokio::test(start_paused = true)]
async fn a_join_that_was_withdrawn_before_its_answer_is_not_answered() {
    let Fleet { nodes: [a], log, .. } = &Fleet::start();
    let mut worker = Worker::new(a, QueueLimits::default());
    log.switch(false);
    worker.ask_join("news", 1, Since::Now);
    tokio::time::sleep(Duration::from_millis(500)).await;

    let (channel, connection) = (channel("news"), ConnectionId(1));
    a.ask(Ask::Withdraw { channel, connection, join: JoinId(1) }).expect("room");
    log.switch(true);
    worker.live("news", 2).await;

    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(worker.ready(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_join_that_is_withdrawn_too_late_keeps_its_place_until_that_is_given_back() {
    let Fleet { nodes: [a], .. } = &Fleet::start();
    let mut worker = Worker::new(a, QueueLimits::default());
    let mut other = Subscriber::live(a, "news").await;
    worker.ask_join("news", 1, Since::Now);
    worker.inbox.filled().await;

    let withdraw =
        || Ask::Withdraw { channel: channel("news"), connection: ConnectionId(1), join: JoinId(1) };
    a.ask(withdraw()).expect("room");
    a.ask(withdraw()).expect("room");
    publish(a, "news", draft("one")).await;
    other.hear(1).await;
    let (_, tenure, outcome) = worker.joined().await;
    assert!(outcome.expect("joined").live);
    assert_eq!(worker.ready(), ["1"]);

    worker.release("news", tenure);
    publish(a, "news", draft("two")).await;
    other.hear(1).await;
    assert_eq!(worker.ready(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn drafts_a_worker_asks_for_get_offsets_in_that_order_and_are_answered_by_their_requests() {
    let Fleet { nodes: [a], .. } = &Fleet::start();
    let mut worker = Worker::new(a, QueueLimits::default());

    for number in 1..=200 {
        a.ask(worker.publish("news", number)).expect("room");
    }

    for number in 1..=200 {
        let Delivery::Published { connection, request, outcome, .. } = worker.next().await else {
            panic!("an answer");
        };
        let Published { position, duplicate } = outcome.expect("published");
        assert_eq!((connection, request), (ConnectionId(1), RequestId(number)));
        assert_eq!((position.offset, duplicate), (u64::from(number), false));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_draft_is_answered_with_the_reason() {
    let Fleet { nodes: [a], log, .. } = &Fleet::start();
    let mut worker = Worker::new(a, QueueLimits::default());
    log.switch(false);

    a.ask(worker.publish("news", 7)).expect("room");

    let Delivery::Published { request, outcome, .. } = worker.next().await else {
        panic!("an answer");
    };
    assert_eq!(request, RequestId(7));
    assert!(outcome.expect_err("refused").code.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn a_full_shard_gives_an_ask_back_and_takes_it_when_it_has_room() {
    let Fleet { nodes: [a], .. } = &Fleet::start();
    let mut worker = Worker::new(a, QueueLimits::default());
    let withdraw =
        || Ask::Withdraw { channel: channel("news"), connection: ConnectionId(9), join: JoinId(9) };
    let taken = (0..1_000_000).take_while(|_| a.ask(withdraw()).is_ok()).count();

    let given_back = a.ask(worker.publish("news", 1)).expect_err("no room");
    let news = channel("news");
    tokio::select! {
        biased;
        () = a.room(&news) => panic!("the shard has not run"),
        () = std::future::ready(()) => {}
    }
    a.room(&news).await;
    a.ask(given_back).expect("room");

    assert!(taken > 1_000, "{taken}");
    assert!(matches!(worker.next().await, Delivery::Published { outcome: Ok(_), .. }));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_answers_everything_it_was_asked() {
    let fleet: Fleet<1> = Fleet::start();
    let Fleet { nodes: [a], log, .. } = &fleet;
    let mut worker = Worker::new(a, QueueLimits::default());
    log.switch(false);
    worker.ask_join("waits for the log", 1, Since::Now);
    tokio::time::sleep(Duration::from_millis(500)).await;
    worker.ask_join("under way", 2, Since::Now);
    a.ask(worker.publish("under way", 3)).expect("room");

    let [a] = fleet.stop().await;
    worker.ask_join("too late", 4, Since::Now);
    a.ask(worker.publish("too late", 5)).expect("it has stopped");
    a.room(&channel("too late")).await;

    let mut refused = Vec::new();
    worker.inbox.take_ready(&mut worker.heard, usize::MAX);
    for delivery in worker.heard {
        let (number, code) = match delivery {
            Delivery::Joined { join, outcome, .. } => (join.0, outcome.map(|_| ())),
            Delivery::Published { request, outcome, .. } => (request.0, outcome.map(|_| ())),
            other => panic!("unexpected {other:?}"),
        };
        refused.push((number, code.expect_err("refused").code));
    }
    refused.sort_unstable_by_key(|(number, _)| *number);
    assert_eq!(refused, [1, 2, 3, 4, 5].map(|number| (number, ErrorCode::Unavailable)));
    let late = a.publish(channel("too late"), draft("one")).await.finish().await;
    assert_eq!(late.expect_err("refused").code, ErrorCode::Unavailable);
}

#[test]
fn a_shard_runs_on_the_runtime_it_was_given() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().expect("a runtime")
    };
    let (main, shards) = (runtime(), runtime());
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let runtimes = [shards.handle().clone()];
    let tasks = Tasks { runtimes: &runtimes, tracker: &tracker, stop: &stop };

    let (mut worker, taken_elsewhere) = main.block_on(async {
        let id = NodeId::parse("node").expect("node");
        let ports = Ports {
            log: Arc::new(SwitchedLog::new(10)) as Arc<dyn Log>,
            broker: Arc::new(MemoryBroker::new(MemoryNetwork::default(), id.clone())),
            sessions: Arc::new(MemorySessionStore::default()),
            membership: Arc::new(MemoryMembership::default()),
            presence: Arc::new(MemoryPresence::default()),
        };
        let (node, _) = Node::start(NodeConfig::new(id.clone()), ports, report(id), tasks);
        let mut worker = Worker::new(&node, QueueLimits::default());
        worker.ask_join("news", 1, Since::Now);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let taken = worker.ready().len();
        (worker, taken)
    });
    let (_, _, outcome) = shards.block_on(worker.joined());

    assert_eq!(taken_elsewhere, 0);
    assert!(outcome.expect("joined").live);
}
