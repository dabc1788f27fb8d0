//! What operators and their machines ask.

use std::num::NonZeroU8;

use bytes::Bytes;
use http::Method;
use tidewire_auth::{TenantKeys, VerificationKey};
use tidewire_edge::{CONTROL_HEADER, EdgeConfig};
use tidewire_model::Tenant;
use tidewire_tenant::{Change, Definition, TenantDetails};
use tidewire_transport::http::{Response, request};

use crate::fleet::{API_KEY, Fleet, Running, key_id, secret, soon};
use crate::peer::{Peer, text};

fn body(answer: &Response) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

#[tokio::test]
async fn a_node_is_alive_and_ready_unless_something_keeps_it_from_working() {
    let fleet = Fleet::one().await;
    let node = &fleet.nodes[0];
    let ready = node.get("/readyz").await;
    assert_eq!((ready.status.as_u16(), body(&ready).as_str()), (200, r#"{"ready":true}"#));

    fleet.log.switch(false);

    let not_ready = node.get("/readyz").await;
    assert_eq!(not_ready.status, 503);
    assert!(body(&not_ready).contains("switched off"), "{}", body(&not_ready));
    assert_eq!(node.get("/healthz").await.status, 200);

    fleet.log.switch(true);
    assert_eq!(node.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn the_promised_metrics_are_there() {
    let fleet = Fleet::one().await;
    let node = &fleet.nodes[0];
    let mut peer = Peer::connect(node, "ada").await;
    peer.subscribe("lobby").await;
    peer.published("lobby", text("hello")).await;
    let path = "/v1/acme/channels/lobby/publications";
    node.post(path, API_KEY, r#"{"data":1}"#).await;
    let mut refused = Peer::dial(node).await;
    refused.send_text("nonsense");
    refused.closes_with(4400).await;
    peer.0.close().await;
    // The gauge goes down when the connection has been taken off the node's books.
    soon(async {
        while node.edge.connections() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let metrics = body(&node.get("/metrics").await);

    for name in [
        r#"tidewire_connections{transport="ws"}"#,
        r#"tidewire_connections_opened_total{transport="ws"}"#,
        r#"tidewire_connections_rejected_total{transport="ws",reason="auth"}"#,
        r#"tidewire_connections_closed_total{transport="ws","#,
        "tidewire_connection_duration_seconds",
        r#"tidewire_auth_total{method="token",result="ok"}"#,
        r#"tidewire_auth_total{method="api_key",result="ok"}"#,
        r#"tidewire_publish_total{source="client",result="ok"}"#,
        r#"tidewire_publish_total{source="api",result="ok"}"#,
        "tidewire_publish_duration_seconds",
        r#"tidewire_messages_received_total{transport="ws"}"#,
        r#"tidewire_messages_received_bytes_total{transport="ws"}"#,
        r#"tidewire_messages_sent_total{transport="ws"}"#,
        r#"tidewire_messages_sent_bytes_total{transport="ws"}"#,
        r#"tidewire_api_requests_total{api="http",method="publish",code="200"}"#,
        "tidewire_api_duration_seconds",
    ] {
        assert!(metrics.contains(name), "{name} is not among\n{metrics}");
    }
    let with_user: Vec<_> = metrics.lines().filter(|line| line.contains("\"ada\"")).collect();
    assert_eq!(with_user, [""; 0], "a user's name is no label");
}

#[tokio::test]
async fn the_nodes_and_the_placement_of_a_tenant_are_told() {
    let fleet = Fleet::one().await;
    let node = &fleet.nodes[0];
    let nodes = soon(async {
        loop {
            let nodes = body(&node.get("/nodes").await);
            if nodes != "[]" {
                return nodes;
            }
        }
    });

    assert!(nodes.await.contains(r#""node":"node-0""#));
    let placement = body(&node.get("/placement/acme").await);
    let url = format!("ws://{}", node.address);
    let home = format!(
        r#"{{"slot":"node-0","node":"node-0","state":"ready","weight":100,"connections":0,"url":"{url}"}}"#
    );
    let expected = format!(r#"{{"tenant":"acme","k":2,"homes":[{home}],"nodes":["node-0"]}}"#);
    assert_eq!(placement, expected);
    assert_eq!(node.get("/placement/No-Tenant").await.status, 400);
}

/// Adds a tenant whose clients are to meet on so many nodes.
fn set_homes(fleet: &Fleet, name: &str, homes: u8) {
    let tenant = Tenant::parse(name).expect("tenant");
    let key = VerificationKey::from_secret(key_id(name), secret(name).as_bytes()).expect("key");
    let keys = TenantKeys { tenant, keys: vec![key], api_keys: Vec::new(), issuer: None };
    let details = TenantDetails { homes: NonZeroU8::new(homes), ..TenantDetails::default() };
    let definition = Definition { keys, rules: Vec::new(), details };
    fleet.tenants.apply([Change::Set(Box::new(definition))]);
}

#[tokio::test]
async fn the_homes_of_all_tenants_are_told_as_each_balancer_reads_them() {
    let fleet = Fleet::start(2, EdgeConfig::default()).await;
    let node = &fleet.nodes[0];
    soon(async { while !body(&node.get("/nodes").await).contains("node-1") {} }).await;
    set_homes(&fleet, "globex", 1);
    let ask = async |query: &str| body(&node.get(&format!("/placement{query}")).await);

    assert_eq!(
        ask("").await,
        r#"[{"homes":["node-0","node-1"],"k":2,"tenant":"acme"}
,{"homes":["node-0"],"k":1,"tenant":"globex"}
,{"homes":["node-0","node-1"],"k":2,"tenant":"umbrella"}
]
"#
    );
    assert_eq!(
        ask("?format=haproxy").await,
        "# Homes of tenants that have not 2.\n\
         globex 1\n"
    );
    assert_eq!(
        ask("?format=nginx&suffix=.example.com:80").await,
        "# From GET /placement?format=nginx, as nodes were then.\n\
         map $tidewire_tenant $tidewire_home {\n    default tidewire_any;\n    \
         acme tidewire_0;\n    globex tidewire_1;\n    umbrella tidewire_0;\n}\n\
         upstream tidewire_0 {\n    least_conn;\n    server node-0.example.com:80;\n    \
         server node-1.example.com:80;\n}\n\
         upstream tidewire_1 {\n    least_conn;\n    server node-0.example.com:80;\n}\n"
    );
    assert_eq!(node.get("/placement?format=nginx&suffix=;evil").await.status, 400);
    assert_eq!(node.get("/placement?format=apache").await.status, 400);
}

#[tokio::test]
async fn many_tenants_are_told_whole_and_in_order() {
    let fleet = Fleet::one().await;
    for number in 0..600 {
        set_homes(&fleet, &format!("t{number:03}"), 3);
    }

    let told = body(&fleet.nodes[0].get("/placement?format=haproxy").await);

    let lines: Vec<_> = told.lines().skip(1).map(str::to_owned).collect();
    assert_eq!(lines, (0..600).map(|number| format!("t{number:03} 3")).collect::<Vec<_>>());
}

/// Asks a node to make itself, or another, leave.
async fn ask_to_leave(node: &Running, query: &str, headers: &[(&str, &str)]) -> Response {
    let url = format!("http://{}/drain{query}", node.ops);
    request(Method::POST, &url, headers, Bytes::new()).await.expect("an answer")
}

#[tokio::test]
async fn operators_make_a_node_leave_by_way_of_any_other() {
    let fleet = Fleet::start(2, EdgeConfig::default()).await;
    let [first, second] = &fleet.nodes[..] else { unreachable!("two nodes") };
    let wanted = [(CONTROL_HEADER, "1")];
    soon(async { while !body(&first.get("/nodes").await).contains("node-1") {} }).await;

    assert_eq!(ask_to_leave(first, "", &[]).await.status, 403, "a foreign page may have sent it");
    assert_eq!(ask_to_leave(first, "?node=nobody", &wanted).await.status, 404);
    assert_eq!(ask_to_leave(first, "?node=no+name", &wanted).await.status, 400);
    let told = ask_to_leave(first, "?node=node-1", &wanted).await;

    assert_eq!((told.status.as_u16(), body(&told).as_str()), (202, r#"{"node":"node-1"}"#));
    soon(second.edge.asked_to_leave()).await;
    assert_eq!(
        body(&first.get("/drain").await),
        r#"{"node":"node-0","state":"serving","remaining":0,"per_second":0,"held":false}"#
    );
    assert_eq!(ask_to_leave(first, "", &wanted).await.status, 202);
    soon(first.edge.asked_to_leave()).await;
}

#[tokio::test]
async fn clients_cannot_make_a_node_leave() {
    let fleet = Fleet::one().await;
    let url = format!("http://{}/drain", fleet.nodes[0].address);

    for method in [Method::GET, Method::POST] {
        let answer = request(method, &url, &[(CONTROL_HEADER, "1")], Bytes::new()).await;

        assert_eq!(answer.expect("an answer").status, 404);
    }
}
