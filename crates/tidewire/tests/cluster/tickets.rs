//! Tickets of one node at another, with a real Redis.

use http::{Method, StatusCode};
use tidewire_client::{Command, Connection, ServerEvent};
use tidewire_model::Connect;
use tidewire_transport::http::request;
use tokio::time::timeout;

use crate::cluster::{Cluster, NodeProcess, claims, options, sign};
use crate::scenarios::PATIENCE;

/// What a node says first to whoever shows it a ticket.
async fn show(node: &NodeProcess, ticket: &str) -> ServerEvent {
    let showing = async {
        let mut client =
            Connection::dial(&options("acme", "ada", [node]), 0).await.expect("upgraded");
        let connect = Connect { ticket: Some(ticket.into()), ..Connect::default() };
        client.send(Command::Connect(connect)).expect("connected");
        client.next().await.expect("an answer")
    };
    timeout(PATIENCE, showing).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_of_one_node_is_taken_once_by_another() {
    let cluster = Cluster::start().await;
    let (first, second) = (cluster.node(), cluster.node());
    let bearer = format!("Bearer {}", sign("acme", &claims("acme", "ada")));
    let headers = [("authorization", bearer.as_str())];
    let answer =
        request(Method::POST, &format!("{}/v1/acme/ticket", first.http()), &headers, "").await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let issued: serde_json::Value = serde_json::from_slice(&answer.body).expect("json");
    let ticket = issued["ticket"].as_str().expect("a ticket");

    let told =
        [show(&second, ticket).await, show(&second, ticket).await, show(&first, ticket).await];

    assert!(matches!(told[0], ServerEvent::Connected(_)), "{told:?}");
    for told in &told[1..] {
        assert!(matches!(told, ServerEvent::Failed { refusal, .. } if refusal.code == 1105));
    }
}
