//! What happens to those who are revoked, wherever they are and whatever they try.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tidewire_auth::{Claims, SealKey, TokenId, Vault};
use tidewire_broker::News;
use tidewire_client::{Codec, ServerEvent};
use tidewire_edge::{CONTROL_HEADER, EdgeConfig, RegistryParts, TenantRegistry, admin_router};
use tidewire_model::{
    Command, Connect, Connected, Permissions, Resume, Retention, SessionNonce, Tenant,
};
use tidewire_store::{
    MOST_REVOCATIONS_OF_TENANT, MemoryRevocationStore, MemoryTenantStore, Revocation,
    RevocationStore as _, Seen,
};
use tidewire_transport::http::request;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use crate::channel_tokens::{of_channel, show};
use crate::fleet::{
    Fleet, OTHER_TENANT, Running, TENANT, claims, key_id, listen, now, sign, soon, until,
};
use crate::peer::{Bystander, Peer, text};

/// Nodes, and where the first of them is administered.
struct Administered {
    fleet: Fleet,
    admin: SocketAddr,
    stop: CancellationToken,
}

impl Administered {
    async fn start(nodes: usize) -> Self {
        let fleet = Fleet::start(nodes, EdgeConfig::default()).await;
        let (listener, admin) = listen().await;
        let registry = TenantRegistry::new(RegistryParts {
            store: Arc::new(MemoryTenantStore::default()),
            vault: Vault::new(&[SealKey::from_bytes([1; 32])]).expect("a vault"),
            tenants: fleet.tenants.clone(),
            history: Retention::default(),
            most: 3,
        });
        let (stop, edge) = (CancellationToken::new(), fleet.nodes[0].edge.clone());
        let routes = admin_router(edge.clone(), registry.clone(), Vec::new());
        let (following, token) = (edge.clone(), stop.clone());
        fleet.spawn(async move { registry.follow(following, token).await });
        let token = stop.clone();
        fleet.spawn(async move { edge.serve_http(listener, routes, token).await });
        until(|| !fleet.tenants.is_incomplete()).await;
        Self { fleet, admin, stop }
    }

    async fn ask(&self, method: Method, path: &str, body: String) -> (StatusCode, Value) {
        let url = format!("http://{}/v1/tenants/{path}", self.admin);
        let answer = request(method, &url, &[(CONTROL_HEADER, "1")], body).await;
        let answer = answer.expect("an answer");
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    async fn revoke(&self, what: &Value) {
        let path = format!("{TENANT}/revocations");
        let (status, answer) = self.ask(Method::POST, &path, what.to_string()).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    }

    fn node(&self, index: usize) -> &Running {
        &self.fleet.nodes[index]
    }
}

impl Drop for Administered {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A token of `user`, called as the user is, issued so many seconds ago.
fn issued(user: &str, ago: u64) -> String {
    let token_id = Some(TokenId::parse(&format!("of-{user}")).expect("token id"));
    let issued_at = Some(now() - ago);
    sign(TENANT, &Claims { token_id, issued_at, ..claims(TENANT, user) })
}

async fn connect(node: &Running, user: &str) -> (Peer, Connected) {
    Peer::connect_with(node, issued(user, 5)).await
}

async fn is_refused(node: &Running, token: String) {
    let mut peer = Peer::dial(node).await;
    peer.send(Command::Connect(Connect { token: Some(token.into()), ..Connect::default() }));
    is_told(&peer.closes_with(4403).await);
}

/// Whoever was let in before it was known there leaves again.
async fn until_refused(node: &Running, user: &str, ago: u64) {
    loop {
        let mut peer = Peer::dial(node).await;
        let token = Some(issued(user, ago).into());
        peer.send(Command::Connect(Connect { token, ..Connect::default() }));
        match peer.next().await {
            ServerEvent::Failed { refusal, .. } => return assert_eq!(refusal.code, 1103),
            _ => peer.close().await,
        }
    }
}

#[track_caller]
fn is_told(heard: &[ServerEvent]) {
    let told = heard
        .iter()
        .any(|event| matches!(event, ServerEvent::Failed { refusal, .. } if refusal.code == 1103));
    assert!(told, "{heard:?}");
}

#[tokio::test]
async fn whoever_is_revoked_is_disconnected_on_every_node_and_nobody_else_is() {
    let key = key_id(TENANT).to_string();
    for (what, is_wide) in [
        (json!({ "user": "ada" }), false),
        (json!({ "token": "of-ada" }), false),
        (json!({ "key": key }), true),
        (json!({ "all": true }), true),
    ] {
        let nodes = Administered::start(2).await;
        let mut other = Peer::dial_as(nodes.node(1), Some(OTHER_TENANT), Codec::Json).await;
        other.introduce(sign(OTHER_TENANT, &claims(OTHER_TENANT, "ada"))).await;
        let (here, _) = connect(nodes.node(0), "ada").await;
        let (there, _) = connect(nodes.node(1), "ada").await;
        let (mut bob, _) = connect(nodes.node(1), "bob").await;

        nodes.revoke(&what).await;

        is_told(&here.closes_with(4403).await);
        is_told(&there.closes_with(4403).await);
        is_refused(nodes.node(0), issued("ada", 5)).await;
        is_refused(nodes.node(1), issued("ada", 5)).await;
        if is_wide {
            is_told(&bob.closes_with(4403).await);
        } else {
            bob.subscribe("room/1").await;
        }
        other.subscribe("room/1").await;
    }
}

#[tokio::test]
async fn what_was_issued_later_stays() {
    let nodes = Administered::start(1).await;
    let (mut newer, _) = Peer::connect_with(nodes.node(0), issued("ada", 50)).await;
    let (older, _) = Peer::connect_with(nodes.node(0), issued("ada", 70)).await;

    nodes.revoke(&json!({ "user": "ada", "before": now() - 60 })).await;

    is_told(&older.closes_with(4403).await);
    newer.subscribe("room/1").await;
    is_refused(nodes.node(0), issued("ada", 70)).await;
    Peer::connect_with(nodes.node(0), issued("ada", 50)).await.0.subscribe("room/1").await;
}

#[tokio::test]
async fn a_session_of_who_was_revoked_is_resumed_nowhere_but_with_a_token_that_holds() {
    let nodes = Administered::start(2).await;
    let (first, lost) = Peer::connect_with(nodes.node(0), issued("ada", 70)).await;
    let (second, connected) = Peer::connect_with(nodes.node(0), issued("ada", 70)).await;
    drop((first, second));
    nodes.revoke(&json!({ "user": "ada", "before": now() - 60 })).await;
    until_refused(nodes.node(1), "ada", 70).await;

    let resumed = Peer::resume(nodes.node(1), lost.resume_token, Vec::new()).await;
    is_told(&resumed.closes_with(4403).await);
    let mut renewed = Peer::dial(nodes.node(1)).await;
    let resume = Resume {
        token: connected.resume_token.expect("a resume token"),
        nonce: SessionNonce::from_bytes([3; 16]),
        positions: Vec::new(),
    };
    renewed.send(Command::Connect(Connect {
        token: Some(issued("ada", 5).into()),
        resume: Some(resume),
        ..Connect::default()
    }));
    let after = renewed.connected().await;

    assert_eq!(after.session, connected.session);
    renewed.subscribe("room/1").await;
}

#[tokio::test]
async fn a_token_that_was_revoked_refreshes_nothing_and_the_one_before_stays() {
    let nodes = Administered::start(1).await;
    let (mut peer, _) = connect(nodes.node(0), "ada").await;
    nodes.revoke(&json!({ "token": "of-eve" })).await;
    let token_id = Some(TokenId::parse("of-eve").expect("token id"));
    let revoked = sign(TENANT, &Claims { token_id, ..claims(TENANT, "ada") });

    peer.send(Command::Refresh { token: revoked.into(), channel: None });

    assert_eq!(peer.refused().await.1.code, 1103);
    peer.subscribe("room/1").await;
}

#[tokio::test]
async fn a_token_of_a_channel_that_is_revoked_ends_its_subscription_and_nothing_else() {
    let nodes = Administered::start(2).await;
    let token = |name: &str| {
        of_channel(name, |of| {
            of.claims.token_id = TokenId::parse(&format!("of-{}", name.replace('/', "-"))).ok();
        })
    };
    let (mut ada, _) = connect(nodes.node(1), "ada").await;
    let less = Claims { permissions: Permissions::default(), ..claims(TENANT, "ada") };
    ada.send(Command::Refresh { token: sign(TENANT, &less).into(), channel: None });
    assert!(matches!(ada.next().await, ServerEvent::Refreshed { .. }));
    for name in ["room/1", "room/2"] {
        show(&mut ada, name, token(name));
        ada.subscribed().await;
    }

    nodes.revoke(&json!({ "token": "of-room-1" })).await;

    let ServerEvent::Unsubscribed { channel, refusal: Some(refusal), .. } = ada.next().await else {
        unreachable!("not unsubscribed")
    };
    assert_eq!((channel.as_str(), refusal.code), ("room/1", 1103));
    show(&mut ada, "room/1", token("room/1"));
    assert_eq!(ada.refused().await.1.code, 1103);
    ada.published("room/2", text("still here")).await;

    // All that her key has signed, the connection's own token with it.
    nodes.revoke(&json!({ "key": key_id(TENANT).to_string() })).await;
    is_told(&ada.closes_with(4403).await);
}

#[tokio::test]
async fn many_are_judged_in_several_turns_and_none_is_missed() {
    let nodes = Administered::start(1).await;
    let mut bystander = Bystander::watch(&nodes.fleet).await;
    let mut peers = Vec::new();
    for number in 0..600 {
        peers.push(connect(nodes.node(0), if number % 2 == 0 { "ada" } else { "bob" }).await.0);
    }

    for user in ["ada", "bob"] {
        nodes.revoke(&json!({ "user": user })).await;
    }

    for peer in peers {
        is_told(&peer.closes_with(4403).await);
    }
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn what_another_node_tells_of_is_in_force_without_waiting() {
    let nodes = Administered::start(1).await;
    let started = Instant::now();

    // Five in a row: a node that only looks from time to time would take twenty seconds.
    for user in ["one", "two", "three", "four", "five"] {
        let (peer, _) = connect(nodes.node(0), user).await;
        nodes.fleet.revocations.add(&[revocation(user)]).await.expect("added");
        nodes.fleet.notify_all(News::Revocations);
        is_told(&peer.closes_with(4403).await);
    }

    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn what_nobody_tells_of_is_in_force_when_a_node_looks_next() {
    let nodes = Administered::start(1).await;
    let (peer, _) = connect(nodes.node(0), "ada").await;

    nodes.fleet.revocations.add(&[revocation("ada")]).await.expect("added");

    is_told(&peer.closes_with(4403).await);
}

#[tokio::test]
async fn a_store_that_begins_anew_takes_nothing_back_and_has_it_again() {
    let nodes = Administered::start(1).await;
    nodes.revoke(&json!({ "user": "ada" })).await;
    let first = stored(&nodes.fleet.revocations).await;
    assert_eq!(first.len(), 1);

    nodes.fleet.revocations.empty();
    nodes.fleet.notify_all(News::Revocations);
    soon(async {
        while stored(&nodes.fleet.revocations).await != first {
            tokio::task::yield_now().await;
        }
    })
    .await;

    is_refused(nodes.node(0), issued("ada", 5)).await;
}

#[tokio::test]
async fn clients_of_a_tenant_that_is_removed_are_disconnected() {
    let nodes = Administered::start(1).await;
    let mut bystander = Bystander::watch(&nodes.fleet).await;
    let secret = crate::fleet::secret("late");
    let key = json!({ "id": "late", "algorithm": "HS256", "secret": secret });
    let document = json!({ "name": "late", "keys": [key] }).to_string();
    assert_eq!(nodes.ask(Method::PUT, "late", document).await.0, StatusCode::CREATED);
    let mut peer = Peer::dial_as(nodes.node(0), Some("late"), Codec::Json).await;
    peer.introduce(sign("late", &claims("late", "ada"))).await;

    assert_eq!(nodes.ask(Method::DELETE, "late", String::new()).await.0, StatusCode::NO_CONTENT);

    is_told(&peer.closes_with(4403).await);
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn what_is_revoked_is_listed_and_what_cannot_be_is_refused_with_a_code() {
    let nodes = Administered::start(1).await;
    let path = format!("{TENANT}/revocations");
    for what in [json!({ "user": "ada", "before": 7 }), json!({ "all": true, "before": 5 })] {
        nodes.revoke(&what).await;
    }

    let (_, page) = nodes.ask(Method::GET, &format!("{path}?limit=1"), String::new()).await;
    let (_, rest) = nodes.ask(Method::GET, &format!("{path}?after=all"), String::new()).await;

    assert_eq!((&page["revocations"][0]["about"], &page["next"]), (&json!("all"), &json!("all")));
    assert_eq!(rest["revocations"][0]["about"], "user ada");
    assert_eq!((&rest["revocations"][0]["before"], &rest["next"]), (&json!(7), &Value::Null));
    for (path, body, status, code) in [
        (path.as_str(), json!({}), 400, "bad_revocation"),
        (path.as_str(), json!({ "user": "" }), 400, "bad_revocation"),
        (path.as_str(), json!({ "user": "a", "all": true }), 400, "bad_revocation"),
        (path.as_str(), json!({ "user": "a", "more": 1 }), 400, "bad_revocation"),
        (path.as_str(), json!({ "all": true, "before": now() + 90 }), 400, "bad_revocation"),
        ("nobody/revocations", json!({ "all": true }), 404, "no_such_tenant"),
        ("UPPER/revocations", json!({ "all": true }), 400, "bad_name"),
    ] {
        let (refused, answer) = nodes.ask(Method::POST, path, body.to_string()).await;
        assert_eq!((refused.as_u16(), &answer["error"]["code"]), (status, &json!(code)), "{body}");
    }
}

#[tokio::test]
async fn as_much_is_revoked_as_can_be_kept_and_the_whole_tenant_can_still_be() {
    let nodes = Administered::start(1).await;
    let many = |from: usize| -> Vec<_> {
        let users = from..from + 1_000;
        users.map(|user| revocation(&user.to_string())).collect()
    };
    for from in (1_000..MOST_REVOCATIONS_OF_TENANT).step_by(1_000) {
        nodes.fleet.revocations.add(&many(from)).await.expect("added");
    }
    nodes.fleet.revocations.add(&many(0)[..900]).await.expect("added");
    nodes.fleet.notify_all(News::Revocations);
    let path = format!("{TENANT}/revocations");
    let ask = |what: Value| nodes.ask(Method::POST, &path, what.to_string());

    // Until the node has read all of them there is room for some more.
    let refused = soon(async {
        let mut number = 0;
        loop {
            number += 1;
            let (status, answer) = ask(json!({ "token": format!("t-{number}") })).await;
            if status != StatusCode::ACCEPTED {
                return (status, answer["error"]["code"].clone());
            }
        }
    })
    .await;

    assert_eq!(refused, (StatusCode::INSUFFICIENT_STORAGE, json!("too_many_revocations")));
    for wide in [json!({ "key": "a" }), json!({ "all": true })] {
        assert_eq!(ask(wide).await.0, StatusCode::ACCEPTED);
    }
}

async fn stored(store: &MemoryRevocationStore) -> Vec<Revocation> {
    store.changes(&Seen::default()).await.expect("changes").revocations
}

fn revocation(user: &str) -> Revocation {
    let (tenant, before) = (Tenant::parse(TENANT).expect("tenant"), now());
    Revocation { tenant, about: format!("user {user}"), before, until: before + 1_000 }
}
