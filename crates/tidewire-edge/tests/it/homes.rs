//! Clients that come to another node than their tenant is at home on.

use std::num::NonZeroU8;
use std::time::Duration;

use tidewire_client::ServerEvent;
use tidewire_edge::{DrainConfig, EdgeConfig, PlacementConfig};
use tidewire_model::{ChannelRules, SessionKind};
use tidewire_tenant::TenantDetails;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fleet::{Fleet, TENANT, soon, tenants_with};
use crate::peer::{Bystander, Peer, text};

const WINDOW: Duration = Duration::from_millis(100);

/// Two nodes, of which the tenant is at home on one: its number, and the other's.
async fn two_nodes(redirects: bool, sessions: SessionKind) -> (Fleet, usize, usize) {
    let details = TenantDetails { homes: NonZeroU8::new(1), sessions, ..TenantDetails::default() };
    let config = EdgeConfig {
        placement: PlacementConfig { redirects, ..PlacementConfig::default() },
        drain: DrainConfig { window: WINDOW, ..DrainConfig::default() },
        ..EdgeConfig::default()
    };
    let fleet = Fleet::of(2, config, tenants_with(ChannelRules::default(), details)).await;
    let home = soon(async {
        loop {
            let (first, second) = (home_of(&fleet, 0).await, home_of(&fleet, 1).await);
            if first.is_some() && second.is_some() {
                return first;
            }
        }
    });
    let home = usize::from(home.await.as_deref() != Some("node-0"));
    (fleet, home, 1 - home)
}

/// Where a node takes the tenant to be at home, once it knows of both.
async fn home_of(fleet: &Fleet, node: usize) -> Option<String> {
    let answer = fleet.nodes[node].get(&format!("/placement/{TENANT}")).await;
    let placed: serde_json::Value = serde_json::from_slice(&answer.body).expect("json");
    let is_whole = placed["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2);
    let home = placed["homes"][0]["node"].as_str().filter(|_| is_whole)?;
    Some(home.to_owned())
}

/// Nobody but these tests comes to the wrong node.
async fn count(fleet: &Fleet, name: &str) -> f64 {
    let metrics = fleet.nodes[0].get("/metrics").await.body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().expect("a number"))
}

#[tokio::test]
async fn a_client_elsewhere_than_at_home_is_counted_and_served_like_any_other() {
    const TOTAL: &str = "tidewire_connections_misrouted_total";
    let (fleet, home, elsewhere) = two_nodes(false, SessionKind::Lazy).await;
    let before = count(&fleet, TOTAL).await;

    let mut stranger = Bystander::watch_at(&fleet.nodes[elsewhere]).await;
    let mut native = Bystander::watch_at(&fleet.nodes[home]).await;

    assert!(count(&fleet, TOTAL).await > before);
    assert!(count(&fleet, "tidewire_connections_misrouted").await >= 1.0);
    for client in [&mut stranger, &mut native] {
        client.is_undisturbed().await;
    }
}

#[tokio::test]
async fn a_new_client_elsewhere_is_told_where_home_is_and_takes_its_session_there() {
    let (fleet, home, elsewhere) = two_nodes(true, SessionKind::Lazy).await;
    let mut at_home = Bystander::watch_at(&fleet.nodes[home]).await;
    let mut old = Peer::connect(&fleet.nodes[elsewhere], "ada").await;

    let ServerEvent::Reconnect { after, window, token, endpoints } = old.next().await else {
        unreachable!("no hint")
    };

    assert!(after <= Duration::from_secs(2), "{after:?}");
    assert_eq!(window, WINDOW);
    assert_eq!(endpoints, [format!("ws://{}", fleet.nodes[home].address)]);
    let mut new = Peer::resume(&fleet.nodes[home], token, Vec::new()).await;
    assert!(new.connected().await.resumed);
    new.published("room/1", text("at home")).await;
    old.closes_with(4408).await;
    at_home.is_undisturbed().await;
}

#[tokio::test]
async fn a_client_that_stays_is_served_on_and_leaves_with_the_others_when_the_node_does() {
    let (fleet, _, elsewhere) = two_nodes(true, SessionKind::Lazy).await;
    let mut stayer = Peer::connect(&fleet.nodes[elsewhere], "bob").await;
    let ServerEvent::Reconnect { after, window, .. } = stayer.next().await else {
        unreachable!("no hint")
    };

    let window_passed = Instant::now() + after + window + Duration::from_millis(500);
    while Instant::now() < window_passed {
        stayer.published("room/1", text("served after its window")).await;
    }

    let edge = fleet.nodes[elsewhere].edge.clone();
    fleet.spawn(async move { edge.drain(&CancellationToken::new()).await });
    let heard = stayer.closes_with(1012).await;
    assert!(matches!(heard[0], ServerEvent::Reconnect { .. }), "{heard:?}");
}

#[tokio::test]
async fn a_client_that_comes_back_to_the_wrong_node_is_not_sent_to_and_fro() {
    let (fleet, _, elsewhere) = two_nodes(true, SessionKind::Lazy).await;
    let mut stayer = Peer::connect(&fleet.nodes[elsewhere], "bob").await;
    let ServerEvent::Reconnect { token, .. } = stayer.next().await else { unreachable!("no hint") };

    let mut back = Peer::resume(&fleet.nodes[elsewhere], token, Vec::new()).await;

    assert!(back.connected().await.resumed);
    back.pinged().await;
    back.subscribe("room/1").await;
}

#[tokio::test]
async fn a_client_whose_session_is_not_kept_is_sent_nowhere() {
    let (fleet, _, elsewhere) = two_nodes(true, SessionKind::None).await;

    let mut client = Bystander::watch_at(&fleet.nodes[elsewhere]).await;

    client.is_undisturbed().await;
}

#[tokio::test]
async fn at_home_or_where_nobody_is_redirected_no_hint_is_given() {
    let (fleet, home, _) = two_nodes(true, SessionKind::Lazy).await;
    let mut native = Bystander::watch_at(&fleet.nodes[home]).await;
    let (other, _, elsewhere) = two_nodes(false, SessionKind::Lazy).await;
    let mut stranger = Bystander::watch_at(&other.nodes[elsewhere]).await;

    native.is_undisturbed().await;
    stranger.is_undisturbed().await;
}
