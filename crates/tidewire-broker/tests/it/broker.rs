use async_trait::async_trait;
use bytes::Bytes;
use tidewire_broker::conformance::broker::BrokerFactory;
use tidewire_broker::{
    Broker, BrokerEvent, MemoryBroker, MemoryNetwork, Partition, broker_conformance,
};
use tidewire_model::{
    Channel, Incarnation, NodeId, Payload, Position, Publication, Tenant, TenantChannel,
};

broker_conformance!(async { InMemory::default() });

#[derive(Default)]
struct InMemory(MemoryNetwork);

#[async_trait]
impl BrokerFactory for InMemory {
    async fn broker(&self, node: NodeId, max_events: usize) -> Box<dyn Broker> {
        Box::new(MemoryBroker::with_capacity(self.0.clone(), node, max_events))
    }
}

#[tokio::test]
async fn as_many_publications_are_lost_as_a_test_asks_for() {
    let network = MemoryNetwork::default();
    let [a, b] = ["a", "b"].map(|name| MemoryBroker::new(network.clone(), node(name)));
    b.subscribe(&Partition::of(&room())).await.unwrap();

    a.publish(&publication(1));
    network.lose_next(2);
    (2..=4).for_each(|offset| a.publish(&publication(offset)));

    assert_eq!(offsets(&b), [1, 4]);
}

#[tokio::test]
async fn the_sides_of_a_partition_hear_only_themselves_until_it_heals() {
    let network = MemoryNetwork::default();
    let [a, b, c] = ["a", "b", "c"].map(|name| MemoryBroker::new(network.clone(), node(name)));
    for broker in [&b, &c] {
        broker.subscribe(&Partition::of(&room())).await.unwrap();
    }

    network.partition([node("a"), node("b")]);
    a.publish(&publication(1));
    network.heal();
    a.publish(&publication(2));

    assert_eq!(offsets(&b), [1, 2]);
    assert_eq!(offsets(&c), [2]);
}

#[tokio::test]
async fn what_is_held_back_can_arrive_in_the_opposite_order() {
    let network = MemoryNetwork::default();
    let [a, b] = ["a", "b"].map(|name| MemoryBroker::new(network.clone(), node(name)));
    b.subscribe(&Partition::of(&room())).await.unwrap();

    network.hold();
    (1..=3).for_each(|offset| a.publish(&publication(offset)));
    network.release_reversed();
    a.publish(&publication(4));

    assert_eq!(offsets(&b), [3, 2, 1, 4]);
}

#[tokio::test]
async fn a_test_can_make_every_node_suspicious() {
    let network = MemoryNetwork::default();
    let broker = MemoryBroker::new(network.clone(), node("a"));

    network.suspect();

    assert_eq!(broker.events().try_recv(), Ok(BrokerEvent::Suspect));
}

fn offsets(broker: &MemoryBroker) -> Vec<u64> {
    let mut events = broker.events();
    let heard = std::iter::from_fn(|| events.try_recv().ok());
    heard
        .filter_map(|event| match event {
            BrokerEvent::Publication(publication) => Some(publication.position.offset),
            _ => None,
        })
        .collect()
}

fn node(name: &str) -> NodeId {
    NodeId::parse(name).expect("valid")
}

fn room() -> TenantChannel {
    TenantChannel::new(
        Tenant::parse("acme").expect("valid"),
        Channel::parse("room").expect("valid"),
    )
}

fn publication(offset: u64) -> Publication {
    Publication {
        channel: room(),
        position: Position::new(Incarnation::ZERO.epoch(0), offset),
        id: None,
        time_ms: 0,
        publisher: None,
        payload: Payload::binary(Bytes::from_static(b"hello")),
    }
}
