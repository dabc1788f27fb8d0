//! Many at once, and those who do not finish what they have begun.

use std::time::Duration;

use tidewire_edge::EdgeConfig;
use tidewire_model::{Command, Connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fleet::{API_KEY, Fleet, Running, soon, token, until};
use crate::peer::Peer;
use crate::switched_store::Asked;

const PATH: &str = "/v1/acme/channels/lobby/publications";
/// What a small node takes.
const MOST_PLAIN: usize = 64;

async fn dial(node: &Running) -> TcpStream {
    TcpStream::connect(node.address).await.expect("accepted by the kernel")
}

fn beginning(bearer: &str) -> String {
    format!(
        "POST {PATH} HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {bearer}\r\n\
         content-type: application/json\r\ncontent-length: 4000000\r\n\r\n{{\"data\":"
    )
}

/// Begins to publish and does not go on; reads what the node makes of it until it hangs up.
async fn begin_to_publish(node: &Running, bearer: &str) -> String {
    let mut stream = dial(node).await;
    stream.write_all(beginning(bearer).as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.expect("an answer");
    String::from_utf8(answer).expect("utf-8")
}

#[tokio::test]
async fn a_caller_who_is_not_known_is_answered_without_waiting_for_its_body() {
    let fleet = Fleet::one().await;
    let started = tokio::time::Instant::now();
    tokio::time::pause();

    let answer = begin_to_publish(&fleet.nodes[0], "nobody.at-all").await;

    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let fleet = Fleet::one().await;
    tokio::time::pause();

    let answer = begin_to_publish(&fleet.nodes[0], API_KEY).await;

    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(answer.contains(r#""error":{"code":2001,"#), "{answer}");
}

#[tokio::test]
async fn more_plain_http_connections_than_there_may_be_are_closed() {
    let fleet = Fleet::start(1, EdgeConfig { max_connections: 1, ..EdgeConfig::default() }).await;
    let node = &fleet.nodes[0];
    let mut busy = Vec::new();
    for _ in 0..MOST_PLAIN {
        let mut stream = dial(node).await;
        stream.write_all(beginning(API_KEY).as_bytes()).await.expect("written");
        busy.push(stream);
    }

    let mut one_more = dial(node).await;
    let read = soon(one_more.read(&mut [0; 1])).await.expect("closed in order");

    assert_eq!(read, 0);
    assert_eq!(node.get("/healthz").await.status, 200);
    let metrics = node.get("/metrics").await.body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    let name = r#"tidewire_connections_rejected_total{transport="ws",reason="http_limit"}"#;
    assert!(metrics.contains(name), "{metrics}");

    busy.pop();
    assert_eq!(node.post(PATH, API_KEY, r#"{"data":1}"#).await.0, 200);
}

#[tokio::test]
async fn connections_that_ask_nothing_keep_nobody_out() {
    let fleet = Fleet::start(1, EdgeConfig { max_connections: 1, ..EdgeConfig::default() }).await;
    let node = &fleet.nodes[0];
    let mut idle = Vec::new();
    for _ in 0..MOST_PLAIN + MOST_PLAIN / 2 {
        idle.push(dial(node).await);
    }
    let started = tokio::time::Instant::now();

    assert_eq!(node.post(PATH, API_KEY, r#"{"data":1}"#).await.0, 200);

    // One after the other they would have kept it waiting for half a minute.
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let metrics = node.get("/metrics").await.body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    let name = r#"tidewire_connections_rejected_total{transport="ws",reason="http_idle"}"#;
    assert!(metrics.contains(name), "{metrics}");
}

#[tokio::test]
async fn a_connection_that_was_upgraded_is_no_plain_http_connection_any_more() {
    let max_connections = MOST_PLAIN + 1;
    let fleet = Fleet::start(1, EdgeConfig { max_connections, ..EdgeConfig::default() }).await;
    let node = &fleet.nodes[0];
    let mut peers = Vec::new();
    for _ in 0..max_connections {
        peers.push(Peer::connect(node, "ada").await);
    }

    assert_eq!(node.post(PATH, API_KEY, r#"{"data":1}"#).await.0, 200);
}

#[tokio::test]
async fn a_client_that_has_waited_for_the_store_in_vain_is_asked_to_come_back() {
    let fleet = Fleet::one().await;
    let mut peer = Peer::dial(&fleet.nodes[0]).await;
    fleet.sessions.silence(true);
    tokio::time::pause();

    peer.send(Command::Connect(Connect { token: Some(token("ada").into()), ..Connect::default() }));

    peer.closes_with(4500).await;
    assert_eq!(fleet.sessions.ignored(), 1);
}

#[tokio::test]
async fn in_a_crowd_who_comes_back_goes_before_who_is_new() {
    const AT_ONCE: usize = 256;
    const WAITING: usize = 20;
    let connect_timeout = Duration::from_mins(1);
    let fleet = Fleet::start(1, EdgeConfig { connect_timeout, ..EdgeConfig::default() }).await;
    let node = &fleet.nodes[0];
    let (back, connected) = Peer::connect_with(node, token("ada")).await;
    back.close().await;
    // It was opened, and released.
    until(|| fleet.sessions.asked().len() == 2).await;
    let before = 2;
    fleet.sessions.hold(true);
    let mut crowd = Vec::new();
    for _ in 0..AT_ONCE + WAITING {
        let mut peer = Peer::dial(node).await;
        peer.send(Command::Connect(Connect {
            token: Some(token("bob").into()),
            ..Connect::default()
        }));
        peer.flush().await;
        crowd.push(peer);
    }
    soon(async { while waiting(node).await < WAITING {} }).await;

    let mut back = Peer::resume(node, connected.resume_token, Vec::new()).await;
    back.flush().await;
    soon(async { while waiting(node).await < WAITING + 1 {} }).await;
    assert_eq!(fleet.sessions.asked().len(), before + AT_ONCE);
    fleet.sessions.hold(false);

    assert!(back.connected().await.resumed);
    for peer in &mut crowd {
        peer.connected().await;
    }
    assert_eq!(fleet.sessions.asked()[before + AT_ONCE], Asked::Claim);
}

/// Handshakes that wait for others' claims.
async fn waiting(node: &Running) -> usize {
    let metrics = node.get("/metrics").await.body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    let line = r#"tidewire_handshakes{state="waiting"} "#;
    let count = metrics.lines().find_map(|one| one.strip_prefix(line));
    count.map_or(0, |count| count.parse().expect("a number"))
}
