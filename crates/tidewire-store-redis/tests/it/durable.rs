//! What is confirmed to be on a replica, and what is not.

use tidewire_broker::{Appended, Log, Outcome, Retention, Secured};
use tidewire_model::Incarnation;
use tidewire_store_redis::{RedisConfig, RedisConnection, RedisLog, Severity};
use tidewire_testkit::services::RedisServer;
use tokio::time::timeout;

use crate::redis::{command, config, draft, key_of, room};
use crate::secure::{LONG, pair};

const COPIED: Secured = Secured::Copied { replicas: 1 };
const BEHIND: Secured = Secured::Behind { wanted: 1, reached: 0 };

#[tokio::test]
async fn what_is_confirmed_is_on_the_replica() {
    let (primary, replica) = pair().await;
    let log = log(&primary, 1);

    for id in ["1", "2", "3"] {
        let (_, by) = append(&log, id).await;
        assert_eq!(confirmed(&log, by).await, COPIED);
        let key = key_of(&replica, 'l').await;
        let expected: i64 = id.parse().expect("a number");
        assert_eq!(command(&replica, &["XLEN", &key]).await, redis::Value::Int(expected));
    }
}

#[tokio::test]
async fn without_the_replica_nothing_is_confirmed_until_it_has_caught_up() {
    let (primary, replica) = pair().await;
    let log = log(&primary, 1);
    replica.pause();

    let (first, by) = append(&log, "1").await;
    let behind = confirm(&log, by).await;
    replica.resume();
    let (again, by) = append(&log, "1").await;
    let copied = confirmed(&log, by).await;

    assert_eq!((behind, copied), (BEHIND, COPIED));
    assert!(again.duplicate);
    assert_eq!(again.position, first.position);
    let key = key_of(&primary, 'l').await;
    assert_eq!(command(&primary, &["XLEN", &key]).await, redis::Value::Int(1));
}

/// `WAIT` on a connection that has written nothing answers at once with all replicas there are.
#[tokio::test]
async fn what_was_stored_by_another_process_is_not_confirmed_before_it_is_copied() {
    let (primary, replica) = pair().await;
    replica.pause();
    append(&log(&primary, 1), "1").await;

    let fresh = log(&primary, 1);
    let (again, by) = append(&fresh, "1").await;

    assert!(again.duplicate);
    assert_eq!(confirm(&fresh, by).await, BEHIND);
}

#[tokio::test]
async fn many_who_wait_at_once_are_all_told() {
    let (primary, replica) = pair().await;
    let log = &log(&primary, 1);
    let (_, by) = append(log, "1").await;

    assert_eq!(confirmed(log, by).await, COPIED);

    let answers = async || {
        let all = futures_util::future::join_all((0..200).map(|_| confirm(log, by))).await;
        let count = |answer| all.iter().filter(|one| **one == answer).count();
        (count(COPIED), count(BEHIND))
    };
    let asking = async { while answers().await != (200, 0) {} };
    timeout(LONG, asking).await.expect("one question for all of them is answered in time");
    replica.pause();
    append(log, "2").await;

    assert_eq!(answers().await, (0, 200));
}

#[tokio::test]
async fn more_copies_than_replicas_are_never_confirmed_and_that_is_warned_of() {
    let (primary, _replica) = pair().await;
    let log = log(&primary, 2);
    let (_, by) = append(&log, "1").await;

    let findings = connect(&primary, 2).check_settings().await.expect("redis is there");

    let one_of_two = Secured::Behind { wanted: 2, reached: 1 };
    let asking = async { while confirm(&log, by).await != one_of_two {} };
    timeout(LONG, asking).await.expect("the replica there is takes it");
    let found = findings.iter().find(|finding| finding.text.contains("durable_copies"));
    assert_eq!(found.map(|found| found.severity), Some(Severity::Warn), "{findings:?}");
}

#[tokio::test]
async fn whoever_asks_for_copies_first_has_their_number_looked_at() {
    let (primary, _replica) = pair().await;
    for copies in [0, 2] {
        let config = RedisConfig { durable_copies: copies, ..config(&primary.url()) };
        let connection = RedisConnection::new(config).expect("a valid configuration");
        let log = RedisLog::new(connection.clone(), Retention::default());
        let warned = async || {
            let findings = connection.check_settings().await.expect("redis is there");
            findings.iter().any(|finding| finding.text.contains("durable_copies"))
        };

        let before = (warned().await, connection.expects_copies());
        let (_, by) = append(&log, "1").await;
        confirm(&log, by).await;

        assert_eq!(before, (false, false), "nobody had asked for {copies} copies");
        assert_eq!((warned().await, connection.expects_copies()), (true, true), "{copies} copies");
    }
}

#[tokio::test]
async fn what_a_full_server_has_stored_is_confirmed() {
    let (primary, _replica) = pair().await;
    let log = log(&primary, 1);
    let (_, by) = append(&log, "1").await;
    assert_eq!(confirmed(&log, by).await, COPIED);

    command(&primary, &["CONFIG", "SET", "maxmemory", "1mb"]).await;

    assert_eq!(confirm(&log, by).await, COPIED);
}

#[tokio::test]
async fn a_redis_that_is_alone_confirms_what_it_has_if_no_copies_are_asked_for() {
    let server = RedisServer::start().await;
    let log = log(&server, 0);
    let (_, by) = append(&log, "1").await;

    let findings = connect(&server, 0).check_settings().await.expect("redis is there");

    assert_eq!(confirm(&log, by).await, Secured::Alone);
    assert!(findings.iter().all(|finding| !finding.text.contains("copies")), "{findings:?}");
}

/// The mark is written by a server that may not have what is asked about.
#[tokio::test]
async fn what_another_life_of_the_log_stored_is_not_confirmed() {
    let (primary, replica) = pair().await;
    let log = log(&primary, 1);
    let (_, by) = append(&log, "1").await;
    assert_eq!(confirmed(&log, by).await, COPIED);

    command(&primary, &["FLUSHALL"]).await;
    let (_, later) = append(&log, "2").await;

    assert!(later > by);
    assert_eq!(confirm(&log, by).await, BEHIND);
    assert_eq!(confirmed(&log, later).await, COPIED);
    drop(replica);
}

#[tokio::test]
async fn without_a_server_nothing_is_confirmed() {
    let mut server = RedisServer::start().await;
    let log = log(&server, 1);
    let (_, by) = append(&log, "1").await;
    assert_eq!(confirm(&log, by).await, BEHIND, "it has no replica");

    server.kill();

    assert!(log.confirm(&room(), by).await.is_err());
}

#[tokio::test]
async fn functions_that_were_flushed_are_loaded_again_for_it() {
    let (primary, _replica) = pair().await;
    let log = log(&primary, 1);
    let (_, by) = append(&log, "1").await;
    assert_eq!(confirmed(&log, by).await, COPIED);

    command(&primary, &["FUNCTION", "FLUSH"]).await;

    assert_eq!(confirmed(&log, by).await, COPIED);
}

async fn append(log: &RedisLog, id: &str) -> (Appended, Incarnation) {
    let outcome = log.append_in(&room(), None, &[draft(id)]).await.expect("append");
    let Outcome::Kept { appended, by } = outcome else { unreachable!("no epoch was named") };
    (appended[0], by)
}

async fn confirm(log: &RedisLog, by: Incarnation) -> Secured {
    log.confirm(&room(), by).await.expect("an answer")
}

/// Asks until it is copied: a replica that was stopped may take its time.
async fn confirmed(log: &RedisLog, by: Incarnation) -> Secured {
    let asking = async {
        while confirm(log, by).await != COPIED {}
        COPIED
    };
    timeout(LONG, asking).await.expect("it catches up")
}

fn log(server: &RedisServer, copies: u32) -> RedisLog {
    RedisLog::new(connect(server, copies), Retention::default())
}

fn connect(server: &RedisServer, copies: u32) -> RedisConnection {
    let config =
        RedisConfig { durable_copies: copies, expects_copies: true, ..config(&server.url()) };
    RedisConnection::new(config).expect("a valid configuration")
}
