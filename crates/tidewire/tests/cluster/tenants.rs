//! Tenants that are added and removed while nodes run, with real Redis and NATS.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;
use tidewire_client::Client;
use tidewire_transport::http::request;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{Cluster, NodeProcess, options, secret};

/// A machine that is busy with other tests is slow at everything but at what is promised.
const PATIENCE: Duration = Duration::from_secs(20);

async fn ask(admin: &str, method: Method, tenant: &str) -> StatusCode {
    let key = json!({ "id": "test", "algorithm": "HS256", "secret": secret(tenant) });
    let document = json!({ "name": tenant, "keys": [key] }).to_string();
    let body = if method == Method::PUT { document } else { String::new() };
    let url = format!("{admin}/v1/tenants/{tenant}");
    let headers = [("tidewire-control", "1")];
    request(method, &url, &headers, body).await.expect("an answer").status
}

async fn may_connect(node: &NodeProcess, tenant: &str) -> bool {
    let connecting = Client::connect(options(tenant, "ada", [node]));
    timeout(PATIENCE, connecting).await.expect("an answer").is_ok()
}

/// How long it takes until a client with a token of `tenant` is let in, or is not any more.
async fn until_connecting_is(expected: bool, node: &NodeProcess, tenant: &str) -> Duration {
    let started = Instant::now();
    while may_connect(node, tenant).await != expected {
        assert!(started.elapsed() < PATIENCE, "{tenant} on {}: not {expected}", node.name);
        sleep(Duration::from_millis(20)).await;
    }
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_added_on_one_node_connects_to_the_other_until_it_is_removed() {
    let cluster = Cluster::start().await;
    let ((_first, admin), (second, _)) = (cluster.administered_node(), cluster.administered_node());

    // Five in a row: a node that only looks from time to time would not be in time for all.
    for tenant in ["one", "two", "three", "four", "five"] {
        assert!(!may_connect(&second, tenant).await);
        assert_eq!(ask(&admin, Method::PUT, tenant).await, StatusCode::CREATED);
        let took = until_connecting_is(true, &second, tenant).await;
        assert!(took < Duration::from_millis(1_500), "{tenant} took {took:?}");
    }

    assert_eq!(ask(&admin, Method::DELETE, "one").await, StatusCode::NO_CONTENT);
    until_connecting_is(false, &second, "one").await;
    assert!(may_connect(&second, "two").await);
    assert_eq!(ask(&admin, Method::PUT, "acme").await, StatusCode::CONFLICT, "it is in the file");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nats_a_tenant_that_is_added_connects_to_the_other_node_in_six_seconds() {
    let mut cluster = Cluster::start().await;
    let ((_first, admin), (second, _)) = (cluster.administered_node(), cluster.administered_node());
    cluster.nats.kill();

    assert_eq!(ask(&admin, Method::PUT, "late").await, StatusCode::CREATED);
    let took = until_connecting_is(true, &second, "late").await;

    assert!(took < Duration::from_secs(6), "took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_starts_again_empty_loses_no_tenant() {
    let mut cluster = Cluster::start().await;
    let (node, admin) = cluster.administered_node();
    assert_eq!(ask(&admin, Method::PUT, "kept").await, StatusCode::CREATED);

    cluster.redis.restart().await;
    assert!(may_connect(&node, "kept").await);
    // Whoever starts now knows only what the other has brought back.
    let (new, _) = cluster.administered_node();

    until_connecting_is(true, &new, "kept").await;
}
