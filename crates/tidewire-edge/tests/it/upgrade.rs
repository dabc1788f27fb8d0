//! From HTTP to a WebSocket, or not.

use bytes::Bytes;
use http::{HeaderMap, Method};
use tidewire_edge::EdgeConfig;
use tidewire_transport::http::request;

use crate::door::{assert_names, turned_away};
use crate::fleet::{Fleet, Running, TENANT, soon};
use crate::peer::{Bystander, Peer};

pub(crate) const UPGRADE: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

async fn ask(node: &Running, path: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap) {
    let url = format!("http://{}{path}", node.address);
    let answer = request(Method::GET, &url, headers, Bytes::new()).await.expect("an answer");
    assert_eq!(answer.headers["cache-control"], "no-store");
    (answer.status.as_u16(), answer.headers)
}

#[tokio::test]
async fn what_is_no_upgrade_is_answered_with_a_status_that_says_why() {
    let fleet = Fleet::one().await;
    let mut bystander = Bystander::watch(&fleet).await;
    let node = &fleet.nodes[0];
    let path = format!("/v1/{TENANT}/ws");
    let with = |name, value| [&UPGRADE[..], &[(name, value)]].concat();

    let (plain, headers) = ask(node, &path, &[]).await;
    assert_eq!(plain, 426);
    assert_eq!(headers["upgrade"], "websocket");
    assert_eq!(ask(node, "/v1/ws", &[]).await.0, 426);
    assert_eq!(ask(node, &path, &with("sec-websocket-protocol", "mqtt")).await.0, 400);
    assert_eq!(ask(node, &path, &UPGRADE[..3]).await.0, 400);
    assert_eq!(ask(node, "/v1/No-Tenant/ws", &UPGRADE).await.0, 400);
    assert_eq!(ask(node, "/v2/ws", &UPGRADE).await.0, 404);

    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn an_origin_that_is_not_on_the_list_is_refused() {
    let allowed_origins = vec!["https://app.example".into()];
    let fleet = Fleet::start(1, EdgeConfig { allowed_origins, ..EdgeConfig::default() }).await;
    let node = &fleet.nodes[0];
    let with = |origin| [&UPGRADE[..], &[("origin", origin)]].concat();

    for foreign in ["https://evil.example", "null", "https://app.example.evil.example"] {
        assert_eq!(ask(node, "/v1/ws", &with(foreign)).await.0, 403, "{foreign}");
    }
    assert_eq!(ask(node, "/v1/ws", &with("https://app.example")).await.0, 101);
    assert_eq!(ask(node, "/v1/ws", &UPGRADE).await.0, 101);
}

#[tokio::test]
async fn a_full_node_asks_to_come_back() {
    let fleet = Fleet::start(1, EdgeConfig { max_connections: 1, ..EdgeConfig::default() }).await;
    let mut bystander = Bystander::watch(&fleet).await;

    let refused = turned_away(&fleet.nodes[0], &[]).await.expect("no room");

    assert_names(&refused, (2002, "max_connections", 1));
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn room_is_free_again_when_a_client_has_left() {
    let fleet = Fleet::start(1, EdgeConfig { max_connections: 1, ..EdgeConfig::default() }).await;
    let peer = Peer::connect(&fleet.nodes[0], "ada").await;

    peer.0.close().await;

    // The goodbye has been answered; the task that answered may have a step to go.
    soon(async { while ask(&fleet.nodes[0], "/v1/ws", &UPGRADE).await.0 == 503 {} }).await;
}
