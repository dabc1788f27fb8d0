//! Tenants that come and go by the registry, over its routes and on all nodes.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tidewire_auth::{SealKey, Vault};
use tidewire_broker::News;
use tidewire_edge::{CONTROL_HEADER, RegistryParts, TenantRegistry, admin_router};
use tidewire_model::{Command, Connect, Retention, Tenant};
use tidewire_store::{Expects, MemoryTenantStore, Seen, TenantStore as _, TenantWrite, Written};
use tidewire_tenant::Incarnation;
use tidewire_transport::http::{Response, request};
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use crate::fleet::{API_KEY, Fleet, OTHER_TENANT, TENANT, listen, secret, settle, token, until};
use crate::peer::{Peer, text};

/// Nodes without tenants that follow one store, and the admin listener of the first.
pub(crate) struct Registered {
    pub(crate) fleet: Fleet,
    pub(crate) store: Arc<MemoryTenantStore>,
    admin: SocketAddr,
    stop: CancellationToken,
}

impl Registered {
    pub(crate) async fn start(nodes: usize) -> Self {
        Self::sealing_with(&[1], nodes).await
    }

    /// Nodes that seal with the first of `keys`.
    pub(crate) async fn sealing_with(keys: &[u8], nodes: usize) -> Self {
        let fleet = Fleet::of_strangers(nodes).await;
        let (listener, admin) = listen().await;
        let started = Self { fleet, store: Arc::default(), admin, stop: CancellationToken::new() };
        let first = started.follow(0, keys);
        (1..nodes).for_each(|index| drop(started.follow(index, keys)));
        let edge = started.fleet.nodes[0].edge.clone();
        let routes = admin_router(edge.clone(), first, Vec::new());
        let stop = started.stop.clone();
        started.fleet.spawn(async move { edge.serve_http(listener, routes, stop).await });
        until(|| started.fleet.nodes.iter().all(|node| !node.tenants.is_incomplete())).await;
        started
    }

    fn follow(&self, index: usize, keys: &[u8]) -> TenantRegistry {
        let node = &self.fleet.nodes[index];
        let registry = TenantRegistry::new(RegistryParts {
            store: Arc::clone(&self.store) as _,
            vault: vault(keys),
            tenants: node.tenants.clone(),
            history: Retention::default(),
            most: 3,
        });
        let (following, edge, stop) = (registry.clone(), node.edge.clone(), self.stop.clone());
        self.fleet.spawn(async move { following.follow(edge, stop).await });
        registry
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response {
        let url = format!("http://{}{path}", self.admin);
        let all = [&[(CONTROL_HEADER, "1")], headers].concat();
        request(method, &url, &all, body).await.expect("an answer")
    }

    pub(crate) async fn put(&self, tenant: &str, headers: &[(&str, &str)]) -> (StatusCode, Value) {
        let path = format!("/v1/tenants/{tenant}");
        let answer = self.ask(Method::PUT, &path, headers, document(tenant)).await;
        (answer.status, json_of(&answer))
    }

    async fn remove(&self, tenant: &str) -> StatusCode {
        let path = format!("/v1/tenants/{tenant}");
        self.ask(Method::DELETE, &path, &[], "").await.status
    }

    /// Keeps a tenant's document in the store, sealed with `key`, without telling anybody.
    pub(crate) async fn write_behind(&self, tenant: &str, key: u8) {
        let name = Tenant::parse(tenant).expect("tenant");
        let number = (1, Incarnation::from_random(1));
        let sealed =
            tidewire_tenant::seal(&vault(&[key]), &name, number, document(tenant).as_bytes());
        let written = self.store.write(TenantWrite {
            tenant: &name,
            expects: Expects::Revision(0),
            revision: 1,
            sealed: Some(&sealed),
            marks: &[],
            nonce: [1; 16],
            most: 10,
        });
        assert_eq!(written.await.expect("an answer"), Written::Done);
    }

    /// Puts another tenant in the place of the one that the store has.
    async fn rewrite_behind(&self, tenant: &str, incarnation: u64) {
        let name = Tenant::parse(tenant).expect("tenant");
        let number = (2, Incarnation::from_random(incarnation << 8));
        let sealed =
            tidewire_tenant::seal(&vault(&[1]), &name, number, document(tenant).as_bytes());
        let written = self.store.write(TenantWrite {
            tenant: &name,
            expects: Expects::Revision(1),
            revision: 2,
            sealed: Some(&sealed),
            marks: &[],
            nonce: [2; 16],
            most: 10,
        });
        assert_eq!(written.await.expect("an answer"), Written::Done);
    }

    pub(crate) fn knows(&self, node: usize, tenant: &str) -> bool {
        self.fleet.nodes[node].tenants.contains(&Tenant::parse(tenant).expect("tenant"))
    }
}

pub(crate) fn vault(keys: &[u8]) -> Vault {
    let keys: Vec<_> = keys.iter().map(|key| SealKey::from_bytes([*key; 32])).collect();
    Vault::new(&keys).expect("a vault")
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The keys with which the tests sign.
pub(crate) fn document(tenant: &str) -> String {
    let key = json!({ "id": tenant, "algorithm": "HS256", "secret": secret(tenant) });
    json!({ "name": tenant, "keys": [key] }).to_string()
}

pub(crate) fn json_of(answer: &Response) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

pub(crate) async fn refused_with(fleet: &Fleet, node: usize, code: u16) {
    let mut peer = Peer::dial(&fleet.nodes[node]).await;
    peer.send(Command::Connect(Connect { token: Some(token("ada").into()), ..Connect::default() }));
    peer.closes_with(code).await;
}

#[tokio::test]
async fn a_tenant_that_is_put_on_one_node_may_use_the_others_until_it_is_removed() {
    let nodes = Registered::start(2).await;
    refused_with(&nodes.fleet, 1, 4401).await;

    let (status, answer) = nodes.put(TENANT, &[]).await;
    until(|| nodes.knows(1, TENANT)).await;
    let mut peer = Peer::connect(&nodes.fleet.nodes[1], "ada").await;
    peer.published("room/1", text("here")).await;

    assert_eq!((status, &answer["revision"]), (StatusCode::CREATED, &json!(1)));
    assert_eq!(nodes.remove(TENANT).await, StatusCode::NO_CONTENT);
    until(|| !nodes.knows(1, TENANT)).await;
    refused_with(&nodes.fleet, 1, 4401).await;
    refused_with(&nodes.fleet, 0, 4401).await;
}

#[tokio::test]
async fn a_change_that_another_node_tells_of_is_in_force_without_waiting() {
    let nodes = Registered::start(1).await;
    tokio::time::pause();
    let started = Instant::now();

    nodes.write_behind(TENANT, 1).await;
    nodes.fleet.notify_all(News::Tenants);
    settle().await;

    assert!(nodes.knows(0, TENANT));
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_change_that_nobody_tells_of_is_in_force_after_four_seconds() {
    let nodes = Registered::start(1).await;
    tokio::time::pause();
    nodes.write_behind(TENANT, 1).await;
    settle().await;
    assert!(!nodes.knows(0, TENANT));

    // Timers are as fine as a millisecond.
    tokio::time::advance(Duration::from_millis(4_001)).await;
    settle().await;

    assert!(nodes.knows(0, TENANT));
}

#[tokio::test]
async fn a_store_that_was_emptied_removes_nobody_and_has_them_back() {
    let nodes = Registered::start(1).await;
    nodes.put(TENANT, &[]).await;
    nodes.put(OTHER_TENANT, &[]).await;
    nodes.remove(OTHER_TENANT).await;
    tokio::time::pause();

    nodes.store.empty();
    tokio::time::advance(Duration::from_millis(4_001)).await;
    settle().await;

    assert!(nodes.knows(0, TENANT));
    let back = nodes.store.changes(&Seen::default()).await.expect("changes");
    let mut back: Vec<_> = back
        .entries
        .iter()
        .map(|entry| (entry.tenant.as_str(), entry.revision, entry.sealed.is_some()))
        .collect();
    back.sort_unstable();
    assert_eq!(back, [(TENANT, 1, true), (OTHER_TENANT, 2, false)]);
}

#[tokio::test]
async fn a_document_that_cannot_be_read_harms_no_other() {
    let nodes = Registered::start(1).await;
    nodes.put(TENANT, &[]).await;

    nodes.write_behind(OTHER_TENANT, 9).await;
    nodes.fleet.notify_all(News::Tenants);
    let is_unreadable = || async {
        let answer = nodes.ask(Method::GET, "/v1/registry", &[], "").await;
        json_of(&answer)["unreadable"] == 1
    };
    while !is_unreadable().await {
        tokio::task::yield_now().await;
    }

    assert!(!nodes.knows(0, OTHER_TENANT));
    Peer::connect(&nodes.fleet.nodes[0], "ada").await.published("room/1", text("here")).await;
    let list = json_of(&nodes.ask(Method::GET, "/v1/tenants", &[], "").await);
    assert_eq!(list["tenants"][1]["state"], "unreadable", "{list}");
}

#[tokio::test]
async fn who_comes_before_the_registry_was_read_is_to_come_back() {
    let fleet = Fleet::of_strangers(1).await;
    fleet.nodes[0].tenants.expect_more();

    refused_with(&fleet, 0, 4500).await;
    let (status, _) = fleet.nodes[0]
        .post(&format!("/v1/{TENANT}/publications"), API_KEY, r#"{"publications":[]}"#)
        .await;
    let ready = fleet.nodes[0].get("/readyz").await;

    assert_eq!([status, ready.status], [StatusCode::SERVICE_UNAVAILABLE; 2]);
    assert!(String::from_utf8_lossy(&ready.body).contains("registry"));
}

#[tokio::test]
async fn of_two_who_change_one_revision_one_is_told_that_it_was_late() {
    let nodes = Registered::start(1).await;

    let new = nodes.put(TENANT, &[("if-none-match", "*")]).await.0;
    let new_again = nodes.put(TENANT, &[("if-none-match", "*")]).await.0;
    let changed = nodes.put(TENANT, &[("if-match", "\"1\"")]).await.0;
    let late = nodes.put(TENANT, &[("if-match", "\"1\"")]).await;

    assert_eq!([new, changed], [StatusCode::CREATED, StatusCode::OK]);
    assert_eq!([new_again, late.0], [StatusCode::PRECONDITION_FAILED; 2]);
    assert_eq!(late.1["error"]["code"], "conflict");
}

#[tokio::test]
async fn what_is_shown_has_no_secret_and_can_be_put_back() {
    let nodes = Registered::start(1).await;
    nodes.put(TENANT, &[]).await;
    let path = format!("/v1/tenants/{TENANT}");

    let shown = nodes.ask(Method::GET, &path, &[], "").await;
    let again = nodes.ask(Method::PUT, &path, &[], shown.body.clone()).await;

    assert!(!String::from_utf8_lossy(&shown.body).contains(&secret(TENANT)));
    assert_eq!(again.status, StatusCode::OK, "{:?}", again.body);
    Peer::connect(&nodes.fleet.nodes[0], "ada").await.published("room/1", text("here")).await;
}

#[tokio::test]
async fn every_refusal_has_a_code() {
    let nodes = Registered::start(1).await;
    nodes.put(TENANT, &[]).await;
    let stolen = document(TENANT).replace(&format!("\"name\":\"{TENANT}\""), "\"name\":\"thief\"");

    for (method, path, body, status, code) in [
        (Method::GET, "/v1/tenants/nobody", "", 404, "no_such_tenant"),
        (Method::DELETE, "/v1/tenants/nobody", "", 404, "no_such_tenant"),
        (Method::PUT, "/v1/tenants/UPPER", "{}", 400, "bad_name"),
        (Method::PUT, "/v1/tenants/other", "{}", 400, "bad_document"),
        (Method::PUT, "/v1/tenants/other", "{\"name\":\"other\"}", 400, "bad_document"),
        (Method::PUT, "/v1/tenants/thief", stolen.as_str(), 409, "key_in_use"),
        (Method::PUT, "/v1/tenants/other", &" ".repeat(200_000), 413, "too_large"),
    ] {
        let answer = nodes.ask(method.clone(), path, &[], body.to_owned()).await;

        let error = &json_of(&answer)["error"];
        assert_eq!((answer.status.as_u16(), &error["code"]), (status, &json!(code)), "{path}");
    }
    for name in ["a", "b"] {
        assert_eq!(nodes.put(name, &[]).await.0, StatusCode::CREATED);
    }
    let full = nodes.put("c", &[]).await;
    assert_eq!(
        (full.0, &full.1["error"]["code"]),
        (StatusCode::INSUFFICIENT_STORAGE, &json!("registry_full"))
    );
}

#[tokio::test]
async fn a_page_of_a_browser_changes_nothing() {
    let nodes = Registered::start(1).await;

    let page = nodes.put(TENANT, &[("origin", "http://localhost")]).await;
    let rebound = nodes.put(TENANT, &[("host", "evil.example")]).await;

    assert_eq!([page.0, rebound.0], [StatusCode::FORBIDDEN; 2]);
    assert!(!nodes.knows(0, TENANT));
}

#[tokio::test]
async fn who_gets_a_name_that_another_had_gets_none_of_its_clients_and_sessions() {
    let nodes = Registered::start(2).await;
    nodes.put(TENANT, &[]).await;
    until(|| nodes.knows(1, TENANT)).await;
    let (gone, connected) = Peer::connect_with(&nodes.fleet.nodes[1], token("ada")).await;
    drop(gone);
    let (changed, unchanged) = Peer::connect_with(&nodes.fleet.nodes[1], token("bob")).await;
    nodes.put(TENANT, &[]).await;
    let positions = Vec::new();
    drop(changed);
    let mut back = Peer::resume(&nodes.fleet.nodes[0], unchanged.resume_token, positions).await;
    assert!(back.connected().await.resumed, "a change makes nobody another");

    // The second node may see no more of it than that it is another.
    assert_eq!(nodes.remove(TENANT).await, StatusCode::NO_CONTENT);
    assert_eq!(nodes.put(TENANT, &[]).await.0, StatusCode::CREATED);

    back.closes_with(4403).await;
    let resumed = Peer::resume(&nodes.fleet.nodes[0], connected.resume_token, Vec::new()).await;
    resumed.closes_with(4411).await;
    Peer::connect(&nodes.fleet.nodes[0], "ada").await.subscribe("room/1").await;
}

#[tokio::test]
async fn clients_of_a_tenant_that_another_has_the_name_of_are_disconnected() {
    let nodes = Registered::start(1).await;
    nodes.put(TENANT, &[]).await;
    let peer = Peer::connect(&nodes.fleet.nodes[0], "ada").await;

    // As if it had been removed and added while this node heard of neither.
    nodes.rewrite_behind(TENANT, 2).await;
    nodes.fleet.notify_all(News::Tenants);

    peer.closes_with(4403).await;
}

#[tokio::test]
async fn what_a_document_leaves_out_is_taken_from_the_one_that_it_replaces_and_no_older() {
    let nodes = Registered::start(1).await;
    let path = format!("/v1/tenants/{TENANT}");
    let put = async |key: Value| {
        let document = json!({ "name": TENANT, "keys": [key] }).to_string();
        nodes.ask(Method::PUT, &path, &[], document).await.status
    };
    let older = json!({ "id": TENANT, "algorithm": "HS256", "secret": "x".repeat(40) });
    assert_eq!(put(older).await, StatusCode::CREATED);
    // Of which this node has not heard.
    nodes.rewrite_behind(TENANT, 7).await;

    assert_eq!(put(json!({ "id": TENANT, "algorithm": "HS256" })).await, StatusCode::OK);

    Peer::connect(&nodes.fleet.nodes[0], "ada").await;
}

#[tokio::test]
async fn who_was_on_the_way_when_its_tenant_became_another_is_not_let_in() {
    let nodes = Registered::start(1).await;
    nodes.write_behind(TENANT, 1).await;
    nodes.fleet.notify_all(News::Tenants);
    until(|| nodes.knows(0, TENANT)).await;
    let before = nodes.fleet.sessions.asked().len();
    nodes.fleet.sessions.hold(true);
    let mut peer = Peer::dial(&nodes.fleet.nodes[0]).await;
    peer.send(Command::Connect(Connect { token: Some(token("ada").into()), ..Connect::default() }));
    peer.flush().await;
    until(|| nodes.fleet.sessions.asked().len() > before).await;

    let name = Tenant::parse(TENANT).expect("tenant");
    nodes.rewrite_behind(TENANT, 7).await;
    nodes.fleet.notify_all(News::Tenants);
    until(|| nodes.fleet.nodes[0].tenants.incarnation(&name).number() == 7).await;
    settle().await;
    nodes.fleet.sessions.hold(false);

    // Whoever has the name now has the same key here, and would take it for its own.
    peer.closes_with(4500).await;
    Peer::connect(&nodes.fleet.nodes[0], "ada").await;
}
