//! Pages of browsers, which say where they are from, at tenants that list whom they want.

use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use serde_json::{Value, json};
use tidewire_transport::http::request;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::fleet::{OTHER_TENANT, Running, TENANT, claims, secret, sign, soon, token};
use crate::peer::Peer;
use crate::registry::{Registered, json_of};

pub(crate) const HOME: &str = "https://app.example";

/// A node with a tenant whose pages are from these origins.
async fn node_with(origins: &[&str]) -> Registered {
    let nodes = Registered::start(1).await;
    list(&nodes, origins).await;
    nodes
}

async fn list(nodes: &Registered, origins: &[&str]) {
    let key = json!({ "id": TENANT, "algorithm": "HS256", "secret": secret(TENANT) });
    let api_key = json!({ "id": "server", "secret": secret("server") });
    let document = json!({
        "name": TENANT, "keys": [key], "api_keys": [api_key], "allowed_origins": origins,
    });
    let path = format!("/v1/tenants/{TENANT}");
    let put = nodes.ask(http::Method::PUT, &path, &[], document.to_string()).await;
    assert!(put.status.is_success(), "{:?}", put.body);
}

/// What a page hears first, or with which code it is disconnected and what it was told before.
pub(crate) async fn visit(
    nodes: &Registered,
    origin: Option<&str>,
    connect: Value,
) -> Result<Value, (u16, Value)> {
    let header = origin.map(|origin| ("origin", origin));
    visit_with(&nodes.fleet.nodes[0], header, connect).await
}

/// The same of any client that sends such headers.
pub(crate) async fn visit_with(
    node: &Running,
    headers: impl IntoIterator<Item = (&'static str, &str)>,
    connect: Value,
) -> Result<Value, (u16, Value)> {
    let address = node.address;
    let mut request =
        format!("ws://{address}/v1/{TENANT}/ws").into_client_request().expect("a url");
    request
        .headers_mut()
        .insert("sec-websocket-protocol", "tidewire.v1.json".parse().expect("a value"));
    for (name, value) in headers {
        request.headers_mut().insert(name, value.parse().expect("a value"));
    }
    let stream = soon(TcpStream::connect(address)).await.expect("a connection");
    let upgraded = soon(Box::pin(tokio_tungstenite::client_async(request, stream))).await;
    let mut page = upgraded.expect("upgraded").0;
    let first = json!({ "id": 1, "connect": connect }).to_string();
    soon(page.send(Message::text(first))).await.expect("sent");
    let mut told = Value::Null;
    loop {
        match soon(page.next()).await.expect("open").expect("connected") {
            Message::Text(text) => {
                told = serde_json::from_str(&text).expect("json");
                if text.contains("\"connected\"") {
                    return Ok(told);
                }
            }
            Message::Close(Some(close)) => return Err((close.code.into(), told)),
            _ => {}
        }
    }
}

fn bearing(token: &str) -> Value {
    json!({ "token": token })
}

#[tokio::test]
async fn a_page_uses_a_tenant_that_lists_its_origin_and_no_other() {
    let nodes = node_with(&[HOME, "http://localhost:3000"]).await;

    for origin in [Some(HOME), Some("HTTPS://App.Example"), Some("http://localhost:3000"), None] {
        assert!(visit(&nodes, origin, bearing(&token("ada"))).await.is_ok(), "{origin:?}");
    }
    for foreign in [
        "https://app.example.evil.example",
        "https://evil-app.example",
        "https://app.example:8443",
        "http://app.example",
        "http://localhost",
        "null",
    ] {
        let (code, told) =
            visit(&nodes, Some(foreign), bearing(&token("ada"))).await.expect_err(foreign);
        assert_eq!(code, 4405, "{foreign}");
        assert!(told.to_string().contains("1104"), "{told}");
    }
}

#[tokio::test]
async fn who_proves_nothing_hears_nothing_of_origins() {
    let nodes = node_with(&[HOME]).await;
    let forged = sign(OTHER_TENANT, &claims(TENANT, "ada"));
    let unknown = sign(OTHER_TENANT, &claims(OTHER_TENANT, "ada"));

    let mut heard = Vec::new();
    for token in [forged, unknown] {
        for origin in [HOME, "https://evil.example"] {
            heard.push(visit(&nodes, Some(origin), bearing(&token)).await.expect_err("refused"));
        }
    }

    assert_eq!(heard[0].0, 4401);
    assert!(heard.iter().all(|one| *one == heard[0]), "{heard:?}");
}

#[tokio::test]
async fn a_foreign_page_takes_no_session_from_anybody() {
    let nodes = node_with(&[HOME]).await;
    let node = &nodes.fleet.nodes[0];
    let (peer, connected) = Peer::connect_with(node, token("ada")).await;
    let resume_token = connected.resume_token.as_ref().expect("kept").as_str();
    let resume = json!({ "resume": { "token": resume_token, "nonce": "00".repeat(16) } });

    let (code, _) =
        visit(&nodes, Some("https://evil.example"), resume.clone()).await.expect_err("refused");
    assert_eq!(code, 4405);
    peer.0.close().await;

    let back = visit(&nodes, Some(HOME), resume).await.expect("resumed");
    assert!(back.to_string().contains("\"resumed\":true"), "{back}");
}

#[tokio::test]
async fn a_list_that_changes_holds_for_who_comes_next_and_for_servers_too() {
    let nodes = node_with(&[HOME]).await;
    let other = "https://other.example";
    let publish = async |origin: &str| {
        let url = format!(
            "http://{}/v1/{TENANT}/channels/lobby/publications",
            nodes.fleet.nodes[0].address
        );
        let bearer = format!("Bearer server.{}", secret("server"));
        let headers = [("authorization", bearer.as_str()), ("origin", origin)];
        let answer =
            request(http::Method::POST, &url, &headers, r#"{"data":1}"#).await.expect("an answer");
        (answer.status, json_of(&answer)["error"]["code"].clone())
    };

    assert!(visit(&nodes, Some(other), bearing(&token("ada"))).await.is_err());
    assert_eq!(publish(HOME).await, (StatusCode::OK, Value::Null));
    assert_eq!(publish(other).await, (StatusCode::FORBIDDEN, json!(1104)));
    list(&nodes, &[other]).await;
    assert!(visit(&nodes, Some(other), bearing(&token("ada"))).await.is_ok());
    assert_eq!(publish(HOME).await, (StatusCode::FORBIDDEN, json!(1104)));
    list(&nodes, &[]).await;
    assert_eq!(publish(HOME).await, (StatusCode::OK, Value::Null));
}
