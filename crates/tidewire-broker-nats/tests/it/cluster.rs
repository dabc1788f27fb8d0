//! A server, and brokers that are connected to it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tidewire_broker::conformance::broker::BrokerFactory;
use tidewire_broker::{Broker, BrokerEvent, Partition};
use tidewire_broker_nats::{NatsBroker, NatsConfig};
use tidewire_model::{
    Channel, Incarnation, NodeId, Payload, Position, Publication, Tenant, TenantChannel,
};
use tidewire_testkit::services::NatsServer;
use tokio::sync::mpsc::Receiver;
use tokio::time::{sleep, timeout};

pub(crate) struct Cluster {
    pub(crate) server: NatsServer,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self { server: NatsServer::start().await }
    }

    pub(crate) fn config(&self) -> NatsConfig {
        NatsConfig { servers: vec![self.server.url()], ..NatsConfig::default() }
    }

    /// A broker that is connected.
    pub(crate) async fn join(&self, name: &str) -> Member {
        let broker = NatsBroker::connect(self.config(), node(name)).await.expect("a valid config");
        until(|| broker.health().is_ok()).await;
        Member { events: broker.events(), broker }
    }
}

#[async_trait]
impl BrokerFactory for Cluster {
    async fn broker(&self, node: NodeId, max_events: usize) -> Box<dyn Broker> {
        let config = NatsConfig { max_events, ..self.config() };
        let broker = NatsBroker::connect(config, node).await.expect("a valid config");
        until(|| broker.health().is_ok()).await;
        Box::new(broker)
    }
}

pub(crate) struct Member {
    pub(crate) broker: NatsBroker,
    pub(crate) events: Receiver<BrokerEvent>,
}

impl Member {
    pub(crate) async fn subscribe(&self, channel: &TenantChannel) {
        self.broker.subscribe(&Partition::of(channel)).await.expect("an open broker subscribes");
    }

    pub(crate) async fn next_event(&mut self) -> BrokerEvent {
        let event = timeout(PATIENCE, self.events.recv()).await.expect("an event arrives in time");
        event.expect("the broker is open")
    }

    /// The next publication, whatever else comes before it.
    pub(crate) async fn next(&mut self) -> Publication {
        loop {
            if let BrokerEvent::Publication(publication) = self.next_event().await {
                return publication;
            }
        }
    }

    /// Drops everything up to a `Suspect`.
    pub(crate) async fn until_suspect(&mut self) {
        while self.next_event().await != BrokerEvent::Suspect {}
    }
}

pub(crate) async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("the condition comes true in time");
}

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::parse(name).expect("a valid node")
}

pub(crate) fn room() -> TenantChannel {
    channel("acme", "room")
}

pub(crate) fn channel(tenant: &str, name: &str) -> TenantChannel {
    let tenant = Tenant::parse(tenant).expect("a valid tenant");
    TenantChannel::new(tenant, Channel::parse(name).expect("a valid channel"))
}

pub(crate) fn publication(offset: u64) -> Publication {
    Publication {
        channel: room(),
        position: Position::new(Incarnation::ZERO.epoch(0), offset),
        id: None,
        time_ms: 0,
        publisher: None,
        payload: Payload::binary(Bytes::from_static(b"hello")),
    }
}

pub(crate) fn publication_of(bytes: usize) -> Publication {
    Publication { payload: Payload::binary(vec![7; bytes].into()), ..publication(1) }
}

const PATIENCE: Duration = Duration::from_secs(20);
