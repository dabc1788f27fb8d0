//! Sessions whose node falls asleep, whose owner changes and whose record is lost.

use std::time::Duration;

use tidewire_client::{Channel, Command, Connection, Options, ServerEvent, Since};
use tidewire_model::{Connected, Disconnect, Resume, SessionNonce};
use tidewire_testkit::services::free_port;
use tokio::time::timeout;

use crate::cluster::{Cluster, options};
use crate::crowd::{Crowd, Size};
use crate::ledger::Verdict;
use crate::scenarios::{PATIENCE, publish};

/// Few enough to be quick, and at work for some seconds.
const SIZE: Size =
    Size { subscribers: 60, channels: 6, publications: 2_400, rest: Duration::from_millis(25) };
/// Of these, half of the subscribers and of the publishers.
const AT_EACH_NODE: usize = 36;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_asleep_finds_its_sessions_moved_and_writes_nothing() {
    let cluster = Cluster::start().await;
    let quick = "ping_interval = \"1s\"\n";
    let (mut asleep, awake) = (cluster.node_with(quick), cluster.node_with(quick));
    let mut crowd = Crowd::gather(SIZE, &asleep, &awake).await;
    crowd.progress(0.3).await;

    asleep.signal("STOP");
    // Whoever published there has to come over before everything can be acknowledged.
    let report = crowd.disperse().await;
    let owners = owners(&cluster).await;
    asleep.signal("CONT");
    asleep.terminate();
    let status = asleep.ended().await;

    assert_eq!(report.verdict, Verdict::default(), "{report:?}");
    assert!(report.resumed >= AT_EACH_NODE, "{report:?}");
    assert_eq!(report.begun_anew, 2 * AT_EACH_NODE, "every session went on: {report:?}");
    assert!(status.success(), "{status}");
    assert_eq!(owners.len(), 2 * AT_EACH_NODE);
    assert_eq!(self::owners(&cluster).await, owners);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_node_that_restarts_is_resumed() {
    let cluster = Cluster::start().await;
    // Not one of the ports that clients are given who keep trying to reach it.
    let port = free_port();
    let mut node = cluster.node_at(port);
    let mut crowd = Crowd::gather_at(SIZE, &[&node]).await;
    crowd.progress(0.3).await;

    node.terminate();
    node.line_with("asking clients to move");
    // There is nowhere to move to; whoever restarts it by hand need not wait for that.
    node.terminate();
    let status = node.ended().await;
    let _again = cluster.node_at(port);
    let report = crowd.disperse().await;

    assert!(status.success(), "{status}");
    assert_eq!(report.verdict, Verdict::default(), "{report:?}");
    assert!(report.resumed >= 2 * AT_EACH_NODE, "{report:?}");
    assert_eq!(report.begun_anew, 2 * AT_EACH_NODE, "every session went on: {report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_redis_has_lost_are_begun_anew_and_nothing_is_missed() {
    let cluster = Cluster::start().await;
    let (mut killed, other) = (cluster.node(), cluster.node());
    let mut crowd = Crowd::gather(SIZE, &killed, &other).await;
    crowd.progress(0.3).await;

    for key in sessions(&cluster).await {
        cluster.redis.command(&["DEL", &key]).await.expect("Redis answers");
    }
    killed.kill();
    let report = crowd.disperse().await;

    assert_eq!(report.verdict, Verdict::default(), "{report:?}");
    assert_eq!((report.resumed, report.begun_anew), (0, 3 * AT_EACH_NODE), "{report:?}");
}

#[tokio::test]
async fn two_holders_of_one_token_become_two_sessions_and_leave_each_other_alone() {
    const PUBLICATIONS: u64 = 50;
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.node(), cluster.node());
    let options = options("acme", "ann", [&a, &b]);
    let (mut first, connected) = open(&options, 0, None).await;
    let token = connected.resume_token.expect("a session that is kept");
    let nonce = SessionNonce::from_bytes([7; 16]);

    let doubled = Some(Resume { token, nonce, positions: Vec::new() });
    let (mut second, resumed) = open(&options, 1, doubled).await;
    let ending = async {
        loop {
            if let Err(lost) = first.next().await {
                return lost;
            }
        }
    };
    let lost = timeout(PATIENCE, ending).await.expect("the first holder is told");
    let (mut first, anew) = open(&options, 0, None).await;

    assert_eq!(lost.code(), Some(Disconnect::Moved.code()));
    assert!(resumed.resumed && resumed.session == connected.session);
    assert!(!anew.resumed && anew.session != connected.session);
    for connection in [&mut first, &mut second] {
        let channel = Channel::parse("news").expect("valid");
        connection
            .send(Command::Subscribe { channel, since: Since::Now, delta: None, token: None })
            .expect("connected");
        until(connection, |event| matches!(event, ServerEvent::Subscribed(_))).await;
    }
    for number in 1..=PUBLICATIONS {
        publish(&a, "acme", "news", &format!(r#"{{"data":{number}}}"#)).await;
    }
    for connection in [&mut first, &mut second] {
        let mut heard = 0;
        while heard < PUBLICATIONS {
            until(connection, |event| match event {
                ServerEvent::Publications { publications, .. } => {
                    heard += publications.len() as u64;
                    true
                }
                _ => false,
            })
            .await;
        }
    }
}

async fn open(
    options: &Options,
    attempt: usize,
    resume: Option<Resume>,
) -> (Connection, Connected) {
    Connection::open(options, attempt, resume).await.expect("it is let in")
}

/// Reads on until an event is as `wanted`.
async fn until(connection: &mut Connection, mut wanted: impl FnMut(&ServerEvent) -> bool) {
    let reading = async { while !wanted(&connection.next().await.expect("nobody ends it")) {} };
    timeout(PATIENCE, reading).await.expect("it comes");
}

/// The keys of all sessions.
async fn sessions(cluster: &Cluster) -> Vec<String> {
    let keys = cluster.redis.command(&["KEYS", "tw:s:*"]).await.expect("Redis answers");
    keys.lines().map(ToOwned::to_owned).collect()
}

/// Which node has each session, in which generation.
async fn owners(cluster: &Cluster) -> Vec<(String, String)> {
    let mut owners = Vec::new();
    for key in sessions(cluster).await {
        let owner = cluster.redis.command(&["HGET", &key, "o"]).await.expect("Redis answers");
        let words: Vec<_> = owner.split(' ').take(2).collect();
        owners.push((key, words.join(" ")));
    }
    owners.sort();
    owners
}
