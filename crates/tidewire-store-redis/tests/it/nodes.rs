//! Several nodes at one Redis.

use std::collections::BTreeSet;

use tidewire_broker::{Log, Retention};
use tidewire_model::Since;
use tidewire_store::{Membership, NodeLoad};
use tidewire_store_redis::{RedisConfig, RedisConnection, RedisLog, RedisMembership};
use tidewire_testkit::services::RedisServer;

use crate::redis::{append, command, config, connect, draft, log, room, without_id};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appenders_of_two_nodes_share_no_offset_and_skip_none() {
    let server = RedisServer::start().await;
    let nodes = [log(&server), log(&server)];
    let appender = async |node: &RedisLog| {
        let mut offsets = Vec::new();
        for _ in 0..100 {
            let batch = [without_id("x"), without_id("y")];
            let appended = node.append(&room(), &batch).await.expect("append");
            offsets.extend(appended.iter().map(|one| one.position.offset));
        }
        offsets
    };

    let (left, right) = tokio::join!(appender(&nodes[0]), appender(&nodes[1]));

    assert!(left.is_sorted() && right.is_sorted());
    let all: BTreeSet<u64> = left.into_iter().chain(right).collect();
    assert_eq!(all, (1..=400).collect());
}

#[tokio::test]
async fn an_id_one_node_has_stored_is_known_to_the_other() {
    let server = RedisServer::start().await;
    let [here, there] = [log(&server), log(&server)];

    let first = append(&here, &["1"]).await[0];
    let again = append(&there, &["1"]).await[0];

    assert_eq!(
        (again.position, again.time_ms, again.duplicate),
        (first.position, first.time_ms, true)
    );
}

#[tokio::test]
async fn nodes_under_two_prefixes_see_nothing_of_each_other() {
    let server = RedisServer::start().await;
    let config = RedisConfig { prefix: "other".into(), ..config(&server.url()) };
    let connection = RedisConnection::new(config).expect("a valid configuration");
    let other = RedisLog::new(connection, Retention::default());

    append(&log(&server), &["1"]).await;
    let read = other.read(&room(), Since::Last(10), 10).await.expect("read");
    let appended = other.append(&room(), &[draft("1")]).await.expect("append")[0];

    assert_eq!(read.top, 0);
    assert!(!appended.duplicate);
}

#[tokio::test]
async fn the_lease_of_an_older_release_says_nothing_of_its_load() {
    let server = RedisServer::start().await;
    let lease = r#"{"node":"old","state":"ready","weight":100,"connections":7,"started_at_ms":1}"#;
    command(&server, &["HSET", "tw:{nodes}:l", "old", lease]).await;
    command(&server, &["ZADD", "tw:{nodes}:x", "9999999999999", "old"]).await;

    let members = RedisMembership::new(connect(&server)).members().await.expect("members");

    assert_eq!(members.len(), 1);
    assert_eq!((members[0].connections, members[0].load), (7, NodeLoad::default()));
}
