//! Tokens in cookies: good for a ticket, from the tenant's own pages, and for nothing else.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tidewire_auth::Claims;
use tidewire_transport::http::{Response, request};

use crate::fleet::{OTHER_TENANT, TENANT, claims, now, secret, sign, token};
use crate::origins::{HOME, visit, visit_with};
use crate::registry::{Registered, json_of};
use crate::tickets::ticket_of;

const EVIL: &str = "https://evil.example";
const CONTROL: (&str, &str) = ("tidewire-control", "1");

/// A node with a tenant whose page is [`HOME`], with tokens in this cookie if it has a name.
async fn node_with(cookie: Option<&str>) -> Registered {
    let nodes = Registered::start(1).await;
    let key = json!({ "id": TENANT, "algorithm": "HS256", "secret": secret(TENANT) });
    let mut document = json!({ "name": TENANT, "keys": [key], "allowed_origins": [HOME] });
    if let Some(cookie) = cookie {
        document["cookie"] = cookie.into();
    }
    let path = format!("/v1/tenants/{TENANT}");
    let put = nodes.ask(Method::PUT, &path, &[], document.to_string()).await;
    assert!(put.status.is_success(), "{:?}", put.body);
    nodes
}

async fn ask(nodes: &Registered, path: &str, headers: &[(&str, &str)]) -> Response {
    let url = format!("http://{}{path}", nodes.fleet.nodes[0].address);
    request(Method::POST, &url, headers, "").await.expect("an answer")
}

async fn fetch(nodes: &Registered, headers: &[(&str, &str)]) -> Response {
    ask(nodes, &format!("/v1/{TENANT}/ticket"), headers).await
}

fn origin(text: &str) -> (&str, &str) {
    ("origin", text)
}

fn cookie(text: &str) -> (&str, &str) {
    ("cookie", text)
}

#[tokio::test]
async fn a_page_of_the_tenants_gets_a_ticket_for_its_cookie_and_connects_with_that() {
    let nodes = node_with(Some("session")).await;
    let cookie = format!("theme=dark; session={}", token("ada"));
    let headers = [("origin", HOME), CONTROL, ("cookie", cookie.as_str())];

    let answer = fetch(&nodes, &headers).await;

    assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.body);
    assert_eq!(answer.headers["access-control-allow-origin"], HOME);
    assert_eq!(answer.headers["access-control-allow-credentials"], "true");
    let ticket = json!({ "ticket": ticket_of(&answer) });
    visit(&nodes, Some(HOME), ticket).await.expect("let in");
    for page in [Some(EVIL), None] {
        let ticket = json!({ "ticket": ticket_of(&fetch(&nodes, &headers).await) });
        let (code, told) = visit(&nodes, page, ticket).await.expect_err("of another origin");
        assert_eq!((code, &told[0]["error"]["code"]), (4401, &json!(1105)), "{page:?}");
    }
}

#[tokio::test]
async fn without_any_of_what_it_takes_a_cookie_is_none() {
    let nodes = node_with(Some("session")).await;
    let nothing = fetch(&nodes, &[]).await;
    let good = format!("session={}", token("ada"));
    let (forged, of_channel) = (
        format!("session={}", sign(OTHER_TENANT, &claims(TENANT, "ada"))),
        format!("session={}", crate::channel_tokens::of_channel("room/1", |_| {})),
    );
    let twice = format!("{good}; {good}");
    let (quoted, other_case) =
        (format!("session=\"{}\"", token("ada")), good.replacen('s', "S", 1));
    let cases: Vec<Vec<(&str, &str)>> = vec![
        vec![CONTROL, cookie(&good)],
        vec![origin(HOME), cookie(&good)],
        vec![origin(HOME), CONTROL],
        vec![origin(EVIL), CONTROL, cookie(&good)],
        vec![origin("null"), CONTROL, cookie(&good)],
        vec![origin("https://app.example.evil.example"), CONTROL, cookie(&good)],
        vec![origin("http://app.example"), CONTROL, cookie(&good)],
        vec![origin("https://app.example:8443"), CONTROL, cookie(&good)],
        vec![origin(HOME), origin(EVIL), CONTROL, cookie(&good)],
        vec![origin(HOME), CONTROL, cookie(&twice)],
        vec![origin(HOME), CONTROL, cookie(&good), cookie(&good)],
        vec![origin(HOME), CONTROL, cookie(&forged)],
        vec![origin(HOME), CONTROL, cookie(&of_channel)],
        vec![origin(HOME), CONTROL, cookie(&quoted)],
        vec![origin(HOME), CONTROL, cookie(&other_case)],
    ];

    for headers in &cases {
        let answer = fetch(&nodes, headers).await;

        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{headers:?}");
        assert_eq!(answer.body, nothing.body, "{headers:?}");
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{headers:?}");
    }
    let all = [origin(HOME), CONTROL, cookie(&good)];
    for path in ["/v1/ticket", "/v1/ghost/ticket"] {
        let answer = ask(&nodes, path, &all).await;
        assert_eq!((answer.status, &answer.body), (StatusCode::UNAUTHORIZED, &nothing.body));
    }
    assert_eq!(fetch(&nodes, &all).await.status, StatusCode::CREATED);
    let expired = sign(TENANT, &Claims { expires_at: now() - 60, ..claims(TENANT, "ada") });
    let answer = fetch(&nodes, &[all[0], CONTROL, cookie(&format!("session={expired}"))]).await;
    assert_eq!(json_of(&answer)["error"]["code"], 1102);
    let elsewhere = node_with(None).await;
    let answer = fetch(&elsewhere, &all).await;
    assert_eq!((answer.status, answer.body), (StatusCode::UNAUTHORIZED, nothing.body));
}

/// What takes accounts over where a cookie is enough: a foreign page opens a WebSocket, to which the browser
/// adds the cookie of whoever visits it.
#[tokio::test]
async fn no_cookie_opens_a_websocket_whatever_page_asks() {
    let nodes = node_with(Some("session")).await;
    let cookie = format!("session={}", token("ada"));
    for origin in [EVIL, HOME, "null"] {
        for connect in [json!({}), json!({ "ticket": token("ada") }), json!({ "token": "" })] {
            let headers = [("origin", origin), CONTROL, ("cookie", cookie.as_str())];

            let visited = visit_with(&nodes.fleet.nodes[0], headers, connect).await;

            let (code, told) = visited.expect_err("it has no ticket");
            assert!([4400, 4401].contains(&code), "{code} {told}");
        }
    }
}

#[tokio::test]
async fn a_cookie_without_a_list_of_pages_is_no_document() {
    let nodes = Registered::start(1).await;
    for (cookie, origins) in [("session", json!([])), ("a b", json!([HOME]))] {
        let key = json!({ "id": TENANT, "algorithm": "HS256", "secret": secret(TENANT) });
        let document: Value = json!({
            "name": TENANT, "keys": [key], "cookie": cookie, "allowed_origins": origins,
        });
        let path = format!("/v1/tenants/{TENANT}");

        let put = nodes.ask(Method::PUT, &path, &[], document.to_string()).await;

        assert_eq!(put.status, StatusCode::BAD_REQUEST);
        assert!(String::from_utf8_lossy(&put.body).contains("cookie"), "{:?}", put.body);
    }
}
