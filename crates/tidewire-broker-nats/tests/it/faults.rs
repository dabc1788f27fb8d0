use std::io::Write;
use std::time::Duration;

use tidewire_broker::{Broker, BrokerError, Partition};
use tidewire_broker_nats::{InvalidNatsConfig, NatsAuth, NatsBroker, NatsConfig};
use tidewire_testkit::services::{NatsServer, free_port};
use tokio::time::{Instant, timeout};

use crate::cluster::{Cluster, channel, node, publication, publication_of, room, until};

#[tokio::test]
async fn after_a_restart_of_the_server_nodes_are_told_and_hear_each_other_again() {
    let mut cluster = Cluster::start().await;
    let a = cluster.join("a").await;
    let mut b = cluster.join("b").await;
    b.subscribe(&room()).await;
    a.broker.publish(&publication(1));
    assert_eq!(b.next().await, publication(1));

    cluster.server.kill();
    until(|| a.broker.health().is_err() && b.broker.health().is_err()).await;
    cluster.server.restart().await;

    b.until_suspect().await;
    until(|| a.broker.health().is_ok()).await;
    // What follows the suspect arrives, because the subscription is in force before it is said.
    a.broker.publish(&publication(2));
    assert_eq!(b.next().await, publication(2));
}

#[tokio::test]
async fn what_is_published_during_a_short_outage_is_kept_and_sent_after_it() {
    let mut cluster = Cluster::start().await;
    let a = cluster.join("a").await;
    let mut b = cluster.join("b").await;
    b.subscribe(&room()).await;
    cluster.server.kill();
    until(|| a.broker.health().is_err()).await;

    // More than the client library holds, so that the outbox has to.
    (1..=5_000).for_each(|offset| a.broker.publish(&publication(offset)));
    cluster.server.restart().await;

    // `b` may come back later than `a` and miss the beginning, but never the order.
    b.until_suspect().await;
    let mut last = 0;
    while last < 5_001 {
        a.broker.publish(&publication(5_001));
        let offset = b.next().await.position.offset;
        assert!(offset > last || offset == 5_001, "{offset} after {last}");
        last = offset;
    }
}

#[tokio::test]
async fn a_node_starts_before_its_server_and_names_it_until_it_comes() {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let config = NatsConfig {
        servers: vec![format!("nats://ann:secret@{address}")],
        ..NatsConfig::default()
    };
    let broker = NatsBroker::connect(config, node("a")).await.unwrap();

    let Err(BrokerError::Unavailable { address: named, reason }) = broker.health() else {
        panic!("nobody listens on the port")
    };
    assert_eq!(named, format!("nats://{address}"));
    assert_eq!(reason, "not connected yet");
    until(|| broker.health().is_err_and(|error| error.to_string().contains("refused"))).await;
    assert!(broker.health().is_err_and(|error| !error.to_string().contains("secret")));

    let _server = NatsServer::on_port(port).await;
    until(|| broker.health().is_ok()).await;
}

#[tokio::test]
async fn a_subscription_made_without_a_server_does_not_wait_and_comes_into_force_with_it() {
    let mut cluster = Cluster::start().await;
    let a = cluster.join("a").await;
    let mut b = cluster.join("b").await;
    cluster.server.kill();
    until(|| a.broker.health().is_err() && b.broker.health().is_err()).await;

    let before = Instant::now();
    b.subscribe(&room()).await;
    // As long as it waits for a server that does not confirm.
    assert!(before.elapsed() < Duration::from_secs(2));
    cluster.server.restart().await;

    b.until_suspect().await;
    until(|| a.broker.health().is_ok()).await;
    a.broker.publish(&publication(1));
    assert_eq!(b.next().await, publication(1));
}

#[tokio::test]
async fn a_subscription_that_a_silent_server_does_not_confirm_is_followed_by_a_suspect() {
    let cluster = Cluster::start().await;
    let a = cluster.join("a").await;
    let mut b = cluster.join("b").await;

    cluster.server.pause();
    let before = Instant::now();
    b.subscribe(&room()).await;
    let waited = before.elapsed();
    cluster.server.resume();

    assert!((1_900..20_000).contains(&waited.as_millis()), "{waited:?}");
    b.until_suspect().await;
    a.broker.publish(&publication(1));
    assert_eq!(b.next().await, publication(1));
}

#[tokio::test]
async fn closing_without_a_server_ends() {
    let mut cluster = Cluster::start().await;
    let a = cluster.join("a").await;
    cluster.server.kill();
    until(|| a.broker.health().is_err()).await;
    a.broker.publish(&publication(1));

    timeout(Duration::from_secs(20), a.broker.close()).await.expect("closing is bounded");
}

#[tokio::test]
async fn an_announced_shutdown_of_the_server_makes_nodes_suspicious() {
    let cluster = Cluster::start().await;
    let mut a = cluster.join("a").await;

    cluster.server.enter_lame_duck_mode();

    a.until_suspect().await;
}

#[tokio::test]
async fn an_envelope_of_the_largest_size_passes_and_a_larger_one_harms_nothing() {
    const MAX_PAYLOAD: usize = 1 << 20;
    const HEADER: usize = 40 + "acme".len() + "room".len();
    let cluster = Cluster::start().await;
    let a = cluster.join("a").await;
    let mut b = cluster.join("b").await;
    b.subscribe(&room()).await;
    let largest = publication_of(MAX_PAYLOAD - HEADER);

    a.broker.publish(&publication_of(MAX_PAYLOAD - HEADER + 1));
    a.broker.publish(&largest);

    assert!(b.next().await == largest);
}

#[tokio::test]
async fn a_server_that_asks_for_a_password_is_reached_with_it_and_not_without() {
    let server = NatsServer::with_arguments(&["--user", "ann", "--pass", "secret"]).await;
    let config = |auth| NatsConfig { servers: vec![server.url()], auth, ..NatsConfig::default() };
    let password =
        |password: &str| NatsAuth::UserPassword { user: "ann".into(), password: password.into() };

    let right = NatsBroker::connect(config(password("secret")), node("a")).await.unwrap();
    let wrong = NatsBroker::connect(config(password("wrong")), node("b")).await.unwrap();

    until(|| right.health().is_ok()).await;
    until(|| wrong.health().is_err_and(|error| error.to_string().contains("authorization"))).await;
}

#[tokio::test]
async fn a_server_that_asks_for_a_token_is_reached_with_it() {
    let server = NatsServer::with_arguments(&["--auth", "secret"]).await;
    let auth = NatsAuth::Token("secret".into());
    let config = NatsConfig { servers: vec![server.url()], auth, ..NatsConfig::default() };

    let broker = NatsBroker::connect(config, node("a")).await.unwrap();

    until(|| broker.health().is_ok()).await;
}

#[tokio::test]
async fn a_server_that_asks_for_an_nkey_is_reached_with_its_seed() {
    // The example pair of the NATS documentation.
    const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "authorization {{ users = [ {{ nkey: {PUBLIC} }} ] }}").unwrap();
    let path = file.path().to_str().unwrap();
    let server = NatsServer::with_arguments(&["-c", path]).await;
    let auth = NatsAuth::NKeySeed(SEED.into());
    let config = NatsConfig { servers: vec![server.url()], auth, ..NatsConfig::default() };

    let broker = NatsBroker::connect(config, node("a")).await.unwrap();

    until(|| broker.health().is_ok()).await;
}

#[tokio::test]
async fn a_malformed_address_fails_at_once() {
    let config = NatsConfig { servers: vec!["nats://".into()], ..NatsConfig::default() };

    let error = NatsBroker::connect(config, node("a")).await.err();

    assert_eq!(error, Some(InvalidNatsConfig::Server { index: 0 }));
}

#[tokio::test]
async fn five_hundred_partitions_are_subscribed_to_at_once() {
    let cluster = Cluster::start().await;
    let a = cluster.join("a").await;
    let mut b = cluster.join("b").await;
    let rooms: Vec<_> = (0..500).map(|n| channel(&format!("t{n}"), "room")).collect();
    let partitions: Vec<_> = rooms.iter().map(Partition::of).collect();

    let subscriptions = partitions.iter().map(|partition| b.broker.subscribe(partition));
    let before = Instant::now();
    for subscribed in futures_util::future::join_all(subscriptions).await {
        subscribed.unwrap();
    }

    // Not one round trip after another.
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
    for room in rooms {
        let publication = tidewire_model::Publication { channel: room, ..publication(1) };
        a.broker.publish(&publication);
        assert_eq!(b.next().await, publication);
    }
}
