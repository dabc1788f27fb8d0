//! A primary that another has replaced, and a process that is still connected to it.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tidewire_broker::{Log, Retention, Secured, Status};
use tidewire_model::{Incarnation, Position};
use tidewire_store_redis::{RedisConnection, RedisLog};
use tidewire_testkit::services::RedisServer;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::redis::{append, command, config, draft, log, read_since, room, text, unix_ms};
use crate::secure::{LONG, pair};

#[tokio::test]
async fn word_of_a_newer_life_has_it_ask_anew_where_the_primary_is() {
    let reign = Reign::begin().await;
    let Reign { here, there, first, .. } = &reign;
    let first = *first;

    reign.end().await;
    let newer = append(there, &["2"]).await[0].position;
    let stuck = read_since(here, first).await;
    here.hear_of(&room(), first.epoch.incarnation());
    let still = read_since(here, first).await;
    here.hear_of(&room(), newer.epoch.incarnation());
    let moved = read_since(here, first).await;

    assert_eq!([stuck.top, still.top], [1; 2], "nobody has told it anything new");
    assert_eq!((moved.status, moved.top_position()), (Status::Continues, newer));
}

#[tokio::test]
async fn word_of_a_life_that_never_was_stops_nothing_and_seldom_connects_anew() {
    let (primary, _replica) = pair().await;
    let log = log(&primary);
    append(&log, &["first"]).await;
    let (before, began) = (connections(&primary).await, Instant::now());

    let made_up = Incarnation::new(unix_ms() + 60_000, 0);
    for number in 0..50 {
        log.hear_of(&room(), made_up);
        append(&log, &[&number.to_string()]).await;
    }

    // One more is that of who asks.
    let most = 2 + began.elapsed().as_secs() / 2;
    assert!(connections(&primary).await - before <= 1 + most);
}

#[tokio::test]
async fn word_of_a_life_counts_though_it_is_an_hour_ahead_of_the_clock_here() {
    let reign = Reign::begin().await;
    let Reign { here, there, first, replica, .. } = &reign;
    let first = *first;

    reign.end().await;
    begin_life_at(replica, unix_ms() + HOUR_MS).await;
    let newer = append(there, &["2"]).await[0].position;
    here.hear_of(&room(), newer.epoch.incarnation());
    let moved = read_since(here, first).await;

    assert_eq!((moved.status, moved.top_position()), (Status::Continues, newer));
}

/// A primary whose clock was an hour ahead is replaced by one whose clock is right.
#[tokio::test]
async fn a_life_that_began_under_a_clock_ahead_is_followed_by_another_at_once() {
    let server = RedisServer::start().await;
    let log = log(&server);
    begin_life_at(&server, unix_ms() + HOUR_MS).await;
    let ahead = append(&log, &["1"]).await[0].position;

    begin_life(&server, ahead.epoch.incarnation()).await;
    let next = append(&log, &["2"]).await[0].position;

    assert!(next.epoch.incarnation() > ahead.epoch.incarnation());
    assert_eq!(next.offset, 2);
}

/// Or one node with a life that was made up could have all others wait for as long as it likes.
#[tokio::test]
async fn a_life_in_the_future_that_redis_does_not_know_of_is_not_outdone() {
    let server = RedisServer::start().await;
    let log = log(&server);
    begin_life_at(&server, unix_ms() + HOUR_MS).await;
    append(&log, &["1"]).await;

    begin_life_at(&server, unix_ms()).await;
    let refused = log.append(&room(), &[draft("2")]).await.expect_err("it is refused");

    assert!(refused.to_string().contains("from the future"), "{refused}");
}

const HOUR_MS: u64 = 3_600_000;

/// Has Redis hold the life of another process that began then.
async fn begin_life_at(server: &RedisServer, ms: u64) {
    begin_life(server, Incarnation::new(ms, 0)).await;
}

/// Has Redis hold a life of another process.
async fn begin_life(server: &RedisServer, life: Incarnation) {
    command(server, &["SET", "tw:f", &format!("{} {:040}", life.as_str(), 0)]).await;
}

#[tokio::test]
async fn what_is_doubted_stays_in_use_while_no_other_can_be_reached() {
    let reign = Reign::begin().await;
    let Reign { line, here, there, first, .. } = &reign;
    let first = *first;

    // Whoever connects now is not answered.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    line.turn_to(silent.local_addr().expect("it has one"));
    here.hear_of(&room(), Incarnation::new(unix_ms() + 60_000, 0));
    let second = append(here, &["2"]).await[0].position;
    let health = here.health().await;

    assert_eq!((second.epoch, second.offset), (first.epoch, 2));
    assert!(health.is_ok(), "{health:?}");

    reign.end().await;
    let newer = append(there, &["3"]).await[0].position;
    let moved = async {
        while read_since(here, first).await.top_position() != newer {
            here.hear_of(&room(), newer.epoch.incarnation());
        }
    };
    timeout(LONG, moved).await.expect("it asks again");
}

async fn connections(server: &RedisServer) -> u64 {
    let stats = text(command(server, &["INFO", "stats"]).await);
    let count = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
    count.expect("it is counted").parse().expect("a number")
}

/// A primary that one log uses, which has put its first publication there, until its replica takes its
/// place.
struct Reign {
    line: Line,
    here: RedisLog,
    /// At the replica.
    there: RedisLog,
    first: Position,
    replica: RedisServer,
    _primary: RedisServer,
}

impl Reign {
    async fn begin() -> Self {
        let (primary, replica) = pair().await;
        let line = Line::to(primary.address()).await;
        let (here, there) = (line.log(), log(&replica));
        let first = append(&here, &["1"]).await[0].position;
        assert_eq!(here.secure(LONG).await.expect("an answer"), Secured::Copied { replicas: 1 });
        Self { line, here, there, first, replica, _primary: primary }
    }

    /// Promotes the replica; whoever connects anew is led there.
    async fn end(&self) {
        command(&self.replica, &["REPLICAOF", "NO", "ONE"]).await;
        self.line.turn_to(self.replica.address());
    }
}

/// An address whose new connections lead to whatever it was turned to last.
struct Line {
    address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
}

impl Line {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has one");
        let target = Arc::new(Mutex::new(target));
        let (tracker, current) = (TaskTracker::new(), Arc::clone(&target));
        tracker.clone().spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let target = *current.lock();
                tracker.spawn(async move {
                    let mut server = TcpStream::connect(target).await.expect("the server is there");
                    // Either end may just go.
                    drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
                });
            }
        });
        Self { address, target }
    }

    fn turn_to(&self, target: SocketAddr) {
        *self.target.lock() = target;
    }

    fn log(&self) -> RedisLog {
        let config = config(&format!("redis://{}", self.address));
        let connection = RedisConnection::new(config).expect("a valid configuration");
        RedisLog::new(connection, Retention::default())
    }
}
