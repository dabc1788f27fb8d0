//! What a tenant may have over all nodes.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use tidewire_client::{Codec, ServerEvent};
use tidewire_edge::EdgeConfig;
use tidewire_model::{Command, Connect, Payload, Quotas, TenantLimits};
use tokio::time::{Duration, Instant, sleep};

use crate::fleet::{API_KEY, Fleet, OTHER_TENANT, Running, TENANT, claims, sign, soon, token};
use crate::peer::{Peer, text};

async fn fleet(nodes: usize, quotas: Quotas) -> Fleet {
    let limits = TenantLimits { quotas, ..TenantLimits::GENEROUS };
    Fleet::start(nodes, EdgeConfig { limits, ..EdgeConfig::default() }).await
}

fn connections(most: u32) -> Quotas {
    Quotas { connections: Some(most), ..Quotas::default() }
}

fn rates(rates: [Option<u32>; 3]) -> Quotas {
    Quotas { rates: rates.into(), ..Quotas::default() }
}

/// Connects if it may; says what it hears otherwise.
async fn try_to_connect(node: &Running) -> Result<Peer, Vec<ServerEvent>> {
    let mut peer = Peer::dial(node).await;
    peer.send(Command::Connect(Connect { token: Some(token("ada").into()), ..Connect::default() }));
    match peer.next().await {
        ServerEvent::Connected(_) => Ok(peer),
        refused => {
            let mut heard = vec![refused];
            heard.extend(peer.closes_with(1013).await);
            Err(heard)
        }
    }
}

async fn metrics(node: &Running) -> String {
    String::from_utf8_lossy(&node.get("/metrics").await.body).into_owned()
}

/// Tries to connect until it is in, or `most` are; counts what it is refused. Parts that nobody uses
/// keep places open for a while.
async fn insist(node: &Running, inside: &AtomicUsize, most: u32) -> (usize, Option<Peer>) {
    let mut refusals = 0;
    while inside.load(Ordering::Relaxed) < most as usize {
        let heard = match try_to_connect(node).await {
            Ok(peer) => {
                assert!(inside.fetch_add(1, Ordering::Relaxed) < most as usize);
                return (refusals, Some(peer));
            }
            Err(heard) => heard,
        };
        assert_names_connections(&heard, most.into());
        refusals += 1;
    }
    (refusals, None)
}

#[tokio::test]
async fn a_crowd_at_all_nodes_gets_the_quota_of_connections_and_not_one_more() {
    let fleet = fleet(3, connections(60)).await;
    let inside = AtomicUsize::new(0);
    let crowd = (0..180).map(|number| insist(&fleet.nodes[number % 3], &inside, 60));

    let crowd = soon(join_all(crowd)).await;

    assert_eq!(crowd.iter().filter(|(_, peer)| peer.is_some()).count(), 60);
    assert!(crowd.iter().any(|(refusals, _)| *refusals > 0));
    let metrics = metrics(&fleet.nodes[0]).await;
    assert!(metrics.contains(r#"tidewire_limited_total{limit="tenant_connections"}"#), "{metrics}");
    assert!(metrics.contains(r#"reason="tenant_limit""#), "{metrics}");
}

fn assert_names_connections(heard: &[ServerEvent], most: u64) {
    let [ServerEvent::Failed { refusal, .. }, ..] = heard else { unreachable!("{heard:?}") };
    let limit = refusal.limit.as_ref().expect("the limit");
    assert_eq!(
        (refusal.code, limit.name.as_str(), limit.value),
        (2006, "tenant_connections", most)
    );
    assert!(refusal.retryable && refusal.retry_after == Some(Duration::from_secs(5)));
}

#[tokio::test]
async fn whoever_resumes_gets_in_though_others_have_taken_every_place() {
    let fleet = fleet(1, connections(2)).await;
    let node = &fleet.nodes[0];
    let (away, connected) = Peer::connect_with(node, token("ada")).await;
    let _stays = Peer::connect(node, "bob").await;
    away.close().await;
    let mut taken = None;
    soon(async {
        while taken.is_none() {
            taken = try_to_connect(node).await.ok();
        }
    })
    .await;
    assert!(try_to_connect(node).await.is_err());

    let mut back = Peer::resume(node, connected.resume_token, Vec::new()).await;

    assert!(back.connected().await.resumed);
    back.published("room/1", text("hello")).await;
    drop(taken);
}

#[tokio::test]
async fn one_tenants_quota_is_not_anothers() {
    let fleet = fleet(1, connections(1)).await;
    let _only = Peer::connect(&fleet.nodes[0], "ada").await;
    assert!(try_to_connect(&fleet.nodes[0]).await.is_err());

    let mut other = Peer::dial_as(&fleet.nodes[0], Some(OTHER_TENANT), Codec::Json).await;

    other.introduce(sign(OTHER_TENANT, &claims(OTHER_TENANT, "ada"))).await;
}

/// Publishes more than passes from two connections, and again when it may.
async fn assert_limits(
    quotas: Quotas,
    payload: Payload,
    (passes, name, value): (usize, &str, u64),
) {
    let fleet = fleet(1, quotas).await;
    let mut peers = Vec::new();
    for codec in [Codec::Json, Codec::Protobuf] {
        let mut peer = Peer::dial_as(&fleet.nodes[0], Some(TENANT), codec).await;
        peer.introduce(token("ada")).await;
        peers.push(peer);
    }
    for peer in &mut peers {
        for _ in 0..passes {
            peer.publish("room/1", payload.clone());
        }
        peer.flush().await;
    }
    let (mut taken, mut refusals) = (0, Vec::new());
    for peer in &mut peers {
        let mut waits = Vec::new();
        for _ in 0..passes {
            match peer.next().await {
                ServerEvent::Failed { refusal, .. } => {
                    waits.push(refusal.retry_after);
                    refusals.push(refusal);
                }
                _ => taken += 1,
            }
        }
        assert!(waits.is_sorted(), "in the order they were sent: {waits:?}");
    }

    // What was earned meanwhile passes as well.
    assert!((passes..2 * passes).contains(&taken), "{taken}");
    let refusal = refusals.pop().expect("one");
    let limit = refusal.limit.as_ref().expect("the limit");
    assert_eq!((refusal.code, limit.name.as_str(), limit.value), (2005, name, value));
    assert!(refusal.message.contains("on all nodes"), "{}", refusal.message);
    sleep(refusal.retry_after.expect("a time")).await;
    peers[1].published("room/1", payload).await;
}

#[tokio::test]
async fn publications_of_all_connections_count_together() {
    let quotas = rates([Some(10), None, None]);

    assert_limits(quotas, text("hello"), (10, "tenant_publish_rate", 10)).await;
}

#[tokio::test]
async fn bytes_of_all_connections_count_together() {
    let quotas = rates([None, Some(1_000), None]);

    let payload = Payload::binary(vec![7; 100].into());
    assert_limits(quotas, payload, (10, "tenant_bytes_in", 1_000)).await;
}

#[tokio::test]
async fn servers_are_told_429_and_no_publication_overtakes_another_of_its_batch() {
    let fleet = fleet(1, rates([Some(2), None, None])).await;
    let item = |channel| format!(r#"{{"channel":"{channel}","data":1}}"#);
    let items: Vec<_> = ["a", "b", "a", "b", "a"].map(item).into();
    let batch = format!(r#"{{"publications":[{}]}}"#, items.join(","));
    let path = format!("/v1/{TENANT}/publications");

    let (status, answer) = fleet.nodes[0].post(&path, API_KEY, batch).await;
    assert_eq!(status, 200);
    let errors = answer["results"].as_array().expect("results").iter();
    let refused: Vec<_> = errors.map(|one| one["error"]["code"] == 2005).collect();
    assert_eq!(refused, [false, false, true, true, true]);

    let path = format!("/v1/{TENANT}/channels/lobby/publications");
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(fleet.nodes[0].post(&path, API_KEY, r#"{"data":1}"#).await);
    }
    let refused = answers.iter().find(|(status, _)| *status == 429).expect("one");
    let limit = serde_json::json!({"name": "tenant_publish_rate", "value": 2});
    assert_eq!(refused.1["error"]["limit"], limit);
    assert!(refused.1["error"]["retry_after_ms"].as_u64().expect("a time") <= 500);
}

#[tokio::test]
async fn what_a_tenants_clients_are_sent_too_fast_waits_and_comes_in_order() {
    const COUNT: usize = 40;
    let fleet = fleet(1, rates([None, None, Some(20_000)])).await;
    let node = &fleet.nodes[0];
    let mut reader = Peer::connect(node, "ada").await;
    reader.subscribe("room/1").await;
    let mut writer = Peer::connect(node, "bob").await;
    let mut other = Peer::dial_as(node, Some(OTHER_TENANT), Codec::Json).await;
    other.introduce(sign(OTHER_TENANT, &claims(OTHER_TENANT, "eve"))).await;
    other.subscribe("room/1").await;
    let started = Instant::now();

    for number in 0..COUNT {
        let payload = format!("{number}{}", "x".repeat(1_000));
        writer.publish("room/1", text(&payload));
    }
    // All at once, so that it is too fast however busy the machine is.
    for _ in 0..COUNT {
        let answer = writer.next().await;
        assert!(matches!(answer, ServerEvent::Published { .. }), "{answer:?}");
    }
    other.published("room/1", text("meanwhile")).await;
    let mut heard = Vec::new();
    while heard.len() < COUNT {
        heard.extend(reader.publications().await.into_iter().map(|one| one.position.offset));
    }
    writer.published("room/1", text("the last")).await;
    while heard.len() <= COUNT {
        heard.extend(reader.publications().await.into_iter().map(|one| one.position.offset));
    }

    assert!(heard.is_sorted(), "{heard:?}");
    // A second's worth and what comes in a turn pass at once; the next waits until that is earned.
    assert!(started.elapsed() > Duration::from_millis(800), "{:?}", started.elapsed());
    let limited = metrics(node).await;
    assert!(limited.contains(r#"tidewire_limited_total{limit="tenant_bytes_out"}"#), "{limited}");
}

#[tokio::test]
async fn what_is_not_used_at_one_node_is_to_be_had_at_another() {
    let fleet = fleet(2, connections(4)).await;
    let mut first = Vec::new();
    for _ in 0..4 {
        first.push(Peer::connect(&fleet.nodes[0], "ada").await);
    }
    assert!(try_to_connect(&fleet.nodes[1]).await.is_err());

    for peer in first {
        peer.close().await;
    }

    let node = &fleet.nodes[1];
    let mut second = Vec::new();
    soon(async {
        while second.len() < 4 {
            second.extend(try_to_connect(node).await.ok());
        }
    })
    .await;
}
