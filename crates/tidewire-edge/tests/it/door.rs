//! Who is let in, and how fast.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tidewire_client::{Codec, ServerEvent};
use tidewire_edge::{DoorConfig, EdgeConfig};
use tidewire_model::{Command, Connect, Pace, TenantLimits};
use tidewire_transport::http::{Response, request};
use tokio::time::Instant;

use crate::fleet::{Fleet, OTHER_TENANT, Running, claims, sign, token};
use crate::origins::visit_with;
use crate::peer::Peer;
use crate::upgrade::UPGRADE;

const HEADER: &str = "x-forwarded-for";
/// Of the documentation's addresses.
const ADDRESS: &str = "203.0.113.7";

async fn fleet(door: DoorConfig) -> Fleet {
    Fleet::start(1, EdgeConfig { door, ..EdgeConfig::default() }).await
}

/// A node behind a balancer, which is what connects to it here.
async fn behind_a_balancer(address: Pace) -> Fleet {
    let proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    fleet(DoorConfig { address, proxies, ..DoorConfig::OPEN }).await
}

/// What is answered instead of an upgrade, if something is.
pub(crate) async fn turned_away(node: &Running, headers: &[(&str, &str)]) -> Option<Response> {
    let url = format!("http://{}/v1/ws", node.address);
    let headers = [&UPGRADE[..], headers].concat();
    let answer = request(Method::GET, &url, &headers, Bytes::new()).await.expect("an answer");
    (answer.status != 101).then_some(answer)
}

/// That an answer says which limit is in the way, what it is set to, and when to come back.
pub(crate) fn assert_names(refused: &Response, (code, name, value): (u16, &str, u64)) {
    assert_eq!(refused.status, 503);
    let body: Value = serde_json::from_slice(&refused.body).expect("json");
    let error = &body["error"];
    assert_eq!((&error["code"], &error["retryable"]), (&json!(code), &json!(true)));
    assert_eq!(error["limit"], json!({ "name": name, "value": value }));
    let seconds = refused.headers["retry-after"].to_str().expect("text");
    let seconds: u64 = seconds.parse().expect("seconds");
    assert!((1..=6).contains(&seconds), "{seconds}");
    assert!(error["retry_after_ms"].as_u64().expect("a time") <= seconds * 1_000);
    assert_eq!(refused.headers["connection"], "close");
}

/// How many of an address are let in until one is not, and what that one is told.
async fn come(node: &Running, address: &str, most: usize) -> (usize, Option<Response>) {
    for count in 0..most {
        if let Some(refused) = turned_away(node, &[(HEADER, address)]).await {
            return (count, Some(refused));
        }
    }
    (most, None)
}

async fn has_counted(node: &Running, what: &str) {
    let metrics = node.get("/metrics").await.body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    assert!(metrics.contains(what), "{metrics}");
}

#[tokio::test]
async fn an_address_that_comes_too_often_is_turned_away_and_its_neighbours_are_not() {
    let fleet = behind_a_balancer(Pace { per_second: 1, burst: 5 }).await;
    let node = &fleet.nodes[0];

    let (count, refused) = come(node, ADDRESS, 100).await;

    assert!(count >= 5, "{count}");
    assert_names(&refused.expect("too many"), (2005, "address_rate", 1));
    assert_eq!(come(node, "203.0.113.8", 5).await.0, 5);
    has_counted(node, r#"rejected_total{transport="ws",reason="address_rate"}"#).await;
    has_counted(node, r#"tidewire_limited_total{limit="address_rate"}"#).await;
}

#[tokio::test]
async fn what_a_client_writes_before_its_balancer_does_lets_it_in_no_sooner() {
    let fleet = behind_a_balancer(Pace { per_second: 1, burst: 5 }).await;
    let node = &fleet.nodes[0];

    let mut count = 0;
    while turned_away(node, &[(HEADER, &format!("198.51.100.{count}, {ADDRESS}"))]).await.is_none()
    {
        count += 1;
        assert!(count < 100, "as many addresses as it makes up");
    }

    assert!(come(node, ADDRESS, 2).await.1.is_some());
}

#[tokio::test]
async fn a_stranger_that_says_for_whom_it_asks_is_not_believed() {
    let address = Pace { per_second: 1, burst: 1 };
    let fleet = fleet(DoorConfig { address, ..DoorConfig::OPEN }).await;

    // Believed, it would have come too often: of this machine itself nobody counts it.
    assert_eq!(come(&fleet.nodes[0], ADDRESS, 30).await.0, 30);
}

#[tokio::test]
async fn whoever_guesses_is_soon_too_often_here() {
    let fleet = behind_a_balancer(Pace { per_second: 1, burst: 40 }).await;
    let node = &fleet.nodes[0];
    for _ in 0..3 {
        let guess = visit_with(node, Some((HEADER, ADDRESS)), json!({ "token": "a.b.c" })).await;
        assert_eq!(guess.expect_err("no token").0, 4401);
    }

    let (count, refused) = come(node, ADDRESS, 40).await;

    // Ten each, and what was earned meanwhile.
    assert!(refused.is_some() && count < 30, "{count}");
}

#[tokio::test]
async fn a_crowd_waits_for_its_turn_at_the_door_and_nobody_of_it_is_turned_away() {
    let handshakes = Pace { per_second: 40, burst: 20 };
    let fleet = fleet(DoorConfig { handshakes, ..DoorConfig::OPEN }).await;
    let node = &fleet.nodes[0];
    let started = Instant::now();

    let crowd = (0..60).map(|_| turned_away(node, &[]));
    let refused = futures_util::future::join_all(crowd).await;

    assert!(refused.iter().all(Option::is_none));
    assert!(started.elapsed() >= Duration::from_millis(950), "{:?}", started.elapsed());
    has_counted(node, "tidewire_handshakes_paced_total").await;
}

#[tokio::test]
async fn a_tenant_whose_clients_connect_too_often_is_told_so_and_no_other_is() {
    let limits = TenantLimits {
        tenant_connects: Pace { per_second: 1, burst: 3 },
        ..TenantLimits::GENEROUS
    };
    let fleet = Fleet::start(1, EdgeConfig { limits, ..EdgeConfig::default() }).await;
    let node = &fleet.nodes[0];
    let (back, connected) = Peer::connect_with(node, token("ada")).await;
    back.close().await;

    let mut inside = Vec::new();
    let heard = loop {
        let mut peer = Peer::dial(node).await;
        peer.send(Command::Connect(Connect {
            token: Some(token("bob").into()),
            ..Connect::default()
        }));
        match peer.next().await {
            ServerEvent::Connected(_) => inside.push(peer),
            refused => {
                peer.closes_with(1013).await;
                break refused;
            }
        }
        assert!(inside.len() < 100);
    };

    let ServerEvent::Failed { refusal, .. } = heard else { unreachable!("{heard:?}") };
    let limit = refusal.limit.expect("the limit");
    let expected = (2005, "tenant_connect_rate", 1);
    assert_eq!((refusal.code, limit.name.as_str(), limit.value), expected);
    let wait = refusal.retry_after.expect("a time");
    assert!((1..=6).contains(&wait.as_secs()), "{wait:?}");
    has_counted(node, r#"tidewire_limited_total{limit="tenant_connect_rate"}"#).await;

    let mut resumed = Peer::resume(node, connected.resume_token, Vec::new()).await;
    assert!(resumed.connected().await.resumed, "whoever comes back is never kept out");
    for _ in 0..3 {
        let mut other = Peer::dial_as(node, Some(OTHER_TENANT), Codec::Json).await;
        other.introduce(sign(OTHER_TENANT, &claims(OTHER_TENANT, "eve"))).await;
    }
}
