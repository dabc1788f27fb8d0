//! Members whose node is killed, or leaves.

use std::collections::BTreeSet;
use std::time::Duration;

use tidewire_client::{Channel, Command, Connection, ServerEvent};
use tidewire_model::{Connected, MemberId, PresenceChange, Resume, SessionNonce};
use tokio::time::{Instant, timeout};

use crate::cluster::{Cluster, NodeProcess, options};

/// Longer than all there is to wait for: a lease, the grace of the other node, the debounce.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_killed_node_leave_once_but_for_those_who_went_on() {
    let cluster = Cluster::start().await;
    let (mut killed, other) = (cluster.node(), cluster.node());
    let mut watcher = watch(&other).await;
    let mut members = Vec::new();
    for number in 0..5 {
        members.push(enter(&killed, &format!("user-{number}")).await);
    }
    joined(&mut watcher, 5).await;
    let (_connection, connected, survivor) = members.swap_remove(0);
    let lost: BTreeSet<_> = members.iter().map(|(.., member)| *member).collect();
    // The session is stored with what it is a member of.
    stored(&cluster).await;

    killed.kill();
    let killed_at = Instant::now();
    let back = go_on(&other, connected).await;
    let left = left(&mut watcher, 4).await;
    let took = killed_at.elapsed();

    assert_eq!(left.iter().copied().collect::<BTreeSet<_>>(), lost);
    assert!(took < Duration::from_secs(40), "{took:?}");
    let (mut back, there) = list(back).await;
    assert_eq!(there, [survivor]);
    leave(&mut back).await;
    assert_eq!(self::left(&mut watcher, 1).await, [survivor], "and nobody else in between");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_node_that_leaves_go_on_elsewhere_unnoticed() {
    let cluster = Cluster::start().await;
    let (mut leaving, other) = (cluster.node(), cluster.node());
    let mut watcher = watch(&other).await;
    let mut members = Vec::new();
    for number in 0..5 {
        members.push(enter(&leaving, &format!("user-{number}")).await);
    }
    joined(&mut watcher, 5).await;

    leaving.terminate();
    let mut there = Vec::new();
    for (mut connection, connected, member) in members {
        until(&mut connection, |event| matches!(event, ServerEvent::Reconnect { .. })).await;
        drop(connection);
        there.push((go_on(&other, connected).await, member));
    }
    assert!(leaving.ended().await.success());
    let mut all = Vec::new();
    for (connection, member) in there {
        let (connection, found) = list(connection).await;
        assert_eq!(found.len(), 5, "{found:?}");
        all.push((connection, member));
    }
    let (mut last, member) = all.pop().expect("five");
    leave(&mut last).await;

    assert_eq!(left(&mut watcher, 1).await, [member], "and nobody else in between");
}

fn room() -> Channel {
    Channel::parse("present/1").expect("valid")
}

async fn open(node: &NodeProcess, user: &str) -> (Connection, Connected) {
    let options = options("acme", user, [node]);
    Connection::open(&options, 0, None).await.expect("it is let in")
}

async fn watch(node: &NodeProcess) -> Connection {
    let (mut connection, _) = open(node, "watcher").await;
    connection.send(Command::Watch { channel: room() }).expect("connected");
    until(&mut connection, |event| matches!(event, ServerEvent::Watching { .. })).await;
    connection
}

async fn enter(node: &NodeProcess, user: &str) -> (Connection, Connected, MemberId) {
    let (mut connection, connected) = open(node, user).await;
    connection.send(Command::Enter { channel: room(), word: None }).expect("connected");
    let mut entered = None;
    until(&mut connection, |event| {
        if let ServerEvent::Entered { member, .. } = event {
            entered = Some(*member);
        }
        entered.is_some()
    })
    .await;
    (connection, connected, entered.expect("just seen"))
}

/// Waits until all sessions are stored with what they are members of.
async fn stored(cluster: &Cluster) {
    let waiting = async {
        loop {
            let keys = cluster.redis.command(&["KEYS", "tw:s:*"]).await.expect("Redis answers");
            let mut stored = 0;
            for key in keys.lines() {
                let snapshot = cluster.redis.command(&["HGET", key, "d"]).await;
                stored += usize::from(snapshot.expect("Redis answers").contains("entered"));
            }
            if stored == 5 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it is stored");
}

/// Resumes at another node.
async fn go_on(node: &NodeProcess, connected: Connected) -> Connection {
    let token = connected.resume_token.expect("a session that is kept");
    let nonce = SessionNonce::from_bytes([7; 16]);
    let resume = Some(Resume { token, nonce, positions: Vec::new() });
    let options = options("acme", "anybody", [node]);
    let (connection, resumed) = Connection::open(&options, 0, resume).await.expect("it is let in");
    assert!(resumed.resumed);
    // Who says something was told that it has resumed, and is a member here from then on.
    list(connection).await.0
}

async fn list(mut connection: Connection) -> (Connection, Vec<MemberId>) {
    let command = Command::Members { channel: room(), from: None, limit: 100 };
    connection.send(command).expect("connected");
    let mut found = Vec::new();
    until(&mut connection, |event| match event {
        ServerEvent::Members { page, .. } => {
            found.extend(page.members.iter().map(|member| member.id));
            true
        }
        _ => false,
    })
    .await;
    (connection, found)
}

async fn leave(connection: &mut Connection) {
    connection.send(Command::Leave { channel: room() }).expect("connected");
    until(connection, |event| matches!(event, ServerEvent::Left { .. })).await;
}

async fn joined(watcher: &mut Connection, count: usize) {
    let mut joined = 0;
    changes(watcher, |change| {
        joined += change.joined.len();
        joined >= count
    })
    .await;
}

/// The next who leave; that nobody joins, or is said to be missed, meanwhile is part of it.
async fn left(watcher: &mut Connection, count: usize) -> Vec<MemberId> {
    let mut left = Vec::new();
    changes(watcher, |change| {
        assert!(change.joined.is_empty() && !change.lost, "{change:?}");
        left.extend(change.left.iter().map(|former| former.id));
        left.len() >= count
    })
    .await;
    left
}

async fn changes(watcher: &mut Connection, mut is_last: impl FnMut(&PresenceChange) -> bool) {
    until(watcher, |event| match event {
        ServerEvent::Presence { changes, .. } => changes.iter().any(&mut is_last),
        _ => false,
    })
    .await;
}

/// Reads on until an event is as `wanted`.
async fn until(connection: &mut Connection, mut wanted: impl FnMut(&ServerEvent) -> bool) {
    let reading = async { while !wanted(&connection.next().await.expect("nobody ends it")) {} };
    timeout(PATIENCE, reading).await.expect("it comes");
}
