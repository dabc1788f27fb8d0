//! What every broker does, over a network that does not fail.
//!
//! An adapter gets all of these as tests from [`broker_conformance!`](crate::broker_conformance).
//! They say nothing about a network that loses something: then a broker promises nothing but a
//! [`BrokerEvent::Suspect`].

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tidewire_model::{
    Channel, Epoch, Generation, Incarnation, NodeId, Payload, Position, Publication, PublicationId,
    SessionId, Tenant, TenantChannel, UserId,
};
use tokio::sync::mpsc::Receiver;
use tokio::time::{sleep, timeout};

use crate::{Broker, BrokerEvent, EventQueue, News, Notice, Partition};

/// A network that has room for one test's brokers.
#[async_trait]
pub trait BrokerFactory: Send + Sync {
    /// Connects `node` with a queue of at most `max_events` events, and waits until it is healthy.
    async fn broker(&self, node: NodeId, max_events: usize) -> Box<dyn Broker>;
}

/// Makes a test of each function of this module. `$factory` is an expression that is evaluated for
/// each and yields a future of a [`BrokerFactory`].
#[macro_export]
macro_rules! broker_conformance {
    ($factory:expr) => {
        $crate::broker_conformance!($factory;
            a_publication_reaches_every_other_node_and_not_its_sender,
            a_node_hears_only_the_partitions_it_subscribed_to,
            a_node_hears_nothing_of_another_tenant,
            the_publications_of_a_channel_keep_their_order,
            every_field_survives,
            large_payloads_survive,
            an_announcement_follows_the_publications_before_it,
            a_notice_reaches_only_the_node_it_names,
            news_reach_every_other_node_and_not_their_sender,
            a_beat_reaches_every_other_node_and_not_its_sender,
            unsubscribing_stops_a_partition_and_no_other,
            subscribing_twice_is_subscribing_once,
            a_full_queue_keeps_the_oldest_and_says_that_something_is_missing,
            closing_sends_what_is_buffered,
            a_closed_broker_is_unavailable_and_its_events_end,
        );
    };
    ($factory:expr; $($behaviour:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $behaviour() {
                $crate::conformance::broker::$behaviour(&$factory.await).await;
            }
        )*
    };
}

pub async fn a_publication_reaches_every_other_node_and_not_its_sender(
    factory: &impl BrokerFactory,
) {
    let room = channel("acme", "room");
    let mut nodes = [
        Member::join(factory, "a").await,
        Member::join(factory, "b").await,
        Member::join(factory, "c").await,
    ];
    for node in &nodes {
        node.subscribe(&room).await;
    }
    let (from_a, from_b) = (publication(&room, 1), publication(&room, 2));

    nodes[0].broker.publish(&from_a);
    let heard = [nodes[1].next().await, nodes[2].next().await];
    nodes[1].broker.publish(&from_b);

    assert_eq!(heard, [from_a.clone(), from_a]);
    assert_eq!(nodes[0].next().await, from_b, "a node must not hear itself");
}

pub async fn a_node_hears_only_the_partitions_it_subscribed_to(factory: &impl BrokerFactory) {
    let wanted = channel("acme", "wanted");
    let other = channel_elsewhere(&wanted);
    let a = Member::join(factory, "a").await;
    let mut b = Member::join(factory, "b").await;
    b.subscribe(&wanted).await;

    a.broker.publish(&publication(&other, 1));
    a.broker.publish(&publication(&wanted, 2));

    assert_eq!(b.next().await, publication(&wanted, 2));
    b.assert_quiet();
}

pub async fn a_node_hears_nothing_of_another_tenant(factory: &impl BrokerFactory) {
    let ours = channel("acme", "room");
    let theirs = channel("globex", "room");
    let a = Member::join(factory, "a").await;
    let mut b = Member::join(factory, "b").await;
    b.subscribe(&ours).await;

    a.broker.publish(&publication(&theirs, 1));
    a.broker.publish(&publication(&ours, 2));

    assert_eq!(b.next().await, publication(&ours, 2));
    b.assert_quiet();
}

pub async fn the_publications_of_a_channel_keep_their_order(factory: &impl BrokerFactory) {
    const EACH: u64 = 1_000;
    let rooms = ["one", "two", "three"].map(|name| channel("acme", name));
    let a = Member::join(factory, "a").await;
    let mut b = Member::join(factory, "b").await;
    for room in &rooms {
        b.subscribe(room).await;
    }

    for offset in 1..=EACH {
        for room in &rooms {
            a.broker.publish(&publication(room, offset));
        }
    }

    let mut heard = rooms.clone().map(|room| (room, 0));
    for _ in 0..EACH * 3 {
        let next = b.next().await;
        let (_, last) =
            heard.iter_mut().find(|(room, _)| *room == next.channel).expect("a known channel");
        assert_eq!(next.position.offset, *last + 1, "{}", next.channel);
        *last += 1;
    }
}

pub async fn every_field_survives(factory: &impl BrokerFactory) {
    let longest = "é".repeat(127) + "x";
    let all_bytes: Vec<u8> = (0..=255).collect();
    let samples = [
        Publication {
            channel: channel("a-b_9", &longest),
            position: Position::new(epoch(), Position::MAX_OFFSET),
            id: Some(PublicationId::parse(&"i".repeat(64)).expect("valid")),
            time_ms: u64::MAX,
            publisher: Some(UserId::parse(&"ü".repeat(64)).expect("valid")),
            payload: Payload::binary(Bytes::from(all_bytes)),
        },
        Publication {
            payload: Payload::json(Bytes::from_static(b" {\"a\":\"\xc3\xa9\"} ")).expect("valid"),
            ..publication(&channel("acme", "größe/房间/🚪"), 0)
        },
        Publication {
            payload: Payload::binary(Bytes::new()),
            ..publication(&channel(&"t".repeat(32), "c"), 1)
        },
    ];
    let a = Member::join(factory, "a").await;
    let mut b = Member::join(factory, "b").await;

    for sample in samples {
        b.subscribe(&sample.channel).await;
        a.broker.publish(&sample);
        assert_eq!(b.next().await, sample);
    }
}

pub async fn large_payloads_survive(factory: &impl BrokerFactory) {
    let room = channel("acme", "room");
    let payload = Bytes::from(vec![0xa5; 512 << 10]);
    let large = Publication { payload: Payload::binary(payload), ..publication(&room, 1) };
    let a = Member::join(factory, "a").await;
    let mut b = Member::join(factory, "b").await;
    b.subscribe(&room).await;

    a.broker.publish(&large);

    assert!(b.next().await == large);
}

pub async fn an_announcement_follows_the_publications_before_it(factory: &impl BrokerFactory) {
    let room = channel("acme", "größe/房间");
    let mut a = Member::join(factory, "a").await;
    let mut b = Member::join(factory, "b").await;
    a.subscribe(&room).await;
    b.subscribe(&room).await;
    let last = publication(&room, 7);

    a.broker.publish(&last);
    a.broker.announce(&room, last.position);

    let position = last.position;
    let announcement = BrokerEvent::Announcement { channel: room, position };
    assert_eq!(b.next_heard().await, BrokerEvent::Publication(last));
    assert_eq!(b.next_heard().await, announcement);
    a.assert_quiet();
}

pub async fn a_notice_reaches_only_the_node_it_names(factory: &impl BrokerFactory) {
    let a = Member::join(factory, "a").await;
    let mut b = Member::join(factory, "b").await;
    let mut c = Member::join(factory, "c").await;

    a.broker.notify(&node("b"), &notice(1));
    a.broker.notify(&node("c"), &notice(2));
    a.broker.notify(&node("nobody"), &notice(3));
    a.broker.notify(&node("b"), &notice(4));

    assert_eq!(b.next_notice().await, notice(1));
    assert_eq!(b.next_notice().await, notice(4));
    assert_eq!(c.next_notice().await, notice(2));
    c.assert_quiet();
}

/// Although nobody has subscribed to anything.
pub async fn news_reach_every_other_node_and_not_their_sender(factory: &impl BrokerFactory) {
    let mut a = Member::join(factory, "a").await;
    let mut b = Member::join(factory, "b").await;
    let mut c = Member::join(factory, "c").await;

    for other in [&mut b, &mut c] {
        for news in [News::Tenants, News::Revocations] {
            let hearing = other.hear_news(news, &a);
            timeout(PATIENCE, hearing).await.expect("news arrive in time");
        }
    }
    b.broker.notify(&node("a"), &notice(1));

    assert_eq!(a.next_notice().await, notice(1), "a node must not hear itself");
}

/// Although nobody has subscribed to anything.
pub async fn a_beat_reaches_every_other_node_and_not_its_sender(factory: &impl BrokerFactory) {
    let mut a = Member::join(factory, "a").await;
    let mut b = Member::join(factory, "b").await;
    let mut c = Member::join(factory, "c").await;

    for other in [&mut b, &mut c] {
        // A network may learn late who listens.
        let hearing = async {
            loop {
                a.broker.beat();
                match other.events.try_recv() {
                    Ok(event) => break event,
                    Err(_) => sleep(Duration::from_millis(2)).await,
                }
            }
        };
        let heard = timeout(PATIENCE, hearing).await.expect("a beat arrives in time");
        assert_eq!(heard, BrokerEvent::Heard(node("a")));
    }
    b.broker.beat();

    assert_eq!(a.next_heard().await, BrokerEvent::Heard(node("b")), "a node must not hear itself");
}

pub async fn unsubscribing_stops_a_partition_and_no_other(factory: &impl BrokerFactory) {
    let left = channel("acme", "left");
    let kept = channel_elsewhere(&left);
    let a = Member::join(factory, "a").await;
    let mut b = Member::join(factory, "b").await;
    b.subscribe(&left).await;
    b.subscribe(&kept).await;

    b.broker.unsubscribe(&Partition::of(&left));

    b.assert_hears_in_the_end_only(&kept, &left, &a).await;
}

pub async fn subscribing_twice_is_subscribing_once(factory: &impl BrokerFactory) {
    let room = channel("acme", "room");
    let kept = channel_elsewhere(&room);
    let a = Member::join(factory, "a").await;
    let mut b = Member::join(factory, "b").await;
    b.subscribe(&kept).await;
    b.subscribe(&room).await;
    b.subscribe(&room).await;

    a.broker.publish(&publication(&room, 1));
    a.broker.publish(&publication(&room, 2));
    let heard = [b.next().await, b.next().await];
    b.broker.unsubscribe(&Partition::of(&room));

    assert_eq!(heard, [publication(&room, 1), publication(&room, 2)]);
    b.assert_hears_in_the_end_only(&kept, &room, &a).await;
}

pub async fn a_full_queue_keeps_the_oldest_and_says_that_something_is_missing(
    factory: &impl BrokerFactory,
) {
    const ROOM: usize = 4;
    let room = channel("acme", "room");
    let a = Member::join(factory, "a").await;
    let mut b = Member::join_with_room_for(factory, "b", ROOM).await;
    b.subscribe(&room).await;

    (1..=100).for_each(|offset| a.broker.publish(&publication(&room, offset)));
    until(|| b.events.len() > ROOM).await;

    for offset in 1..=4 {
        assert_eq!(b.next_heard().await, BrokerEvent::Publication(publication(&room, offset)));
    }
    assert_eq!(b.next_event().await, BrokerEvent::Suspect);
    let mut last = 4;
    while last < 101 {
        a.broker.publish(&publication(&room, 101));
        let next = b.next().await.position.offset;
        assert!(next > last || next == 101, "{next} after {last}");
        last = next;
    }
}

pub async fn closing_sends_what_is_buffered(factory: &impl BrokerFactory) {
    const COUNT: usize = 2_000;
    let room = channel("acme", "room");
    let a = Member::join(factory, "a").await;
    let mut b = Member::join(factory, "b").await;
    b.subscribe(&room).await;

    (1..=COUNT as u64).for_each(|offset| a.broker.publish(&publication(&room, offset)));
    a.broker.notify(&node("b"), &notice(1));
    a.broker.notify_all(News::Revocations);
    a.broker.close().await;

    let mut offsets = Vec::new();
    let mut notices = Vec::new();
    while offsets.len() < COUNT || notices.len() < 2 {
        match b.next_event().await {
            BrokerEvent::Publication(publication) => offsets.push(publication.position.offset),
            BrokerEvent::Notice(notice) => notices.push(notice),
            BrokerEvent::Announcement { .. } | BrokerEvent::Heard(_) | BrokerEvent::Suspect => {}
        }
    }
    assert!(offsets.into_iter().eq(1..=COUNT as u64));
    // One node is told and all are, each in a way of its own.
    assert!(notices.contains(&notice(1)) && notices.contains(&Notice::News(News::Revocations)));
}

pub async fn a_closed_broker_is_unavailable_and_its_events_end(factory: &impl BrokerFactory) {
    let room = channel("acme", "room");
    let mut a = Member::join(factory, "a").await;

    a.broker.close().await;

    assert!(a.broker.health().is_err());
    assert!(a.broker.subscribe(&Partition::of(&room)).await.is_err());
    a.broker.publish(&publication(&room, 1));
    a.broker.announce(&room, Position::new(epoch(), 1));
    a.broker.notify(&node("b"), &notice(1));
    a.broker.notify_all(News::Tenants);
    a.broker.beat();
    a.broker.unsubscribe(&Partition::of(&room));
    a.broker.close().await;
    let end = async { while a.events.recv().await.is_some() {} };
    timeout(PATIENCE, end).await.expect("the events end");
}

/// A node in a test: its broker and the receiving end of it.
struct Member {
    broker: Box<dyn Broker>,
    events: Receiver<BrokerEvent>,
}

impl Member {
    async fn join(factory: &impl BrokerFactory, name: &str) -> Self {
        Self::join_with_room_for(factory, name, EventQueue::MAX_EVENTS).await
    }

    async fn join_with_room_for(
        factory: &impl BrokerFactory,
        name: &str,
        max_events: usize,
    ) -> Self {
        let broker = factory.broker(node(name), max_events).await;
        broker.health().expect("the factory waits for a healthy broker");
        let events = broker.events();
        Self { broker, events }
    }

    async fn subscribe(&self, channel: &TenantChannel) {
        self.broker.subscribe(&Partition::of(channel)).await.expect("an open broker subscribes");
    }

    async fn next_event(&mut self) -> BrokerEvent {
        let event = timeout(PATIENCE, self.events.recv()).await.expect("an event arrives in time");
        event.expect("the broker is open")
    }

    /// The next event that is about something, which a `Suspect` is not.
    async fn next_heard(&mut self) -> BrokerEvent {
        loop {
            match self.next_event().await {
                BrokerEvent::Suspect => {}
                event => return event,
            }
        }
    }

    /// The next publication, whatever else comes before it.
    async fn next(&mut self) -> Publication {
        loop {
            if let BrokerEvent::Publication(publication) = self.next_event().await {
                return publication;
            }
        }
    }

    async fn next_notice(&mut self) -> Notice {
        loop {
            if let BrokerEvent::Notice(notice) = self.next_event().await {
                return notice;
            }
        }
    }

    /// Waits for news that `sender` tells again and again: a network may learn late who listens.
    async fn hear_news(&mut self, news: News, sender: &Self) {
        let expected = BrokerEvent::Notice(Notice::News(news));
        loop {
            sender.broker.notify_all(news);
            sleep(Duration::from_millis(2)).await;
            while let Ok(event) = self.events.try_recv() {
                if event == expected {
                    return;
                }
            }
        }
    }

    fn assert_quiet(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            assert_eq!(event, BrokerEvent::Suspect, "nothing else was meant for this node");
        }
    }

    /// Publishes to both channels in turns until `left` has stayed silent for ten of them.
    async fn assert_hears_in_the_end_only(
        &mut self,
        kept: &TenantChannel,
        left: &TenantChannel,
        sender: &Self,
    ) {
        const TURNS: u64 = 1_000;
        let mut silent = 0;
        for turn in 1..=TURNS {
            sender.broker.publish(&publication(left, 100 + turn));
            sender.broker.publish(&publication(kept, turn));
            silent += 1;
            while self.next().await != publication(kept, turn) {
                silent = 0;
            }
            if silent == 10 {
                return;
            }
        }
        assert_eq!(silent, 10, "{left} was still heard after {TURNS} turns");
    }
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("the condition comes true in time");
}

fn node(name: &str) -> NodeId {
    NodeId::parse(name).expect("a valid node")
}

fn channel(tenant: &str, name: &str) -> TenantChannel {
    let tenant = Tenant::parse(tenant).expect("a valid tenant");
    TenantChannel::new(tenant, Channel::parse(name).expect("a valid channel"))
}

/// A channel of the same tenant in another partition.
fn channel_elsewhere(than: &TenantChannel) -> TenantChannel {
    (0..1_000)
        .map(|number| channel(than.tenant.as_str(), &format!("other-{number}")))
        .find(|candidate| Partition::of(candidate) != Partition::of(than))
        .expect("there are 256 partitions")
}

fn epoch() -> Epoch {
    Incarnation::new(1_790_000_000_000, 7).epoch(11)
}

fn publication(channel: &TenantChannel, offset: u64) -> Publication {
    Publication {
        channel: channel.clone(),
        position: Position::new(epoch(), offset),
        id: None,
        time_ms: 1_790_000_000_123,
        publisher: None,
        payload: Payload::binary(Bytes::from(offset.to_string())),
    }
}

fn notice(generation: u64) -> Notice {
    Notice::SessionMoved {
        tenant: Tenant::parse("acme").expect("valid"),
        session: SessionId::from_bytes(*b"\x00\xff0123456789abcd"),
        generation: Generation(generation),
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
