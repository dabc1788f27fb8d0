//! Publishing over HTTP.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tidewire_edge::EdgeConfig;
use tidewire_model::{Payload, PublicationId};
use tidewire_transport::http::request;

use crate::fleet::{API_KEY, Fleet, OTHER_API_KEY, OTHER_TENANT, TENANT};
use crate::peer::{Bystander, Peer, text};

fn path(channel: &str) -> String {
    format!("/v1/{TENANT}/channels/{channel}/publications")
}

const BATCH: &str = "/v1/acme/publications";

fn code(answer: &Value) -> Option<u64> {
    answer["error"]["code"].as_u64()
}

#[tokio::test]
async fn a_server_publishes_what_clients_then_get() {
    let fleet = Fleet::one().await;
    let mut peer = Peer::connect(&fleet.nodes[0], "ada").await;
    peer.subscribe("room/größe 1").await;

    let data = r#"{"id":"p-1","data": {"n": 1.50} }"#;
    let encoded = path("room%2Fgr%C3%B6%C3%9Fe%201");
    let (status, answer) = fleet.nodes[0].post(&encoded, API_KEY, data).await;

    assert_eq!(status, 200);
    let heard = peer.publications().await;
    assert_eq!(answer["epoch"], heard[0].position.epoch.as_str());
    assert_eq!(answer["offset"], 1);
    assert_eq!(answer.get("duplicate"), None);
    assert_eq!(heard[0].payload, Payload::json(r#"{"n": 1.50}"#.into()).expect("json"));
    assert_eq!(heard[0].id.as_ref().map(PublicationId::as_str), Some("p-1"));
    assert_eq!(heard[0].publisher, None);
}

#[tokio::test]
async fn a_repeated_id_gets_the_first_position_and_no_second_delivery() {
    let fleet = Fleet::one().await;
    let node = &fleet.nodes[0];
    let mut peer = Peer::connect(node, "ada").await;
    peer.subscribe("lobby").await;
    let body = r#"{"id":"once","data":1}"#;

    let (_, first) = node.post(&path("lobby"), API_KEY, body).await;
    let (status, second) = node.post(&path("lobby"), API_KEY, body).await;
    node.post(&path("lobby"), API_KEY, r#"{"data":null}"#).await;

    assert_eq!(status, 200);
    assert_eq!(second, json!({"epoch": first["epoch"], "offset": 1, "duplicate": true}));
    let mut offsets = Vec::new();
    while offsets.len() < 2 {
        offsets.extend(peer.publications().await.iter().map(|one| one.position.offset));
    }
    assert_eq!(offsets, [1, 2]);
}

#[tokio::test]
async fn binary_travels_as_base64() {
    let fleet = Fleet::one().await;
    let mut peer = Peer::connect(&fleet.nodes[0], "ada").await;
    peer.subscribe("lobby").await;

    let (status, _) = fleet.nodes[0].post(&path("lobby"), API_KEY, r#"{"binary":"AP8Q"}"#).await;

    assert_eq!(status, 200);
    let payload = peer.publications().await[0].payload.clone();
    assert_eq!(payload, Payload::binary(Bytes::from_static(&[0, 255, 16])));
}

#[tokio::test]
async fn each_publication_of_a_batch_has_its_own_verdict() {
    let fleet = Fleet::one().await;
    let mut bystander = Bystander::watch(&fleet).await;
    let batch = json!({ "publications": [
        { "channel": "room/1", "data": 1 },
        { "channel": "a//b", "data": 2 },
        { "channel": "private/notes", "data": 3 },
        { "data": 4 },
        { "channel": "room/1", "id": "", "data": 5 },
        { "channel": "room/1", "binary": "?" },
        { "channel": "room/1" },
        { "channel": "room/1", "data": 6 },
        "what?",
    ]});

    let (status, answer) = fleet.nodes[0].post(BATCH, API_KEY, batch.to_string()).await;

    assert_eq!(status, 200);
    let results = answer["results"].as_array().expect("results");
    let codes: Vec<_> = results.iter().map(code).collect();
    let refused = [1002, 1100, 1000, 1004, 1005, 1005].map(Some);
    assert_eq!(codes, [&[None], &refused[..], &[None, Some(1000)]].concat());
    assert_eq!((&results[0]["offset"], &results[7]["offset"]), (&json!(1), &json!(2)));
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn who_is_not_let_in_learns_nothing_else() {
    let fleet = Fleet::one().await;
    let node = &fleet.nodes[0];
    let foreign = format!("/v1/{OTHER_TENANT}/channels/lobby/publications");
    let ghost = "/v1/ghost/channels/lobby/publications";
    let wrong_secret = format!("{API_KEY}x");
    let attempts = [
        (path("lobby"), "nonsense"),
        (path("lobby"), wrong_secret.as_str()),
        (path("lobby"), OTHER_API_KEY),
        (foreign, API_KEY),
        (ghost.to_owned(), API_KEY),
        ("/v1/No%20Tenant/channels/lobby/publications".to_owned(), API_KEY),
        (BATCH.to_owned(), OTHER_API_KEY),
    ];
    let mut answers = Vec::new();
    for (path, key) in attempts {
        let (status, answer) = node.post(&path, key, r#"{"data":1}"#).await;
        assert_eq!((status.as_u16(), code(&answer)), (401, Some(1101)), "{path}");
        answers.push(answer);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");

    let url = format!("http://{}{}", node.address, path("lobby"));
    let without = request(Method::POST, &url, &[], r#"{"data":1}"#).await.expect("an answer");
    assert_eq!(without.status, 401);
    assert_eq!(without.headers["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn what_cannot_be_published_is_refused_with_a_status_that_fits() {
    let fleet = Fleet::one().await;
    let mut bystander = Bystander::watch(&fleet).await;
    let most = EdgeConfig::default().max_message_bytes / 2;
    let sized = |bytes: usize| format!(r#"{{"data":"{}"}}"#, "x".repeat(bytes - 2));
    let deep = format!(r#"{{"data":{}{}}}"#, "[".repeat(33), "]".repeat(33));
    let cases = [
        ("private%2Fnotes", r#"{"data":1}"#.to_owned(), 403, 1100),
        ("a%2F%2Fb", r#"{"data":1}"#.to_owned(), 400, 1002),
        ("lobby", r#"{"data":"#.to_owned(), 400, 1000),
        ("lobby", r#"{"data":1,"shout":true}"#.to_owned(), 400, 1000),
        ("lobby", r#"{"channel":"lobby","data":1}"#.to_owned(), 400, 1000),
        ("lobby", r#"{"data":1,"binary":""}"#.to_owned(), 400, 1005),
        ("lobby", "{}".to_owned(), 400, 1005),
        ("lobby", deep, 400, 1005),
        ("lobby", sized(most + 1), 413, 1006),
        ("lobby", " ".repeat((4 << 20) + 1), 413, 1006),
    ];
    for (channel, body, status, error) in cases {
        let said = body[..body.len().min(40)].to_owned();
        let (answered, answer) = fleet.nodes[0].post(&path(channel), API_KEY, body).await;
        assert_eq!((answered.as_u16(), code(&answer)), (status, Some(error)), "{said}");
    }
    let (status, _) = fleet.nodes[0].post(&path("lobby"), API_KEY, sized(most)).await;
    assert_eq!(status, 200);
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn a_batch_that_is_too_long_is_refused_as_a_whole() {
    let fleet = Fleet::one().await;
    let mut peer = Peer::connect(&fleet.nodes[0], "ada").await;
    peer.subscribe("lobby").await;
    let publications = vec![json!({ "channel": "lobby", "data": 1 }); 1_001];
    let batch = json!({ "publications": publications }).to_string();

    let (status, answer) = fleet.nodes[0].post(BATCH, API_KEY, batch).await;

    assert_eq!((status.as_u16(), code(&answer)), (413, Some(1300)));
    assert_eq!(peer.published("lobby", text("first")).await.offset, 1);
}

#[tokio::test]
async fn without_its_log_a_node_asks_to_publish_again() {
    let fleet = Fleet::one().await;
    fleet.log.switch(false);

    let (status, answer) = fleet.nodes[0].post(&path("lobby"), API_KEY, r#"{"data":1}"#).await;

    assert_eq!((status.as_u16(), code(&answer)), (503, Some(2000)));
    assert_eq!(answer["error"]["retryable"], true);
}
