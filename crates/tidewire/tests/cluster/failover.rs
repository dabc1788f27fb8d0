//! What a failover of Redis may not lose.

use std::time::Duration;

use tidewire_client::{Client, Happening, Since};
use tidewire_model::GapReason;
use tidewire_testkit::services::{NatsServer, RedisServer};

use crate::bridge::Line;
use crate::cluster::{Cluster, options};
use crate::scenarios::{PATIENCE, channel, next, publish, try_publish, until_subscribed};

/// The replica takes nothing more while fifty publications are acknowledged, and then it takes over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_behind_takes_over_and_no_acknowledged_publication_is_lost() {
    let primary = RedisServer::with_arguments(&["--repl-diskless-sync-delay", "0"]).await;
    let port = primary.address().port().to_string();
    let replica = RedisServer::with_arguments(&["--replicaof", "127.0.0.1", &port]).await;
    let line = Line::to(primary.address()).await;
    let url = format!("redis://{}/", line.address);
    let mut cluster = Cluster::over(NatsServer::start().await, primary, url);
    let (a, b) = (cluster.node(), cluster.node());
    let mut ahead = Client::connect(options("acme", "ann", [&b, &a])).await.expect("connects");
    ahead.subscribe(channel("busy"), Since::Now);
    until_subscribed(&mut ahead).await;
    let mut calm = Client::connect(options("acme", "bob", [&b, &a])).await.expect("connects");
    calm.subscribe(channel("quiet"), Since::Now);
    until_subscribed(&mut calm).await;
    publish(&a, "acme", "quiet", r#"{"data":"before"}"#).await;
    publish(&a, "acme", "busy", r#"{"data":"before"}"#).await;
    until_copied(&cluster.redis, &replica).await;

    replica.answer("REPLICAOF NO ONE").await;
    let mut expected = vec![r#""before""#.to_owned()];
    for number in 0..50 {
        let id = if number % 2 == 0 { format!(r#""id":"{number}","#) } else { String::new() };
        publish(&a, "acme", "busy", &format!(r#"{{{id}"data":{number}}}"#)).await;
        expected.push(number.to_string());
    }
    assert_eq!(payloads(&mut ahead, 51).await, (expected.clone(), Vec::new()));
    cluster.redis.kill();
    line.turn_to(replica.address());
    publish_at_last(&a, "busy").await;
    publish_at_last(&a, "quiet").await;
    expected.push(r#""after""#.to_owned());

    // Once each, to the application; the client was told that it had seen what was lost.
    let (news, gaps) = payloads(&mut ahead, 1).await;
    assert_eq!((news, gaps), (vec![r#""after""#.to_owned()], vec![GapReason::Rewind]));
    let (news, gaps) = payloads(&mut calm, 2).await;
    assert_eq!((news, gaps), (vec![r#""before""#.to_owned(), r#""after""#.to_owned()], vec![]));
    let mut late = Client::connect(options("acme", "eve", [&b, &a])).await.expect("connects");
    late.subscribe(channel("busy"), Since::Last(100));
    assert_eq!(payloads(&mut late, 52).await, (expected, Vec::new()));
}

/// So many publications, and the gaps announced between them.
pub(crate) async fn payloads(client: &mut Client, count: usize) -> (Vec<String>, Vec<GapReason>) {
    let (mut payloads, mut gaps) = (Vec::new(), Vec::new());
    while payloads.len() < count {
        match next(client).await {
            Happening::Publication { publication, .. } => {
                payloads.push(String::from_utf8_lossy(publication.payload.bytes()).into_owned());
            }
            Happening::Gap { gap, .. } => gaps.push(gap.reason),
            _ => {}
        }
    }
    (payloads, gaps)
}

/// Publishes as soon as the log can be reached.
async fn publish_at_last(node: &crate::cluster::NodeProcess, name: &str) {
    let body = format!(r#"{{"id":"after-{name}","data":"after"}}"#);
    let publishing = async {
        while try_publish(node, "acme", name, &body).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, publishing).await.expect("the log is back");
}

/// Waits until the replica has all that the primary has.
pub(crate) async fn until_copied(primary: &RedisServer, replica: &RedisServer) {
    let offset = |info: &str, name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        line.unwrap_or_default()
    };
    let copying = async {
        loop {
            let here = primary.answer("INFO replication").await;
            let there = replica.answer("INFO replication").await;
            let is_up = there.lines().any(|line| line == "master_link_status:up");
            let sent = offset(&here, "master_repl_offset:");
            if is_up && sent == offset(&there, "slave_repl_offset:") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, copying).await.expect("the replica follows");
}
