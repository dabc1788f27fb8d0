use tidewire_broker::{Broker, Partition};
use tidewire_broker_nats::NatsConfig;

use crate::cluster::{Cluster, publication, publication_of, room, until};
use crate::recorder::Recorded;

#[tokio::test]
async fn connections_subscriptions_and_traffic_are_counted() {
    let mut cluster = Cluster::start().await;
    let [sent, heard] = [Recorded::default(), Recorded::default()];
    let a = sent.connect(cluster.config(), "a").await;
    let b = heard.connect(cluster.config(), "b").await;
    until(|| a.health().is_ok() && b.health().is_ok()).await;
    b.subscribe(&Partition::of(&room())).await.unwrap();
    let mut events = b.events();

    a.publish(&publication(1));
    events.recv().await.unwrap();

    assert_eq!(sent.counter("tidewire_broker_messages_total{direction=out}"), 1);
    assert_eq!(sent.counter("tidewire_broker_bytes_total{direction=out}"), 40 + 4 + 4 + 5);
    assert!(heard.counter("tidewire_broker_messages_total{direction=in}") >= 2, "and the probe");
    assert!((heard.gauge("tidewire_broker_subscriptions") - 1.0).abs() < f64::EPSILON);
    until(|| heard.gauge("tidewire_broker_up") > 0.5).await;

    cluster.server.kill();
    until(|| heard.gauge("tidewire_broker_up") < 0.5).await;
    cluster.server.restart().await;
    until(|| heard.counter("tidewire_broker_reconnects_total") == 2).await;
    until(|| heard.gauge("tidewire_broker_up") > 0.5).await;
}

#[tokio::test]
async fn a_silent_server_fills_the_outbox_and_the_rest_is_dropped_and_counted() {
    let cluster = Cluster::start().await;
    let recorded = Recorded::default();
    let a = recorded.connect(cluster.config(), "a").await;
    until(|| a.health().is_ok()).await;
    cluster.server.pause();
    let large = publication_of(512 << 10);

    // 64 fill the outbox, 128 the client library, and some the socket.
    for _ in 0..512 {
        a.publish(&large);
        tokio::task::yield_now().await;
    }
    cluster.server.resume();

    let dropped = recorded.counter("tidewire_messages_dropped_total{reason=broker_gap}");
    assert!((256..448).contains(&dropped), "{dropped}");
    assert_eq!(recorded.counter("tidewire_broker_errors_total{kind=outbox_full}"), dropped);
    let sent = || recorded.counter("tidewire_broker_messages_total{direction=out}");
    until(|| sent() + dropped == 512).await;
}

#[tokio::test]
async fn what_the_node_does_not_take_is_dropped_and_counted() {
    let cluster = Cluster::start().await;
    let recorded = Recorded::default();
    let a = cluster.join("a").await;
    let config = NatsConfig { max_events: 10, ..cluster.config() };
    let b = recorded.connect(config, "b").await;
    until(|| b.health().is_ok()).await;
    b.subscribe(&Partition::of(&room())).await.unwrap();

    for offset in 1..=100 {
        a.broker.publish(&publication(offset));
    }

    let dropped = "tidewire_messages_dropped_total{reason=broker_gap}";
    until(|| recorded.counter(dropped) == 90).await;
    assert_eq!(recorded.counter("tidewire_broker_errors_total{kind=event_queue_full}"), 90);
}

#[tokio::test]
async fn each_kind_of_rubbish_is_counted_as_what_it_is() {
    let cluster = Cluster::start().await;
    let recorded = Recorded::default();
    let b = recorded.connect(cluster.config(), "b").await;
    until(|| b.health().is_ok()).await;
    b.subscribe(&Partition::of(&room())).await.unwrap();
    let foreign = async_nats::connect(cluster.server.url()).await.unwrap();
    let subject = format!("tw.m.acme.{:02x}", Partition::of(&room()).index);

    let probe = b"\x01\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\x01";
    for envelope in [&b"\x02"[..], b"\x01\x09\0\0\0\0\0\0", b"\x01", probe] {
        foreign.publish(subject.clone(), envelope.into()).await.unwrap();
    }

    for kind in ["version", "kind", "malformed", "misdirected"] {
        let name = format!("tidewire_broker_errors_total{{kind={kind}}}");
        until(|| recorded.counter(&name) == 1).await;
    }
}

#[tokio::test]
async fn a_publication_too_large_for_the_server_is_dropped_and_counted() {
    let cluster = Cluster::start().await;
    let recorded = Recorded::default();
    let a = recorded.connect(cluster.config(), "a").await;
    until(|| a.health().is_ok()).await;

    a.publish(&publication_of(1 << 20));

    until(|| recorded.counter("tidewire_broker_errors_total{kind=payload_too_large}") == 1).await;
    assert_eq!(recorded.counter("tidewire_messages_dropped_total{reason=broker_gap}"), 1);
}
