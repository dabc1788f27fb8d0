//! What has been written, and where a failover would find it.

use std::time::Duration;

use tidewire_broker::{Log, Secured};
use tidewire_testkit::services::RedisServer;
use tokio::time::{sleep, timeout};

use crate::redis::{append, command, key_of, log, text};

/// Long enough for whatever does not wait for a replica that is stopped.
const SHORT: Duration = Duration::from_millis(300);
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// A primary, and a replica that is in step with it.
pub(crate) async fn pair() -> (RedisServer, RedisServer) {
    let primary = RedisServer::with_arguments(&["--repl-diskless-sync-delay", "0"]).await;
    let port = primary.address().port().to_string();
    let replica = RedisServer::with_arguments(&["--replicaof", "127.0.0.1", &port]).await;
    let in_step = async {
        while !text(command(&primary, &["INFO", "replication"]).await).contains("state=online") {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, in_step).await.expect("the replica follows");
    (primary, replica)
}

#[tokio::test]
async fn a_server_without_replicas_is_alone() {
    let server = RedisServer::start().await;
    let log = log(&server);
    append(&log, &["1"]).await;

    assert_eq!(log.secure(LONG).await.expect("an answer"), Secured::Alone);
}

#[tokio::test]
async fn what_is_secured_is_on_the_replica() {
    let (primary, replica) = pair().await;
    let log = log(&primary);
    append(&log, &["1", "2"]).await;

    let secured = log.secure(LONG).await.expect("an answer");

    assert_eq!(secured, Secured::Copied { replicas: 1 });
    let key = key_of(&replica, 'l').await;
    assert_eq!(command(&replica, &["XLEN", &key]).await, redis::Value::Int(2));
}

#[tokio::test]
async fn a_replica_that_does_not_answer_is_waited_for_as_long_as_was_asked() {
    let (primary, replica) = pair().await;
    let log = log(&primary);
    replica.pause();
    append(&log, &["1"]).await;

    let behind = log.secure(SHORT).await.expect("an answer");
    replica.resume();
    let caught_up = log.secure(LONG).await.expect("an answer");

    assert_eq!(behind, Secured::Behind { wanted: 1, reached: 0 });
    assert_eq!(caught_up, Secured::Copied { replicas: 1 });
}

#[tokio::test]
async fn a_connection_that_has_written_nothing_still_waits_for_what_others_wrote() {
    let (primary, replica) = pair().await;
    replica.pause();
    append(&log(&primary), &["1"]).await;

    let behind = log(&primary).secure(SHORT).await.expect("an answer");

    assert_eq!(behind, Secured::Behind { wanted: 1, reached: 0 });
}

#[tokio::test]
async fn without_a_server_nobody_can_tell() {
    let mut server = RedisServer::start().await;
    let log = log(&server);
    append(&log, &["1"]).await;
    server.kill();

    assert!(log.secure(SHORT).await.is_err());
}
