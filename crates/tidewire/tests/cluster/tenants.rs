//! Tenants that are added and removed while nodes run, with real Redis and NATS.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;
use tidewire_client::Client;
use tidewire_transport::http::request;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{Cluster, NodeProcess, options, secret};
use crate::scenarios::until_members;

/// A machine that is busy with other tests is slow at everything but at what is promised.
const PATIENCE: Duration = Duration::from_secs(20);

async fn ask(admin: &str, method: Method, tenant: &str) -> StatusCode {
    let body = if method == Method::PUT { document(tenant).to_string() } else { String::new() };
    send(admin, method, tenant, body).await
}

fn document(tenant: &str) -> serde_json::Value {
    let key = json!({ "id": "test", "algorithm": "HS256", "secret": secret(tenant) });
    json!({ "name": tenant, "keys": [key] })
}

async fn send(admin: &str, method: Method, tenant: &str, body: String) -> StatusCode {
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

    // Five in a row: a node that only looks from time to time, each 5 s, would take 20 s for them.
    let mut took = Duration::ZERO;
    for tenant in ["one", "two", "three", "four", "five"] {
        assert!(!may_connect(&second, tenant).await);
        assert_eq!(ask(&admin, Method::PUT, tenant).await, StatusCode::CREATED);
        took += until_connecting_is(true, &second, tenant).await;
    }
    assert!(took < Duration::from_secs(10), "took {took:?}");

    assert_eq!(ask(&admin, Method::DELETE, "one").await, StatusCode::NO_CONTENT);
    until_connecting_is(false, &second, "one").await;
    assert!(may_connect(&second, "two").await);
    assert_eq!(ask(&admin, Method::PUT, "acme").await, StatusCode::CONFLICT, "it is in the file");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nats_a_tenant_that_is_added_connects_to_the_other_node_when_that_looks_next() {
    let mut cluster = Cluster::start().await;
    let ((_first, admin), (second, _)) = (cluster.administered_node(), cluster.administered_node());
    cluster.nats.kill();

    assert_eq!(ask(&admin, Method::PUT, "late").await, StatusCode::CREATED);

    let took = until_connecting_is(true, &second, "late").await;

    // It looks every 5 s; the rest is for a machine that is busy.
    assert!(took < Duration::from_secs(15), "took {took:?}");
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

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_node_takes_its_part_of_a_quota_by_number() {
    let cluster = Cluster::start().await;
    let ((first, admin), (second, _)) = (cluster.administered_node(), cluster.administered_node());
    // Who has not heard of the other by then takes all for its part.
    for node in [&first, &second] {
        until_members(node, 2).await;
    }
    // Sessions that are not kept, so that nobody needs Redis to connect.
    for (tenant, most) in [("bounded", Some(6)), ("other", None)] {
        let mut document = document(tenant);
        document["sessions"] = json!("none");
        if let Some(most) = most {
            document["limits"] = json!({ "tenant_connections": most });
        }
        let status = send(&admin, Method::PUT, tenant, document.to_string()).await;
        assert_eq!(status, StatusCode::CREATED);
        until_connecting_is(true, &second, tenant).await;
    }
    let connect = async |node: &NodeProcess, tenant| {
        let connecting = Client::connect(options(tenant, "ada", [node]));
        timeout(PATIENCE, connecting).await.expect("an answer").ok()
    };
    let mut here = Vec::new();
    for node in [&first, &second] {
        // A moment ago the other one may have had all of them.
        here.push(timeout(PATIENCE, connected(node, "bounded")).await.expect("one of six"));
    }

    cluster.redis.pause();
    for node in [&first, &second] {
        until_metric(node, "tidewire_quota_fallback 1").await;
        for _ in 0..2 {
            here.push(connect(node, "bounded").await.expect("three of six"));
        }
        assert!(connect(node, "bounded").await.is_none(), "a fourth on {}", node.name);
        assert!(connect(node, "other").await.is_some());
    }
    cluster.redis.resume();

    until_metric(&first, "tidewire_quota_fallback 0").await;
    drop(here);
}

/// A client of `tenant`, as soon as one is let in.
async fn connected(node: &NodeProcess, tenant: &str) -> Client {
    loop {
        if let Ok(client) = Client::connect(options(tenant, "ada", [node])).await {
            return client;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn until_metric(node: &NodeProcess, line: &str) {
    let asking = async {
        let url = node.ops("/metrics");
        loop {
            let metrics = request(Method::GET, &url, &[], "").await.expect("an answer").body;
            if String::from_utf8_lossy(&metrics).lines().any(|one| one == line) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, asking).await.expect("it says so in time");
}
