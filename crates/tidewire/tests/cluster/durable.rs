//! Channels whose publications are acknowledged when a replica of Redis has them.

use std::time::Duration;

use tidewire_client::{Client, Happening, Payload, Since};
use tidewire_testkit::services::{NatsServer, RedisServer};
use tidewire_transport::http::request;
use tokio::time::timeout;

use crate::cluster::{Cluster, NodeProcess, options};
use crate::failover::{payloads, until_copied};
use crate::scenarios::{PATIENCE, channel, next, until_subscribed};

/// The client of this project, left to itself, has it acknowledged once and stored once.
#[tokio::test]
async fn a_publication_is_delivered_without_the_replica_and_acknowledged_when_it_is_back() {
    let primary = RedisServer::with_arguments(&["--repl-diskless-sync-delay", "0"]).await;
    let port = primary.address().port().to_string();
    let replica = RedisServer::with_arguments(&["--replicaof", "127.0.0.1", &port]).await;
    let url = primary.url();
    let cluster = Cluster::over(NatsServer::start().await, primary, url);
    let node = cluster.node();
    until_copied(&cluster.redis, &replica).await;
    let mut client = Client::connect(options("acme", "ann", [&node])).await.expect("connects");
    client.subscribe(channel("orders/1"), Since::Now);
    until_subscribed(&mut client).await;
    publish(&mut client, "1");
    until_published(&mut client).await;

    replica.pause();
    let uncertain = count_uncertain(&node).await;
    publish(&mut client, "2");
    let waiting = async {
        while count_uncertain(&node).await < uncertain + 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut heard = Vec::new();
    let hearing = async {
        loop {
            heard.push(next(&mut client).await);
        }
    };
    tokio::select! {
        () = async { timeout(PATIENCE, waiting).await.expect("it is refused, and again") } => {}
        () = hearing => {}
    }
    let is_delivered = |happening: &Happening| match happening {
        Happening::Publication { publication, .. } => publication.payload.bytes() == "2",
        _ => false,
    };
    assert!(heard.iter().any(is_delivered), "it is delivered: {heard:?}");
    assert!(!heard.iter().any(|one| matches!(one, Happening::Published { .. })), "{heard:?}");

    replica.resume();
    assert!(until_published(&mut client).await, "it was stored before the replica had it");
    let mut late = Client::connect(options("acme", "eve", [&node])).await.expect("connects");
    late.subscribe(channel("orders/1"), Since::Last(10));
    publish(&mut client, "3");
    until_published(&mut client).await;
    let expected = ["1", "2", "3"].map(str::to_owned).to_vec();
    assert_eq!(payloads(&mut late, 3).await, (expected, Vec::new()));
}

fn publish(client: &mut Client, json: &str) {
    let payload = Payload::json(json.to_owned().into()).expect("valid");
    client.publish(channel("orders/1"), payload).expect("there is room");
}

/// Waits for an acknowledgement, and tells whether it had been stored before.
async fn until_published(client: &mut Client) -> bool {
    loop {
        if let Happening::Published { duplicate, .. } = next(client).await {
            return duplicate;
        }
    }
}

async fn count_uncertain(node: &NodeProcess) -> u64 {
    let answer = request(http::Method::GET, &node.ops("/metrics"), &[], "").await;
    let text = String::from_utf8(answer.expect("the node answers").body.to_vec()).expect("text");
    let counts =
        text.lines().filter_map(|line| line.strip_prefix("tidewire_durable_uncertain_total "));
    counts.map(|count| count.parse::<u64>().expect("a count")).sum()
}
