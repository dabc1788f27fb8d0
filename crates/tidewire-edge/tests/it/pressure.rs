//! A node that runs out of memory, as far as it is told.

use std::time::Duration;

use tidewire_client::{Refusal, ServerEvent};
use tidewire_edge::{EdgeConfig, Pressure};
use tidewire_model::{Command, Connect, Payload, Since};

use crate::door::{assert_names, turned_away};
use crate::fleet::{Fleet, Running, soon, token};
use crate::peer::{Bystander, Peer, channel};

const LIMIT: u64 = 1_000_000;

fn assert_for_memory(refusal: Refusal) {
    let limit = refusal.limit.expect("the limit");
    assert_eq!((refusal.code, limit.name.as_str(), limit.value), (2006, "node_memory", LIMIT));
    let wait = refusal.retry_after.expect("a time");
    assert!((1..=6).contains(&wait.as_secs()), "{wait:?}");
}

/// Upgrades and says who it is; what it is refused with, if it is.
async fn try_to_connect(node: &Running) -> Result<Peer, Refusal> {
    let mut peer = Peer::dial(node).await;
    peer.send(Command::Connect(Connect {
        token: Some(token("ada").into()),
        ticket: None,
        resume: None,
    }));
    match peer.next().await {
        ServerEvent::Connected(_) => Ok(peer),
        ServerEvent::Failed { refusal, .. } => {
            peer.closes_with(1013).await;
            Err(refusal)
        }
        other => unreachable!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_that_is_full_lets_in_who_resumes_and_nobody_else_until_it_is_not() {
    let fleet = Fleet::one().await;
    let node = &fleet.nodes[0];
    let mut bystander = Bystander::watch(&fleet).await;
    let (away, connected) = Peer::connect_with(node, token("ada")).await;
    away.close().await;

    node.edge.feel(Pressure::Full, LIMIT).await;

    assert_for_memory(try_to_connect(node).await.err().expect("nobody new is let in"));
    let mut back = Peer::resume(node, connected.resume_token, Vec::new()).await;
    assert!(back.connected().await.resumed);
    back.subscribe("room/1").await;
    bystander.is_undisturbed().await;
    let metrics = node.get("/metrics").await.body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    assert!(metrics.contains(r#"rejected_total{transport="ws",reason="memory"}"#), "{metrics}");
    assert!(metrics.contains(r#"tidewire_limited_total{limit="node_memory"}"#), "{metrics}");

    node.edge.feel(Pressure::Tight, LIMIT).await;
    assert!(try_to_connect(node).await.is_ok());
}

#[tokio::test]
async fn who_resumes_a_session_that_is_gone_is_new() {
    let fleet = Fleet::one().await;
    let node = &fleet.nodes[0];
    node.edge.feel(Pressure::Full, LIMIT).await;

    let mut peer = Peer::dial(node).await;
    let resume = tidewire_model::Resume {
        token: "gone".into(),
        nonce: tidewire_model::SessionNonce::from_bytes([7; 16]),
        positions: Vec::new(),
    };
    peer.send(Command::Connect(Connect {
        token: Some(token("ada").into()),
        ticket: None,
        resume: Some(resume),
    }));

    assert_for_memory(peer.refused().await.1);
    peer.closes_with(1013).await;
}

#[tokio::test]
async fn where_memory_is_scarce_nobody_comes_in_and_nothing_more_is_subscribed_to() {
    let fleet = Fleet::one().await;
    let node = &fleet.nodes[0];
    let mut bystander = Bystander::watch(&fleet).await;
    let mut peer = Peer::connect(node, "ada").await;
    let (away, connected) = Peer::connect_with(node, token("bob")).await;
    away.close().await;
    // It has upgraded, and says who it is only when nobody is let in any more.
    let mut upgraded = Peer::dial(node).await;

    node.edge.feel(Pressure::Scarce, LIMIT).await;

    let refused = turned_away(node, &[]).await.expect("nobody comes in");
    assert_names(&refused, (2006, "node_memory", LIMIT));
    let resume = tidewire_model::Resume {
        token: connected.resume_token.expect("it is kept"),
        nonce: tidewire_model::SessionNonce::from_bytes([7; 16]),
        positions: Vec::new(),
    };
    upgraded.send(Command::Connect(Connect { token: None, ticket: None, resume: Some(resume) }));
    assert_for_memory(upgraded.refused().await.1);
    let room = || Command::Subscribe {
        channel: channel("room/1"),
        since: Since::Now,
        delta: None,
        token: None,
    };
    peer.send(room());
    assert_for_memory(peer.refused().await.1);
    bystander.is_undisturbed().await;

    node.edge.feel(Pressure::Ease, LIMIT).await;
    peer.send(room());
    peer.subscribed().await;
    assert!(turned_away(node, &[]).await.is_none());
}

#[tokio::test]
async fn where_memory_is_scarce_who_is_slow_is_disconnected_at_once() {
    let config = EdgeConfig {
        slow_after: Duration::from_millis(100),
        write_timeout: Duration::from_mins(5),
        ..EdgeConfig::default()
    };
    let fleet = Fleet::start(1, config).await;
    let node = &fleet.nodes[0];
    let mut bystander = Bystander::watch(&fleet).await;
    let mut reader = Peer::connect(node, "ada").await;
    reader.subscribe("room/1").await;
    let mut publisher = Peer::connect(node, "bob").await;
    let everybody = node.edge.connections();
    // More than the kernel and the node have room for on the way to it.
    for _ in 0..600 {
        publisher.published("room/1", Payload::binary(vec![7; 32 * 1_024].into())).await;
    }
    assert_eq!(node.edge.connections(), everybody, "there is memory for it");

    soon(async {
        while node.edge.connections() == everybody {
            node.edge.feel(Pressure::Scarce, LIMIT).await;
            bystander.is_undisturbed().await;
        }
    })
    .await;

    reader.closes_with(4508).await;
}
