//! One-time tickets: who gets them, and who gets in with them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tidewire_auth::Claims;
use tidewire_client::{Codec, ServerEvent};
use tidewire_edge::EdgeConfig;
use tidewire_model::{Command, Connect, Resume, SessionNonce};
use tidewire_store::{
    MemoryTicketStore, Revocation, RevocationStore as _, StoreError, TicketName, TicketStore,
};
use tidewire_transport::http::{Response, request};

use crate::fleet::{
    API_KEY, Fleet, OTHER_TENANT, Running, TENANT, claims, now, secret, sign, token, until,
};
use crate::origins::{HOME, visit};
use crate::peer::{Bystander, Peer, text};
use crate::registry::{Registered, json_of};

/// Tickets in memory that can be out of reach.
#[derive(Default)]
pub(crate) struct SwitchedTickets {
    tickets: MemoryTicketStore,
    is_down: AtomicBool,
}

impl SwitchedTickets {
    fn reached(&self) -> Result<&MemoryTicketStore, StoreError> {
        if self.is_down.load(Ordering::SeqCst) {
            let (address, reason) = ("memory".into(), "switched off".into());
            return Err(StoreError::Unavailable { address, reason });
        }
        Ok(&self.tickets)
    }
}

#[async_trait]
impl TicketStore for SwitchedTickets {
    async fn put(&self, name: &TicketName, record: &[u8], ttl: Duration) -> Result<(), StoreError> {
        self.reached()?.put(name, record, ttl).await
    }

    async fn take(&self, name: &TicketName) -> Result<Option<Vec<u8>>, StoreError> {
        self.reached()?.take(name).await
    }
}

/// Asks for a ticket.
async fn ask(node: &Running, path: &str, headers: &[(&str, &str)], body: Value) -> Response {
    let url = format!("http://{}{path}", node.address);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    request(Method::POST, &url, headers, body).await.expect("an answer")
}

/// The ticket that a token gets.
async fn ticket(node: &Running, token: &str) -> String {
    let bearer = format!("Bearer {token}");
    let answer = ask(node, "/v1/ticket", &[("authorization", &bearer)], Value::Null).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.body);
    ticket_of(&answer)
}

pub(crate) fn ticket_of(answer: &Response) -> String {
    json_of(answer)["ticket"].as_str().expect("a ticket").to_owned()
}

fn connect(ticket: &str) -> Command {
    Command::Connect(Connect { ticket: Some(ticket.into()), ..Connect::default() })
}

/// A client that shows a ticket to a node.
async fn show(node: &Running, ticket: &str) -> Peer {
    let mut peer = Peer::dial(node).await;
    peer.send(connect(ticket));
    peer
}

/// What whoever shows a ticket is told that is none.
async fn refusal_of(node: &Running, ticket: &str) -> Vec<ServerEvent> {
    let heard = show(node, ticket).await.closes_with(4401).await;
    assert!(
        matches!(&heard[0], ServerEvent::Failed { refusal, .. } if refusal.code == 1105),
        "{heard:?}"
    );
    heard
}

#[tokio::test]
async fn a_ticket_lets_in_once_whoever_it_was_given_to_on_any_node() {
    let fleet = Fleet::start(2, EdgeConfig::default()).await;
    let mut bystander = Bystander::watch(&fleet).await;
    let narrow = Claims { expires_at: now() + 100, ..claims(TENANT, "ada") };
    let ticket = ticket(&fleet.nodes[0], &sign(TENANT, &narrow)).await;
    assert_eq!(ticket.len(), 22);

    let mut peer = show(&fleet.nodes[1], &ticket).await;

    // It lasts as long as the token that it stands for.
    assert_eq!(peer.connected().await.expires_at, Some(narrow.expires_at + 30));
    peer.subscribe("room/1").await;
    peer.publish("room/1", text("hello"));
    let publisher = peer.publications().await[0].publisher.clone();
    assert_eq!(publisher.expect("a user").as_str(), "ada");
    for node in &fleet.nodes {
        refusal_of(node, &ticket).await;
    }
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn whatever_is_wrong_with_a_ticket_is_told_alike() {
    let fleet = Fleet::one().await;
    let node = &fleet.nodes[0];
    let used = ticket(node, &token("ada")).await;
    show(node, &used).await.connected().await;
    let foreign = ticket(node, &sign(OTHER_TENANT, &claims(OTHER_TENANT, "eve"))).await;
    let expired = Claims { expires_at: now() - 29, ..claims(TENANT, "ada") };
    let expired = ticket(node, &sign(TENANT, &expired)).await;
    let later = now() + 2;
    until(|| now() >= later).await;

    let never = "AAAAAAAAAAAAAAAAAAAAAA";
    let mut told = Vec::new();
    for ticket in [&used, &foreign, &expired, never, "no ticket", &token("ada")] {
        told.push(refusal_of(node, ticket).await);
    }

    assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
    // What was shown in the wrong place is of no use in the right one either.
    let mut peer = Peer::dial_as(node, None, Codec::Json).await;
    peer.send(connect(&foreign));
    peer.closes_with(4401).await;
}

#[tokio::test]
async fn a_ticket_is_void_when_its_user_has_been_revoked_since() {
    let fleet = Fleet::one().await;
    let issued = Claims { issued_at: Some(now() - 10), ..claims(TENANT, "ada") };
    let ticket = ticket(&fleet.nodes[0], &sign(TENANT, &issued)).await;

    let tenant = claims(TENANT, "ada").tenant.expect("a tenant");
    let (before, until_) = (now(), now() + 1_000);
    let revocation = Revocation { tenant, about: "user ada".into(), before, until: until_ };
    fleet.revocations.add(&[revocation]).await.expect("added");
    fleet.notify_all(tidewire_broker::News::Revocations);
    let verifier =
        |user: &str| sign(TENANT, &Claims { issued_at: Some(now() - 10), ..claims(TENANT, user) });
    // Known when a token of the same time is refused.
    loop {
        let bearer = format!("Bearer {}", verifier("ada"));
        let headers = [("authorization", bearer.as_str())];
        let answer = ask(&fleet.nodes[0], "/v1/ticket", &headers, Value::Null).await;
        if answer.status == StatusCode::UNAUTHORIZED {
            assert_eq!(json_of(&answer)["error"]["code"], 1103);
            break;
        }
    }

    refusal_of(&fleet.nodes[0], &ticket).await;
}

#[tokio::test]
async fn a_session_whose_token_has_run_out_goes_on_with_a_ticket() {
    let fleet = Fleet::one().await;
    let node = &fleet.nodes[0];
    let short = Claims { expires_at: now() - 28, ..claims(TENANT, "ada") };
    let (peer, connected) = Peer::connect_with(node, sign(TENANT, &short)).await;
    drop(peer);
    let ticket = ticket(node, &token("ada")).await;
    until(|| Some(now()) > connected.expires_at).await;

    let mut back = Peer::dial(node).await;
    let nonce = SessionNonce::from_bytes([7; 16]);
    let token = connected.resume_token.expect("it is kept");
    let resume = Some(Resume { token, nonce, positions: Vec::new() });
    let connect = Connect { ticket: Some(ticket.as_str().into()), resume, ..Connect::default() };
    back.send(Command::Connect(connect));

    assert!(back.connected().await.resumed);
    refusal_of(node, &ticket).await;
}

#[tokio::test]
async fn without_the_store_nobody_gets_a_ticket_and_who_has_one_is_asked_to_come_back() {
    let fleet = Fleet::one().await;
    let node = &fleet.nodes[0];
    let ticket = ticket(node, &token("ada")).await;
    fleet.tickets.is_down.store(true, Ordering::SeqCst);

    let bearer = format!("Bearer {}", token("ada"));
    let answer = ask(node, "/v1/ticket", &[("authorization", &bearer)], Value::Null).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers.contains_key("retry-after"));
    show(node, &ticket).await.closes_with(4500).await;

    fleet.tickets.is_down.store(false, Ordering::SeqCst);
    show(node, &ticket).await.connected().await;
}

#[tokio::test]
async fn who_may_not_have_a_ticket_is_told_as_everywhere() {
    let fleet = Fleet::one().await;
    let node = &fleet.nodes[0];
    let forged = sign(OTHER_TENANT, &claims(TENANT, "ada"));
    let old = sign(TENANT, &Claims { expires_at: now() - 60, ..claims(TENANT, "ada") });
    let user = json!({ "user": "ada" });
    let cases = [
        ("/v1/ticket", String::new(), Value::Null, 401, 1101),
        ("/v1/ticket", forged, Value::Null, 401, 1101),
        ("/v1/ticket", old, Value::Null, 401, 1102),
        ("/v1/umbrella/ticket", token("ada"), Value::Null, 401, 1101),
        ("/v1/No%20Tenant/ticket", token("ada"), Value::Null, 401, 1101),
        // Its scopes do not say so.
        ("/v1/acme/ticket", API_KEY.to_owned(), user.clone(), 403, 1100),
        ("/v1/umbrella/ticket", API_KEY.to_owned(), user.clone(), 401, 1101),
        ("/v1/ticket", API_KEY.to_owned(), user, 401, 1101),
    ];
    for (path, credential, body, status, code) in cases {
        let bearer = format!("Bearer {credential}");
        let answer = ask(node, path, &[("authorization", &bearer)], body).await;

        let told = json_of(&answer)["error"]["code"].clone();
        assert_eq!((answer.status.as_u16(), told), (status, json!(code)), "{path} {credential}");
    }
    let url = format!("http://{}/v1/ticket", node.address);
    let read = request(Method::GET, &url, &[], "").await.expect("an answer");
    assert_eq!(read.status, StatusCode::METHOD_NOT_ALLOWED);
}

/// A tenant with a server that may fetch tickets, for what it may do itself.
async fn with_server(origins: &[&str]) -> Registered {
    let nodes = Registered::start(1).await;
    let document = json!({
        "name": TENANT,
        "keys": [{ "id": TENANT, "algorithm": "HS256", "secret": secret(TENANT) }],
        "api_keys": [{
            "id": "server", "secret": secret("server"), "scopes": ["tickets"],
            "channels": { "room/**": ["subscribe", "publish"] },
        }],
        "allowed_origins": origins,
    });
    let path = format!("/v1/tenants/{TENANT}");
    let put = nodes.ask(Method::PUT, &path, &[], document.to_string()).await;
    assert!(put.status.is_success(), "{:?}", put.body);
    nodes
}

async fn ask_as_server(nodes: &Registered, wanted: Value) -> Response {
    let bearer = format!("Bearer server.{}", secret("server"));
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    ask(&nodes.fleet.nodes[0], &format!("/v1/{TENANT}/ticket"), &headers, wanted).await
}

#[tokio::test]
async fn a_server_lets_its_users_do_what_it_may_do_itself_and_no_more() {
    let nodes = with_server(&[]).await;
    let node = &nodes.fleet.nodes[0];
    for (wanted, status, code) in [
        (json!({ "user": "ada", "channels": { "**": ["subscribe"] } }), 403, 1100),
        (json!({ "user": "ada", "channels": { "room/1": ["history"] } }), 403, 1100),
        (json!({ "user": "ada", "channels": { "room": ["subscribe"] } }), 403, 1100),
        (json!({ "user": "" }), 400, 1000),
        (json!({ "user": "ada", "ttl": 0 }), 400, 1000),
        (json!({ "user": "ada", "ttl": 3601 }), 400, 1000),
        (json!({ "user": "ada", "who": 1 }), 400, 1000),
        (json!({ "channels": {} }), 400, 1000),
        (json!({ "user": "a".repeat(65_536) }), 413, 1006),
    ] {
        let answer = ask_as_server(&nodes, wanted.clone()).await;
        let told = json_of(&answer)["error"]["code"].clone();
        assert_eq!((answer.status.as_u16(), told), (status, json!(code)), "{wanted}");
    }

    let wanted = json!({
        "user": "ada", "ttl": 100,
        "channels": { "room/*": ["subscribe"] }, "denied": { "room/2": ["subscribe"] },
    });
    let narrow = ask_as_server(&nodes, wanted).await;
    assert_eq!(json_of(&narrow)["expires_in"], 30);
    let mut peer = show(node, &ticket_of(&narrow)).await;
    let expires_at = peer.connected().await.expires_at.expect("it expires");
    assert!((now()..=now() + 100).contains(&expires_at), "{expires_at}");
    peer.subscribe("room/1").await;
    peer.publish("room/1", text("no"));
    peer.send_text(r#"{"id":9,"subscribe":{"channel":"room/2"}}"#);
    for _ in 0..2 {
        assert_eq!(peer.refused().await.1.code, 1100);
    }

    let all = ask_as_server(&nodes, json!({ "user": "bob" })).await;
    let mut peer = show(node, &ticket_of(&all)).await;
    peer.connected().await;
    peer.published("room/2/3", text("yes")).await;
}

#[tokio::test]
async fn a_ticket_is_of_use_to_pages_of_the_origin_that_fetched_it() {
    let nodes = with_server(&[HOME, "https://other.example"]).await;
    let node = &nodes.fleet.nodes[0];
    let fetch = async |origin: Option<&str>| {
        let bearer = format!("Bearer {}", token("ada"));
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(origin.map(|origin| ("origin", origin)));
        ask(node, "/v1/acme/ticket", &headers, Value::Null).await
    };
    let page = async |origin: Option<&str>, ticket: &str| {
        let visited = visit(&nodes, origin, json!({ "ticket": ticket })).await;
        visited.map_err(|(code, told)| (code, told[0]["error"]["code"].clone()))
    };

    let own = ticket_of(&fetch(Some(HOME)).await);
    page(Some(HOME), &own).await.expect("its own page");
    for (fetched_by, shown_by) in
        [(Some(HOME), Some("https://other.example")), (Some(HOME), None), (None, Some(HOME))]
    {
        let ticket = ticket_of(&fetch(fetched_by).await);

        let told = page(shown_by, &ticket).await.expect_err("a page of another origin");
        assert_eq!(told, (4401, json!(1105)), "{fetched_by:?} {shown_by:?}");
    }
    let foreign = fetch(Some("https://evil.example")).await;
    let told = json_of(&foreign)["error"]["code"].clone();
    assert_eq!((foreign.status.as_u16(), told), (403, json!(1104)));
}

#[tokio::test]
async fn the_answer_is_for_pages_that_the_tenant_lists_and_asking_tells_nothing() {
    let nodes = with_server(&[HOME]).await;
    let node = &nodes.fleet.nodes[0];
    let allowed = |answer: &Response| {
        assert_eq!(answer.headers["vary"], "origin");
        let value = answer.headers.get("access-control-allow-origin")?;
        Some(value.to_str().expect("text").to_owned())
    };
    for (path, origin) in
        [("acme", HOME), ("acme", "https://evil.example"), ("ghost", "https://evil.example")]
    {
        let url = format!("http://{}/v1/{path}/ticket", node.address);
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        let asked = request(Method::OPTIONS, &url, &headers, "").await.expect("an answer");

        assert_eq!(asked.status, StatusCode::NO_CONTENT);
        assert_eq!(allowed(&asked).as_deref(), Some(origin));
        assert_eq!(asked.headers["access-control-allow-methods"], "POST");
    }

    let bearer = format!("Bearer {}", token("ada"));
    let forged = format!("Bearer {}", sign(OTHER_TENANT, &claims(TENANT, "ada")));
    for (bearer, origin, expected) in [
        (&bearer, Some(HOME), Some(HOME)),
        (&bearer, Some("https://evil.example"), None),
        (&bearer, None, None),
        (&forged, Some(HOME), None),
    ] {
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(origin.map(|origin| ("origin", origin)));
        let answer = ask(node, "/v1/acme/ticket", &headers, Value::Null).await;

        assert_eq!(allowed(&answer).as_deref(), expected, "{origin:?}");
        assert!(!answer.headers.contains_key("access-control-allow-credentials"));
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
}

#[tokio::test]
async fn a_connect_with_a_token_and_a_ticket_is_no_connect() {
    let fleet = Fleet::one().await;
    let mut peer = Peer::dial(&fleet.nodes[0]).await;

    peer.send_text(r#"{"id":1,"connect":{"token":"a","ticket":"b"}}"#);

    peer.closes_with(4400).await;
}
