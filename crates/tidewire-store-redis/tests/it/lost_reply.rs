//! Appends whose reply never came.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidewire_broker::{Log, LogError, Outcome, Retention};
use tidewire_model::{Position, Since};
use tidewire_store_redis::{RedisConnection, RedisLog};
use tidewire_testkit::services::RedisServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use crate::redis::{append, command, config, connect, draft, key_of, log, room, text, without_id};

#[tokio::test]
async fn an_append_whose_reply_was_lost_is_found_again_and_not_stored_twice() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let log = proxy.log(Retention::default());
    append(&log, &["1"]).await;

    for (round, batch) in
        [[without_id("a"), draft("b"), without_id("c")].as_slice(); 3].into_iter().enumerate()
    {
        let batch: Vec<_> = batch.iter().cloned().map(|one| renamed(one, round)).collect();
        proxy.lose_the_next_reply();
        let appended = log.append(&room(), &batch).await.expect("append");

        let first = 2 + 3 * round as u64;
        let offsets: Vec<_> = appended.iter().map(|one| one.position.offset).collect();
        assert_eq!(offsets, [first, first + 1, first + 2]);
        assert!(appended.iter().all(|one| !one.duplicate));
    }
    let read = log.read(&room(), Since::Last(100), 100).await.expect("read");
    assert_eq!(read.publications.len(), 10);
}

#[tokio::test]
async fn an_append_that_never_arrived_is_stored_when_it_is_repeated() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let log = proxy.log(Retention::default());
    append(&log, &["1"]).await;

    proxy.lose_the_next_call();
    let appended = log.append(&room(), &[without_id("2")]).await.expect("append");

    assert_eq!((appended[0].position.offset, appended[0].duplicate), (2, false));
    assert_eq!(log.read(&room(), Since::Now, 1).await.expect("read").top, 2);
}

#[tokio::test]
async fn an_append_that_never_arrived_is_stored_also_when_much_was_trimmed_before() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let small = proxy.log(Retention { size: 10, ..Retention::default() });
    for round in 0..6 {
        let ids: Vec<String> = (0..50).map(|id| format!("{round}-{id}")).collect();
        append(&small, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }

    proxy.lose_the_next_call();
    let appended = small.append(&room(), &[without_id("last")]).await.expect("append");

    assert_eq!((appended[0].position.offset, appended[0].duplicate), (301, false));
}

#[tokio::test]
async fn a_lost_reply_is_found_again_by_a_primary_whose_clock_is_far_ahead_or_behind() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
    for step in [-DAY_MS, DAY_MS] {
        let server = RedisServer::start().await;
        let proxy = Proxy::start(&server).await;
        let log = proxy.log(Retention::default());
        append(&log, &["1"]).await;

        proxy.lose_the_next_reply();
        proxy.refuse(true);
        let fail_over = async {
            proxy.reply_was_lost().await;
            shift_times(&server, step).await;
            proxy.refuse(false);
        };
        let (channel, batch) = (room(), [without_id("2"), draft("3"), without_id("4")]);
        let (outcome, ()) = tokio::join!(log.append(&channel, &batch), fail_over);

        let offsets: Vec<_> =
            outcome.expect("append").iter().map(|one| one.position.offset).collect();
        assert_eq!(offsets, [2, 3, 4], "{step}");
        assert_eq!(log.read(&room(), Since::Now, 1).await.expect("read").top, 4, "{step}");
    }
}

#[tokio::test]
async fn a_lost_reply_is_found_again_though_the_channel_is_in_another_epoch_since() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let log = proxy.log(Retention::default());
    let epoch = append(&log, &["1"]).await[0].position.epoch;

    proxy.lose_the_next_reply();
    proxy.refuse(true);
    let fail_over = async {
        proxy.reply_was_lost().await;
        let fence = text(command(&server, &["GET", "tw:f"]).await);
        let (incarnation, _) = fence.split_once(' ').expect("an incarnation and a run id");
        command(&server, &["SET", "tw:f", &format!("{incarnation} another-run")]).await;
        proxy.refuse(false);
    };
    let (channel, batch) = (room(), [without_id("2"), draft("3")]);
    let (outcome, ()) = tokio::join!(log.append_in(&channel, Some(epoch), &batch), fail_over);
    let next = log.append_in(&room(), Some(epoch), &[draft("4")]).await.expect("append");

    let Outcome::Kept { appended, .. } = outcome.expect("append") else {
        panic!("it was stored before")
    };
    let positions: Vec<_> = appended.iter().map(|one| one.position).collect();
    assert_eq!(positions, [Position::new(epoch, 2), Position::new(epoch, 3)]);
    assert_eq!(next, Outcome::Forked);
    assert_eq!(log.read(&room(), Since::Now, 1).await.expect("read").top, 3);
}

/// Moves the times of all publications, as if the server's clock had stepped the other way.
async fn shift_times(server: &RedisServer, by_ms: i64) {
    let key = key_of(server, 'l').await;
    let entries = command(server, &["XRANGE", &key, "-", "+"]).await;
    let entries: Vec<(String, [String; 4])> = redis::from_redis_value(entries).expect("entries");
    command(server, &["DEL", &key]).await;
    for (id, [_, description, _, payload]) in entries {
        let (time, rest) = description.split_once('\0').expect("a time and more");
        let time = time.parse::<i64>().expect("milliseconds") + by_ms;
        let description = format!("{time}\0{rest}");
        command(server, &["XADD", &key, &id, "m", &description, "p", &payload]).await;
    }
}

#[tokio::test]
async fn an_append_is_said_to_be_unknown_when_nothing_is_known_to_look_above() {
    let server = RedisServer::start().await;
    let small = Retention { size: 10, ..Retention::default() };
    let direct = RedisLog::new(connect(&server), small);
    for round in 0..6 {
        let ids: Vec<String> = (0..50).map(|id| format!("{round}-{id}")).collect();
        append(&direct, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    let proxy = Proxy::start(&server).await;
    let newcomer = proxy.log(small);

    newcomer.health().await.expect("connected");
    proxy.lose_the_next_call();
    let outcome = newcomer.append(&room(), &[without_id("a")]).await;
    let with_id = newcomer.append(&room(), &[draft("b")]).await.expect("append");

    assert!(matches!(outcome, Err(LogError::Timeout { .. })), "{outcome:?}");
    assert_eq!(with_id[0].position.offset, 301);
}

#[tokio::test]
async fn an_append_whose_traces_were_trimmed_is_said_to_be_unknown_and_not_repeated() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let small = proxy.log(Retention { size: 10, ..Retention::default() });
    append(&small, &["1"]).await;

    proxy.lose_the_next_reply();
    proxy.refuse(true);
    let others = async {
        proxy.reply_was_lost().await;
        let ids: Vec<String> = (0..300).map(|id| format!("other-{id}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let direct = RedisLog::new(
            RedisConnection::new(config(&server.url())).expect("valid"),
            Retention { size: 10, ..Retention::default() },
        );
        append(&direct, &ids).await;
        proxy.refuse(false);
    };
    let (channel, batch) = (room(), [without_id("2")]);
    let (outcome, ()) = tokio::join!(small.append(&channel, &batch), others);

    assert!(matches!(outcome, Err(LogError::Timeout { .. })), "{outcome:?}");
    assert_eq!(log(&server).read(&room(), Since::Now, 1).await.expect("read").top, 302);
}

fn renamed(one: tidewire_broker::Draft, round: usize) -> tidewire_broker::Draft {
    match one.id {
        Some(id) => draft(&format!("{id}{round}")),
        None => one,
    }
}

/// Stands between a log and its server, and cuts connections when told to.
pub(crate) struct Proxy {
    url: String,
    state: Arc<State>,
    connections: TaskTracker,
}

#[derive(Default)]
struct State {
    lose_call: AtomicBool,
    lose_reply: AtomicBool,
    refuse: AtomicBool,
    lost: tokio::sync::Notify,
}

impl Proxy {
    pub(crate) async fn start(server: &RedisServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("redis://{}", listener.local_addr().expect("bound"));
        let (state, connections) = (Arc::new(State::default()), TaskTracker::new());
        let (target, shared, tracker) = (server.address(), state.clone(), connections.clone());
        connections.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if shared.refuse.load(Ordering::SeqCst) {
                    continue;
                }
                let server = TcpStream::connect(target).await.expect("the server is there");
                tracker.spawn(forward(client, server, shared.clone()));
            }
        });
        Self { url, state, connections }
    }

    fn log(&self, retention: Retention) -> RedisLog {
        RedisLog::new(self.connect(), retention)
    }

    pub(crate) fn connect(&self) -> RedisConnection {
        RedisConnection::new(config(&self.url)).expect("a valid configuration")
    }

    fn lose_the_next_call(&self) {
        self.state.lose_call.store(true, Ordering::SeqCst);
    }

    pub(crate) fn lose_the_next_reply(&self) {
        self.state.lose_reply.store(true, Ordering::SeqCst);
    }

    fn refuse(&self, refuse: bool) {
        self.state.refuse.store(refuse, Ordering::SeqCst);
    }

    async fn reply_was_lost(&self) {
        let waiting = self.state.lost.notified();
        tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("a reply is lost");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.connections.close();
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, state: Arc<State>) {
    let (mut calls, mut replies) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            Ok(length) = client.read(&mut calls) => {
                if length == 0 || state.lose_call.swap(false, Ordering::SeqCst) {
                    return;
                }
                server.write_all(&calls[..length]).await.expect("the server reads");
            }
            Ok(length) = server.read(&mut replies) => {
                if length == 0 {
                    return;
                }
                if state.lose_reply.swap(false, Ordering::SeqCst) {
                    state.lost.notify_one();
                    return;
                }
                client.write_all(&replies[..length]).await.expect("the client reads");
            }
            else => return,
        }
    }
}
