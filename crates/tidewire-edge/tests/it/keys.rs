//! Keys of a tenant that are made, rotated and removed one at a time.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tidewire_auth::{KeyId, SigningKey};
use tidewire_broker::News;
use tidewire_model::Tenant;
use tidewire_store::{Seen, TenantStore as _};

use crate::fleet::{TENANT, claims, until};
use crate::peer::{Peer, text};
use crate::registry::{Registered, json_of, refused_with, vault};

const KEYS: &str = "/v1/tenants/acme/keys";
const API_KEYS: &str = "/v1/tenants/acme/api-keys";

async fn post(nodes: &Registered, path: &str, body: Value) -> (u16, Value) {
    let answer = nodes.ask(Method::POST, path, &[], body.to_string()).await;
    (answer.status.as_u16(), json_of(&answer))
}

async fn delete(nodes: &Registered, path: &str) -> u16 {
    nodes.ask(Method::DELETE, path, &[], "").await.status.as_u16()
}

/// What comes of publishing with an API key.
async fn publishing(nodes: &Registered, key: &str) -> u16 {
    let path = format!("/v1/{TENANT}/channels/lobby/publications");
    nodes.fleet.nodes[0].post(&path, key, r#"{"data":1}"#).await.0.as_u16()
}

fn key_of(answer: &Value) -> String {
    answer["key"].as_str().expect("a key").to_owned()
}

#[tokio::test]
async fn a_servers_key_is_shown_once_and_rotated_while_nothing_fails() {
    let nodes = Registered::start(1).await;
    nodes.put(TENANT, &[]).await;

    let (status, made) = post(&nodes, API_KEYS, json!({ "id": "server" })).await;
    let first = key_of(&made);
    assert_eq!((status, publishing(&nodes, &first).await), (201, 200));
    let shown = nodes.ask(Method::GET, "/v1/tenants/acme", &[], "").await;
    assert!(!String::from_utf8_lossy(&shown.body).contains(&first["server.".len()..]));

    let rotate = format!("{API_KEYS}/server/rotate");
    let second = key_of(&post(&nodes, &rotate, json!({ "overlap": "1h" })).await.1);
    assert_eq!([publishing(&nodes, &first).await, publishing(&nodes, &second).await], [200; 2]);
    // What is shown can be put back while there are two.
    let shown = nodes.ask(Method::GET, "/v1/tenants/acme", &[], "").await;
    assert!(json_of(&shown)["api_keys"][0].get("previous_sha256").is_none());
    let back = nodes.ask(Method::PUT, "/v1/tenants/acme", &[], shown.body).await;
    assert_eq!(back.status, StatusCode::OK, "{:?}", back.body);
    assert_eq!(publishing(&nodes, &first).await, 200);

    let third = key_of(&post(&nodes, &rotate, json!({ "overlap": "0s" })).await.1);
    assert_eq!(publishing(&nodes, &first).await, 401);
    assert_eq!([publishing(&nodes, &second).await, publishing(&nodes, &third).await], [401, 200]);
    assert_eq!(delete(&nodes, &format!("{API_KEYS}/server")).await, 204);
    assert_eq!(publishing(&nodes, &third).await, 401);
}

#[tokio::test]
async fn a_servers_key_does_what_its_scopes_say_until_it_expires() {
    let nodes = Registered::start(1).await;
    nodes.put(TENANT, &[]).await;

    let tickets = json!({ "id": "tickets", "scopes": ["tickets"] });
    let expired = json!({ "id": "expired", "expires_at": 1_000_000_000 });
    let narrow = json!({ "id": "narrow", "channels": { "room/*": ["publish"] } });
    let mut answers = Vec::new();
    for key in [tickets, expired, narrow] {
        let key = key_of(&post(&nodes, API_KEYS, key).await.1);
        answers.push(publishing(&nodes, &key).await);
    }

    assert_eq!(answers, [403, 401, 403]);
}

#[tokio::test]
async fn a_tenant_goes_over_to_another_key_and_keeps_its_last() {
    let nodes = Registered::start(1).await;
    nodes.put(TENANT, &[]).await;

    let new = json!({ "id": "next", "algorithm": "HS256", "generate": true });
    let (status, made) = post(&nodes, KEYS, new).await;
    let secret = made["secret"].as_str().expect("a secret").as_bytes();
    assert_eq!(status, 201);
    assert_eq!(delete(&nodes, &format!("{KEYS}/{TENANT}")).await, 204);

    let id = KeyId::parse("next").expect("id");
    let token =
        SigningKey::from_secret(Some(id), secret).expect("key").sign(&claims(TENANT, "ada"));
    let (mut peer, _) = Peer::connect_with(&nodes.fleet.nodes[0], token).await;
    peer.published("room/1", text("here")).await;
    refused_with(&nodes.fleet, 0, 4401).await;
    let last = nodes.ask(Method::DELETE, &format!("{KEYS}/next"), &[], "").await;
    assert_eq!(
        (last.status, &json_of(&last)["error"]["code"]),
        (StatusCode::CONFLICT, &json!("last_key"))
    );
}

#[tokio::test]
async fn every_refusal_of_a_key_has_a_code() {
    let nodes = Registered::start(1).await;
    nodes.put(TENANT, &[]).await;
    post(&nodes, API_KEYS, json!({ "id": "server" })).await;
    let long = json!({ "overlap": "31d" });
    let pair = json!({ "id": "pair", "algorithm": "EdDSA", "generate": true });
    let short = json!({ "id": "short", "algorithm": "HS256", "secret": "short" });

    for (path, body, status, code) in [
        (API_KEYS, json!({ "id": "server" }), 409, "key_exists"),
        (API_KEYS, json!({ "id": "a b" }), 400, "bad_request"),
        (API_KEYS, json!({ "id": "other", "scopes": ["all"] }), 400, "bad_document"),
        (API_KEYS, json!({ "id": "other", "secret": "mine" }), 400, "bad_request"),
        ("/v1/tenants/nobody/api-keys", json!({ "id": "server" }), 404, "no_such_tenant"),
        ("/v1/tenants/UPPER/api-keys", json!({ "id": "server" }), 400, "bad_name"),
        ("/v1/tenants/acme/api-keys/nobody/rotate", json!({}), 404, "no_such_key"),
        ("/v1/tenants/acme/api-keys/server/rotate", long, 400, "bad_request"),
        (KEYS, pair, 400, "bad_request"),
        (KEYS, short, 400, "bad_document"),
        (KEYS, json!(1), 400, "bad_request"),
    ] {
        let (answered, answer) = post(&nodes, path, body).await;

        assert_eq!((answered, &answer["error"]["code"]), (status, &json!(code)), "{path} {answer}");
    }
    let late =
        nodes.ask(Method::POST, API_KEYS, &[("if-match", "\"1\"")], r#"{"id":"late"}"#).await;
    let nobodys = delete(&nodes, &format!("{API_KEYS}/nobody")).await;
    assert_eq!((late.status, nobodys), (StatusCode::PRECONDITION_FAILED, 404));
}

#[tokio::test]
async fn documents_are_sealed_anew_so_that_an_older_key_can_go() {
    let nodes = Registered::sealing_with(&[2, 1], 1).await;
    nodes.write_behind(TENANT, 1).await;
    nodes.fleet.notify_all(News::Tenants);
    until(|| nodes.knows(0, TENANT)).await;

    let before = json_of(&nodes.ask(Method::GET, "/v1/registry", &[], "").await);
    let (status, resealed) = post(&nodes, "/v1/registry/reseal", json!({})).await;
    let again = post(&nodes, "/v1/registry/reseal", json!({})).await.1;

    assert_eq!((status, &before["to_reseal"]), (200, &json!(1)));
    assert_eq!(resealed, json!({ "resealed": 1, "left": 0 }));
    assert_eq!(again, json!({ "resealed": 0, "left": 0 }));
    let kept = nodes.store.changes(&Seen::default()).await.expect("changes").entries.remove(0);
    let (name, sealed) = (Tenant::parse(TENANT).expect("tenant"), kept.sealed.expect("a document"));
    assert!(tidewire_tenant::open(&vault(&[2]), &name, kept.revision, &sealed).is_ok());
    Peer::connect(&nodes.fleet.nodes[0], "ada").await.published("room/1", text("here")).await;
}

#[tokio::test]
async fn a_server_revokes_if_its_key_says_so_and_of_its_own_tenant_only() {
    let nodes = Registered::start(1).await;
    nodes.put(TENANT, &[]).await;
    let key = json!({ "id": "guard", "scopes": ["revoke"] });
    let guard = key_of(&post(&nodes, API_KEYS, key).await.1);
    let usual = key_of(&post(&nodes, API_KEYS, json!({ "id": "usual" })).await.1);
    let ada = r#"{"user":"ada"}"#;
    let revoke = async |tenant: &str, key: &str, body: &str| {
        let path = format!("/v1/{tenant}/revocations");
        let (status, answer) = nodes.fleet.nodes[0].post(&path, key, body.to_owned()).await;
        (status.as_u16(), answer)
    };

    for (tenant, key, body, expected) in [
        (TENANT, &usual, ada, (403, 1_100)),
        (TENANT, &format!("{guard}x"), ada, (401, 1_101)),
        ("globex", &guard, ada, (401, 1_101)),
        (TENANT, &guard, "{}", (400, 1_000)),
        (TENANT, &guard, r#"{"user":"ada","all":true}"#, (400, 1_000)),
        (TENANT, &guard, r#"{"user":"ada","before":99999999999}"#, (400, 1_000)),
    ] {
        let (status, answer) = revoke(tenant, key, body).await;
        assert_eq!((status, &answer["error"]["code"]), (expected.0, &json!(expected.1)), "{body}");
    }
    let (status, answer) = revoke(TENANT, &guard, ada).await;
    assert_eq!(status, 202, "{answer}");
    assert!(answer["until"].as_u64() > answer["before"].as_u64(), "{answer}");
    let listed = nodes.ask(Method::GET, "/v1/tenants/acme/revocations", &[], "").await;
    assert_eq!(json_of(&listed)["revocations"][0]["about"], "user ada");
    // Whoever goes on without a pause has to wait, and is told for how long.
    let (status, answer) = loop {
        let said = revoke(TENANT, &guard, ada).await;
        if said.0 != 202 {
            break said;
        }
    };
    assert_eq!((status, &answer["error"]["code"]), (429, &json!(2_005)), "{answer}");
    assert!(answer["error"]["retry_after_ms"].as_u64().is_some_and(|wait| wait <= 50), "{answer}");
}
