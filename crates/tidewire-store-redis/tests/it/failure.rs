//! What goes wrong, and what is said about it.

use std::time::Duration;

use tidewire_broker::{Log, LogError, MAX_PAGE_BYTES, Status};
use tidewire_model::{Direction, Generation, HistoryQuery, NodeId, SessionId, SessionNonce, Since};
use tidewire_store::{
    Claim, ClaimRequest, Membership, NodeLease, NodeLoad, NodeState, SessionKey, SessionStore,
};
use tidewire_store_redis::{
    RedisConfig, RedisConnection, RedisLog, RedisMembership, RedisSessionStore, Severity,
};
use tidewire_testkit::services::{RedisServer, free_port};
use tokio::time::{Instant, sleep, timeout};

use crate::redis::{
    append, command, config, connect, draft, key_of, keys, log, read_since, room, text, without_id,
};

#[tokio::test]
async fn flushed_functions_are_loaded_again() {
    let server = RedisServer::start().await;
    let log = log(&server);
    append(&log, &["1"]).await;

    command(&server, &["FUNCTION", "FLUSH"]).await;

    assert_eq!(append(&log, &["2"]).await[0].position.offset, 2);
}

#[tokio::test]
async fn a_restart_begins_an_epoch_and_positions_go_on() {
    let mut server = RedisServer::with_appendonly().await;
    let log = log(&server);
    let before = append(&log, &["1", "2"]).await;

    server.restart().await;
    let read = read_since(&log, before[0].position).await;
    let again = append(&log, &["2"]).await[0];

    assert_eq!((read.status, read.base, read.top), (Status::Continues, 1, 2));
    assert_eq!(read.publications[0].position, before[1].position);
    assert!(read.incarnation > before[0].position.epoch.incarnation());
    assert_eq!((again.position, again.duplicate), (before[1].position, true));
}

#[tokio::test]
async fn a_flushed_server_resets_every_position_under_a_newer_incarnation() {
    let server = RedisServer::start().await;
    let log = log(&server);
    let before = append(&log, &["1", "2"]).await;

    command(&server, &["FLUSHALL"]).await;
    let read = read_since(&log, before[1].position).await;
    let after = append(&log, &["2"]).await[0];

    assert_eq!((read.status, read.base, read.top), (Status::Reset, 0, 0));
    assert!(read.incarnation > before[0].position.epoch.incarnation());
    assert_eq!((after.position.offset, after.duplicate), (1, false));
}

#[tokio::test]
async fn who_saw_a_lost_tail_is_set_back_to_where_all_agree() {
    let server = RedisServer::start().await;
    let log = log(&server);
    let before = append(&log, &["1", "2", "3"]).await;

    // As a promoted replica that lacks the last one: other data, written by another process.
    let fence = text(command(&server, &["GET", "tw:f"]).await);
    command(&server, &["SET", "tw:f", &format!("{} 0123abcd", &fence[..12])]).await;
    command(&server, &["XDEL", &key_of(&server, 'l').await, "3-0"]).await;
    command(&server, &["HSET", &key_of(&server, 'm').await, "t", "2"]).await;
    let read = read_since(&log, before[2].position).await;

    assert_eq!((read.status, read.base, read.top), (Status::Rewound, 2, 2));
    assert_eq!(read.base_position(), before[1].position);
    assert!(read.incarnation > before[2].position.epoch.incarnation());
}

#[tokio::test]
async fn a_primary_that_is_behind_what_was_seen_is_raised_above_it() {
    let server = RedisServer::start().await;
    let log = log(&server);
    let before = append(&log, &["1"]).await[0].position;

    let fence = text(command(&server, &["GET", "tw:f"]).await);
    command(&server, &["SET", "tw:f", &format!("000000000001 {}", &fence[13..])]).await;
    let after = append(&log, &["2"]).await[0].position;
    let read = read_since(&log, before).await;

    assert!(after.epoch.incarnation() > before.epoch.incarnation());
    assert_eq!((after.offset, read.status), (2, Status::Continues));
}

#[tokio::test]
async fn a_numbering_that_was_deleted_begins_anew_without_the_old_publications() {
    let server = RedisServer::start().await;
    let log = log(&server);
    let before = append(&log, &["1", "2"]).await;

    command(&server, &["DEL", &key_of(&server, 'm').await]).await;
    let after = append(&log, &["2"]).await[0];
    let read = log.read(&room(), Since::Last(10), 10).await.expect("read");

    assert_ne!(after.position.epoch, before[0].position.epoch);
    assert_eq!((after.position.offset, after.duplicate), (1, false));
    assert_eq!(read.publications.len(), 1);
}

#[tokio::test]
async fn an_id_is_still_known_when_the_next_bucket_has_begun() {
    let server = RedisServer::start().await;
    let log = log(&server);
    let first = append(&log, &["1"]).await[0];

    age_ids(&server).await;
    let again = append(&log, &["1"]).await[0];

    assert_eq!((again.position, again.duplicate), (first.position, true));
}

#[tokio::test]
async fn an_id_that_is_used_again_and_again_is_not_forgotten_meanwhile() {
    let server = RedisServer::start().await;
    let log = log(&server);
    let first = append(&log, &["1"]).await[0];

    for _ in 0..3 {
        age_ids(&server).await;
        let again = append(&log, &["1"]).await[0];

        assert_eq!((again.position, again.duplicate), (first.position, true));
    }
    let left = command(&server, &["PTTL", &keys(&server, "tw:*:d:*").await[0]]).await;
    let left: i64 = redis::from_redis_value(left).expect("a time");
    assert!(left > 0, "what is remembered runs out some day");
}

/// Makes the ids that are known as old as if their bucket had ended: the one before it is gone.
async fn age_ids(server: &RedisServer) {
    let mut buckets = keys(server, "tw:*:d:*").await;
    buckets.sort();
    for bucket in buckets {
        let (name, number) = bucket.rsplit_once(':').expect("a bucket has a number");
        let number: u64 = number.parse().expect("a number");
        command(server, &["RENAME", &bucket, &format!("{name}:{}", number - 1)]).await;
    }
}

#[tokio::test]
async fn everything_but_the_fence_runs_out_some_day() {
    let server = RedisServer::start().await;
    let log = log(&server);
    let minutes = async |key: &str| {
        let left = command(&server, &["PTTL", key]).await;
        redis::from_redis_value::<i64>(left).expect("a time") / 60_000
    };

    log.read(&room(), Since::Now, 1).await.expect("read");
    let unused = minutes(&key_of(&server, 'm').await).await;
    append(&log, &["1"]).await;
    let used = minutes(&key_of(&server, 'm').await).await;
    let entries = minutes(&key_of(&server, 'l').await).await;
    let ids = minutes(&keys(&server, "tw:*:d:*").await[0]).await;

    assert!((55..=60).contains(&unused), "{unused}");
    assert!((24 * 60..=24 * 60 + 5).contains(&used), "{used}");
    assert!((5..=6).contains(&entries), "{entries}");
    assert!((4..=6).contains(&ids), "{ids}");
    assert_eq!(command(&server, &["PTTL", "tw:f"]).await, redis::Value::Int(-1));
}

#[tokio::test]
async fn asking_for_a_page_or_heads_makes_no_key_of_a_channel() {
    let server = RedisServer::start().await;
    let log = log(&server);
    let made_up = log.heads(&[room()]).await.expect("heads")[0].position;

    for direction in [Direction::Forward, Direction::Backward] {
        for from in [None, Some(made_up)] {
            let query = HistoryQuery { direction, from, limit: 10 };
            log.page(&room(), query).await.expect("page");
        }
    }

    assert_eq!(keys(&server, "*").await, ["tw:f"]);
}

#[tokio::test]
async fn a_page_does_not_keep_a_channel_alive_that_nobody_reads() {
    let server = RedisServer::start().await;
    let log = log(&server);
    log.read(&room(), Since::Now, 1).await.expect("read");
    let numbering = key_of(&server, 'm').await;
    // As if an hour had nearly passed.
    command(&server, &["HSET", &numbering, "m", "1"]).await;
    command(&server, &["PEXPIRE", &numbering, "60000"]).await;
    let left = async || {
        let left = command(&server, &["PTTL", &numbering]).await;
        redis::from_redis_value::<i64>(left).expect("a time")
    };

    let query = HistoryQuery { direction: Direction::Backward, from: None, limit: 1 };
    log.page(&room(), query).await.expect("page");
    let after_page = left().await;
    log.heads(&[room()]).await.expect("heads");

    assert!((1..=60_000).contains(&after_page), "{after_page}");
    assert!(left().await > 3_500_000);
}

#[tokio::test]
async fn a_large_page_is_cut_inside_redis() {
    let server = RedisServer::start().await;
    let log = log(&server);
    let large = without_id(&"x".repeat(MAX_PAGE_BYTES / 4));
    for _ in 0..10 {
        log.append(&room(), &vec![large.clone(); 10]).await.expect("append");
    }
    let sent = async || {
        let stats = text(command(&server, &["INFO", "stats"]).await);
        let sent = stats.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:"));
        sent.expect("it is counted").parse::<usize>().expect("a number")
    };

    let before = sent().await;
    let query = HistoryQuery { direction: Direction::Backward, from: None, limit: 1_000 };
    let page = log.page(&room(), query).await.expect("page");
    let read = log.read(&room(), Since::Last(100), 1_000).await.expect("read");
    let sent = sent().await - before;

    assert_eq!((page.publications.len(), read.publications.len()), (4, 4));
    assert!(sent < 2 * MAX_PAGE_BYTES + 16_384, "{sent} bytes were sent");
}

#[tokio::test]
async fn a_removed_entry_is_a_hole_that_is_told_and_not_skipped() {
    let server = RedisServer::start().await;
    let log = log(&server);
    let appended = append(&log, &["1", "2", "3", "4"]).await;

    command(&server, &["XDEL", &key_of(&server, 'l').await, "3-0"]).await;
    let before_hole = read_since(&log, appended[0].position).await;
    let at_hole = read_since(&log, appended[1].position).await;

    assert_eq!((before_hole.status, before_hole.publications.len()), (Status::Continues, 1));
    assert_eq!((at_hole.status, at_hole.base), (Status::Trimmed, 3));
}

#[tokio::test]
async fn what_something_else_wrote_is_corrupt_and_no_panic() {
    let server = RedisServer::start().await;
    let log = log(&server);
    append(&log, &["1"]).await;
    let (numbering, entries) = (key_of(&server, 'm').await, key_of(&server, 'l').await);

    command(&server, &["XADD", &entries, "2-0", "a", "b"]).await;
    command(&server, &["HSET", &numbering, "t", "2"]).await;
    assert_corrupt(&log.read(&room(), Since::Last(10), 10).await);

    command(&server, &["XADD", &entries, "99-0", "m", "x", "p", "y"]).await;
    assert_corrupt(&log.append(&room(), &[draft("2")]).await);

    command(&server, &["HSET", &numbering, "t", "many"]).await;
    assert_corrupt(&log.heads(&[room()]).await);

    command(&server, &["DEL", &numbering]).await;
    command(&server, &["SET", &numbering, "x"]).await;
    assert_corrupt(&log.append(&room(), &[draft("2")]).await);
}

#[tokio::test]
async fn an_unreachable_server_is_named_at_once_and_without_its_password() {
    let port = free_port();
    let config = config(&format!("redis://user:secret@127.0.0.1:{port}"));
    let connection = RedisConnection::new(config).expect("reaching it is not tried yet");
    let log = RedisLog::new(connection.clone(), tidewire_broker::Retention::default());
    let sessions = RedisSessionStore::new(connection.clone());
    let membership = RedisMembership::new(connection);

    let failures = [
        log.health().await.expect_err("down").to_string(),
        log.append(&room(), &[draft("1")]).await.expect_err("down").to_string(),
        sessions.health().await.expect_err("down").to_string(),
        membership.members().await.expect_err("down").to_string(),
    ];

    let reason = format!("at 127.0.0.1:{port} is unavailable: connection refused");
    let [log, store] = ["log", "store"].map(|port| format!("{port} {reason}"));
    assert_eq!(failures, [log.clone(), log, store.clone(), store]);
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again() {
    let mut server = RedisServer::with_appendonly().await;
    let log = log(&server);
    append(&log, &["1"]).await;

    server.kill();
    let down = timeout(Duration::from_secs(20), log.append(&room(), &[draft("2")])).await;
    assert!(down.expect("it does not hang").is_err());
    log.health().await.expect_err("down");
    server.restart().await;
    until(async || log.health().await.is_ok()).await;

    assert_eq!(append(&log, &["2"]).await[0].position.offset, 2);
}

#[tokio::test]
async fn a_server_that_hangs_is_unhealthy_within_a_second() {
    let server = RedisServer::start().await;
    // What else it may be asked has more time than that.
    let config = RedisConfig { deadline: Duration::from_secs(20), ..config(&server.url()) };
    let connection = RedisConnection::new(config).expect("a valid configuration");
    let log = RedisLog::new(connection, tidewire_broker::Retention::default());
    log.health().await.expect("healthy");

    server.pause();
    let started = Instant::now();
    let health = log.health().await;
    server.resume();

    assert!(health.is_err());
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_append_that_nobody_answers_ends_as_unknown() {
    let server = RedisServer::start().await;
    let log = log(&server);
    append(&log, &["1"]).await;

    server.pause();
    let outcome = log.append(&room(), &[without_id("2")]).await;
    server.resume();

    assert!(matches!(outcome, Err(LogError::Timeout { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_full_server_refuses_a_whole_batch_and_takes_it_later() {
    let server = RedisServer::start().await;
    let log = log(&server);
    append(&log, &["1"]).await;

    command(&server, &["CONFIG", "SET", "maxmemory", "1mb"]).await;
    let full = log.append(&room(), &[draft("2"), draft("3")]).await;
    command(&server, &["CONFIG", "SET", "maxmemory", "0"]).await;
    let later = append(&log, &["2", "3"]).await;

    let full = full.expect_err("it is full");
    assert!(
        matches!(full, LogError::Unavailable { .. }) && full.to_string().contains("OOM"),
        "{full}"
    );
    assert_eq!(later.iter().map(|one| one.position.offset).collect::<Vec<_>>(), [2, 3]);
    assert!(later.iter().all(|one| !one.duplicate));
}

#[tokio::test]
async fn a_full_server_can_be_read_and_holds_no_node_for_dead() {
    let server = RedisServer::start().await;
    let log = log(&server);
    append(&log, &["1"]).await;
    let (sessions, membership) =
        (RedisSessionStore::new(connect(&server)), RedisMembership::new(connect(&server)));
    let node = NodeId::parse("a").expect("a valid name");
    let lease = NodeLease {
        node: node.clone(),
        slot: None,
        state: NodeState::Ready,
        weight: 100,
        connections: 0,
        started_at_ms: 0,
        beats: true,
        load: NodeLoad::default(),
        url: None,
    };
    let request = ClaimRequest {
        key: SessionKey { tenant: room().tenant, session: SessionId::from_bytes([1; 16]) },
        generation: Generation(1),
        owner: node,
        nonce: SessionNonce::from_bytes([1; 16]),
    };
    let history = HistoryQuery { direction: Direction::Forward, from: None, limit: 10 };
    membership.members().await.expect("members");
    sessions.health().await.expect("healthy");

    command(&server, &["CONFIG", "SET", "maxmemory", "1mb"]).await;
    let read = log.read(&room(), Since::Last(10), 10).await.expect("read");
    let page = log.page(&room(), history).await.expect("page");
    let heads = log.heads(&[room()]).await.expect("heads");
    membership.renew(&lease, Duration::from_mins(1)).await.expect("renew");
    let claim = sessions.claim(&request, Duration::from_mins(1)).await.expect("claim");

    assert_eq!((read.publications.len(), page.publications.len(), heads.len()), (1, 1, 1));
    assert_eq!(membership.members().await.expect("members"), [lease]);
    assert_eq!(claim, Claim::Missing, "it was looked for");
}

#[tokio::test]
async fn settings_that_break_a_promise_are_named() {
    let server = RedisServer::start().await;
    let connection = connect(&server);
    command(&server, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;

    let findings = connection.check_settings().await.expect("redis is there");

    for setting in ["maxmemory-policy", "appendonly", "stream-node-max-bytes"] {
        let found = findings.iter().find(|finding| finding.text.contains(setting));
        let found = found.unwrap_or_else(|| panic!("{setting} in {findings:?}"));
        assert_eq!(found.severity, Severity::Warn);
        assert!(found.text.contains(&server.address().to_string()), "{found:?}");
    }
}

#[tokio::test]
async fn a_redis_that_would_evict_is_not_healthy_until_that_is_changed() {
    let server = RedisServer::start().await;
    let connection = connect(&server);
    let log = RedisLog::new(connection.clone(), tidewire_broker::Retention::default());
    command(&server, &["CONFIG", "SET", "maxmemory", "1gb", "maxmemory-policy", "allkeys-lru"])
        .await;

    let findings = connection.check_settings().await.expect("redis is there");
    let ill = log.health().await.expect_err("not healthy").to_string();
    command(&server, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    connection.check_settings().await.expect("redis is there");

    assert!(findings.iter().any(|finding| finding.severity == Severity::Refuse), "{findings:?}");
    assert!(ill.contains("set maxmemory-policy to noeviction"), "{ill}");
    log.health().await.expect("healthy");
}

#[tokio::test]
async fn settings_of_a_redis_that_is_away_are_no_findings() {
    let mut server = RedisServer::start().await;
    let connection = connect(&server);
    server.kill();

    assert!(connection.check_settings().await.is_err());
}

fn assert_corrupt<T: std::fmt::Debug>(result: &Result<T, LogError>) {
    assert!(matches!(result, Err(LogError::Corrupt { .. })), "{result:?}");
}

async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), waiting).await.expect("it becomes so in 10 s");
}
