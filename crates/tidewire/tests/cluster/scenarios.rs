use std::time::Duration;

use tidewire_client::{Channel, Client, Connection, Happening, OpenError, Options, Since};
use tidewire_model::GapReason;
use tidewire_transport::http::{Response, request};
use tokio::time::Instant;

use crate::bridge::bridged;
use crate::cluster::{API_KEY, Cluster, NodeProcess, options, token};
use crate::crowd::{Crowd, Size};
use crate::ledger::Verdict;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_publications_through_two_nodes_reach_everybody_once_and_in_order() {
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.node(), cluster.node());
    let size = Size { subscribers: 200, channels: 20, publications: 20_000, rest: Duration::ZERO };

    let report = Crowd::gather(size, &a, &b).await.disperse().await;

    assert_eq!(report.verdict, Verdict::default(), "{report:?}");
    assert_eq!(report.deliveries, 200_000);
    assert_eq!(report.resumed, 0, "nobody was cut off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_loses_nothing_and_its_clients_resume_on_the_other() {
    let cluster = Cluster::start().await;
    let (mut a, b) = (cluster.node(), cluster.node());
    let size = Size { subscribers: 200, channels: 20, publications: 8_000, rest: REST };

    let mut crowd = Crowd::gather(size, &a, &b).await;
    crowd.progress(0.3).await;
    a.kill();
    let report = crowd.disperse().await;

    assert_eq!(report.verdict, Verdict::default(), "{report:?}");
    // The subscribers and the publishers that were at the killed node.
    assert!(report.resumed >= 100, "{report:?}");
    assert_eq!(report.begun_anew, 240, "every session went on: {report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_drained_loses_nothing_and_ends_well() {
    let cluster = Cluster::start().await;
    let (mut a, b) = (cluster.node(), cluster.node());
    let size = Size { subscribers: 200, channels: 20, publications: 8_000, rest: REST };

    let mut crowd = Crowd::gather(size, &a, &b).await;
    crowd.progress(0.3).await;
    a.terminate();
    a.line_with("asking clients to move");
    let not_ready = request(http::Method::GET, &a.ops("/readyz"), &[], "").await;
    let status = a.ended().await;
    let report = crowd.disperse().await;

    assert_eq!(not_ready.expect("the node answers while it drains").status, 503);
    assert!(status.success(), "{status}");
    assert_eq!(report.verdict, Verdict::default(), "{report:?}");
    assert!(report.resumed >= 100, "{report:?}");
    assert_eq!(report.begun_anew, 240, "every session went on: {report:?}");
}

#[tokio::test]
async fn an_id_that_comes_again_gets_the_same_position_from_either_node() {
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.node(), cluster.node());
    let mut subscriber = Client::connect(options("acme", "ann", [&b, &a])).await.expect("connects");
    subscriber.subscribe(channel("orders"), Since::Now);
    until_subscribed(&mut subscriber).await;

    let first = publish(&a, "acme", "orders", r#"{"id":"order-1","data":1}"#).await;
    let again = publish(&b, "acme", "orders", r#"{"id":"order-1","data":1}"#).await;
    let other = publish(&b, "acme", "orders", r#"{"data":2}"#).await;

    let (first, again, other) = (json(&first), json(&again), json(&other));
    assert_eq!((&first["offset"], &first["epoch"]), (&again["offset"], &again["epoch"]));
    assert_eq!(again["duplicate"], true);
    let mut heard = Vec::new();
    while heard.last() != Some(&other["offset"]) {
        if let Happening::Publication { publication, .. } = next(&mut subscriber).await {
            heard.push(publication.position.offset.into());
        }
    }
    assert_eq!(heard, [first["offset"].clone(), other["offset"].clone()]);
}

#[tokio::test]
async fn a_foreign_tenants_credentials_get_nothing() {
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.node(), cluster.node());
    publish(&a, "acme", "secret", r#"{"data":"canary"}"#).await;

    // Its own tenant has a channel of that name too, and it is empty.
    let mut eve = Client::connect(options("globex", "eve", [&b, &a])).await.expect("connects");
    eve.subscribe(channel("secret"), Since::Last(10));
    until_subscribed(&mut eve).await;
    publish(&a, "acme", "secret", r#"{"data":"canary"}"#).await;
    publish(&a, "globex", "secret", r#"{"data":"own"}"#).await;
    let heard = loop {
        if let Happening::Publication { publication, .. } = next(&mut eve).await {
            break publication.payload.bytes().clone();
        }
    };
    assert_eq!(heard, r#""own""#);

    // In the other tenant's path its token is refused in the words that meet a forged one.
    let mut trespasser = options("acme", "eve", [&b, &a]);
    trespasser.token = token("globex", "eve").into();
    let mut forger = options("acme", "eve", [&b, &a]);
    forger.token = "x.y.z".to_owned().into();
    let refusals = [refusal(&trespasser).await, refusal(&forger).await];
    assert_eq!(refusals[0], refusals[1]);
    assert!(refusals[0].contains("bad_token"), "{refusals:?}");

    // The same goes for an API key, for a channel that is there as for one that is not.
    let key = format!("Bearer {API_KEY}-globex");
    let mut answers = Vec::new();
    for name in ["secret", "missing"] {
        let url = format!("{}/v1/acme/channels/{name}/publications", a.http());
        let headers = [("authorization", key.as_str())];
        let answer = request(http::Method::POST, &url, &headers, r#"{"data":1}"#).await;
        let answer = answer.expect("the node answers");
        answers.push((answer.status, answer.body));
    }
    assert_eq!(answers[0].0, 401);
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn a_node_starts_before_its_services_says_what_is_missing_and_becomes_ready() {
    let mut cluster = Cluster::start().await;
    cluster.nats.kill();
    cluster.redis.kill();

    let node = cluster.node();
    let missing = readiness(&node).await;

    assert_eq!(missing.status, 503);
    let reasons = String::from_utf8(missing.body.to_vec()).expect("text");
    // In the order in which the node tells of them.
    for address in [cluster.redis.address(), cluster.nats.address()] {
        assert!(reasons.contains(&address.to_string()), "{address} in {reasons}");
        node.line_with(&address.to_string());
    }
    assert_eq!(readiness(&node).await.status, 503);
    let alive = request(http::Method::GET, &node.ops("/healthz"), &[], "").await;
    assert_eq!(alive.expect("it lives").status, 200);

    cluster.nats.restart().await;
    cluster.redis.restart().await;
    until_ready(&node).await;
    publish(&node, "acme", "news", r#"{"data":1}"#).await;
}

#[tokio::test]
async fn without_redis_publications_are_refused_as_retryable_and_subscribers_stay() {
    let mut cluster = Cluster::start().await;
    let (a, b) = (cluster.node(), cluster.node());
    let mut subscriber = Client::connect(options("acme", "ann", [&b, &a])).await.expect("connects");
    subscriber.subscribe(channel("news"), Since::Now);
    until_subscribed(&mut subscriber).await;

    cluster.redis.kill();
    let refused = try_publish(&a, "acme", "news", r#"{"data":1}"#).await;

    assert!(matches!(refused.status.as_u16(), 503 | 504), "{refused:?}");
    assert_eq!(json(&refused)["error"]["retryable"], true);
    let reasons = readiness(&a).await;
    assert_eq!(reasons.status, 503);

    cluster.redis.restart().await;
    until_ready(&a).await;
    publish(&a, "acme", "news", r#"{"data":2}"#).await;
    loop {
        match next(&mut subscriber).await {
            // This Redis keeps nothing on disk, so its channels begin anew, and that is announced.
            Happening::Gap { gap, .. } => {
                assert_eq!(gap.reason, GapReason::Reset);
                publish(&a, "acme", "news", r#"{"data":3}"#).await;
            }
            // The gap may be noticed before the second publication or by it.
            Happening::Publication { publication, .. } if publication.payload.bytes() == "2" => {}
            Happening::Publication { publication, .. } => {
                assert_eq!(publication.payload.bytes(), "3");
                break;
            }
            other => unreachable!("the subscriber stays as it is: {other:?}"),
        }
    }
}

#[tokio::test]
async fn without_redis_ephemeral_channels_still_deliver_between_nodes() {
    let mut cluster = Cluster::start().await;
    let (a, b) = (cluster.node(), cluster.node());
    let mut subscriber = Client::connect(options("acme", "ann", [&b, &a])).await.expect("connects");
    for name in ["ticker/1", "news"] {
        subscriber.subscribe(channel(name), Since::Now);
        until_subscribed(&mut subscriber).await;
    }

    cluster.redis.kill();
    for number in 0..20 {
        let body = format!(r#"{{"data":{number}}}"#);
        let published = json(&publish(&a, "acme", "ticker%2F1", &body).await);
        assert_eq!(published["offset"], 0, "no log numbers it");
        assert_eq!(next_payload(&mut subscriber).await, number.to_string());
    }
    let refused = try_publish(&a, "acme", "news", r#"{"data":"refused"}"#).await;
    assert_eq!(json(&refused)["error"]["retryable"], true);

    cluster.redis.restart().await;
    until_ready(&a).await;
    publish(&a, "acme", "ticker%2F1", r#"{"data":"tick"}"#).await;
    assert_eq!(next_payload(&mut subscriber).await, r#""tick""#);
    publish(&a, "acme", "news", r#"{"data":"kept"}"#).await;
    let history = Client::connect(options("acme", "bob", [&a, &b])).await;
    let mut reader = history.expect("connects again");
    reader.subscribe(channel("news"), Since::Last(10));
    assert_eq!(next_payload(&mut reader).await, r#""kept""#);
}

#[tokio::test]
async fn on_a_redis_that_would_evict_a_node_does_not_start_and_one_that_has_is_not_ready() {
    let evicting = ["--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"];
    let mut cluster = Cluster::with_redis(&evicting).await;

    let refused = cluster.refused_node();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    for name in ["maxmemory-policy", "maxmemory set", &cluster.redis.address().to_string()] {
        assert!(said.contains(name), "{name} in {said}");
    }

    // While it is away, nothing can be said against it.
    cluster.redis.kill();
    let node = cluster.node();
    cluster.redis.restart().await;
    node.line_with("redis cannot be relied on");
    let state = readiness(&node).await;
    assert_eq!(state.status, 503);
    assert!(String::from_utf8_lossy(&state.body).contains("maxmemory-policy"));
}

#[tokio::test]
async fn without_nats_publications_arrive_within_a_second_or_two() {
    let mut cluster = Cluster::start().await;
    let (a, b) = (cluster.node(), cluster.node());
    until_members(&b, 2).await;
    let mut subscriber = Client::connect(options("acme", "ann", [&b, &a])).await.expect("connects");
    subscriber.subscribe(channel("news"), Since::Now);
    until_subscribed(&mut subscriber).await;

    cluster.nats.kill();
    b.line_with("asking the log");
    for number in 0..10 {
        let published = Instant::now();
        publish(&a, "acme", "news", &format!(r#"{{"data":{number}}}"#)).await;
        assert_eq!(next_payload(&mut subscriber).await, number.to_string());
        assert!(published.elapsed() < POLLED, "{:?}", published.elapsed());
    }

    cluster.nats.restart().await;
    b.line_with("brings publications again");
    let published = Instant::now();
    publish(&a, "acme", "news", r#"{"data":"back"}"#).await;
    assert_eq!(next_payload(&mut subscriber).await, r#""back""#);
    assert!(published.elapsed() < POLLED, "{:?}", published.elapsed());
}

/// Both nodes are connected to a server of their own all the time; the servers lose each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_nats_split_between_two_nodes_publications_arrive_within_a_second_or_two() {
    let (near, far, line) = bridged().await;
    let cluster = Cluster::on(near).await;
    let (a, b) = (cluster.node(), cluster.node_on(&far));
    until_members(&b, 2).await;
    let mut subscriber = Client::connect(options("acme", "ann", [&b, &a])).await.expect("connects");
    subscriber.subscribe(channel("news"), Since::Now);
    until_subscribed(&mut subscriber).await;
    publish(&a, "acme", "news", r#"{"data":"over the bridge"}"#).await;
    assert_eq!(next_payload(&mut subscriber).await, r#""over the bridge""#);

    line.silence();
    b.line_with("nothing is heard from");
    for number in 0..5 {
        let published = Instant::now();
        publish(&a, "acme", "news", &format!(r#"{{"data":{number}}}"#)).await;
        assert_eq!(next_payload(&mut subscriber).await, number.to_string());
        assert!(published.elapsed() < POLLED, "{:?}", published.elapsed());
    }

    line.mend();
    b.line_with("brings publications again");
    assert_eq!(readiness(&b).await.status, 200, "its own server was there all the time");
}

#[tokio::test]
async fn any_node_serves_any_tenant_and_all_agree_where_it_belongs() {
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.node(), cluster.node());
    until_members(&a, 2).await;
    until_members(&b, 2).await;

    let mut placements = Vec::new();
    for node in [&a, &b] {
        let answer = request(http::Method::GET, &node.ops("/placement/acme"), &[], "").await;
        placements.push(answer.expect("the node answers").body);
    }

    assert_eq!(placements[0], placements[1]);
    publish(&a, "acme", "news", r#"{"data":1}"#).await;
    publish(&b, "acme", "news", r#"{"data":1}"#).await;
}

/// Makes a crowd of 8,000 publications take some seconds.
const REST: Duration = Duration::from_millis(25);
/// A node that hears nobody asks the log each second, and any other every 10; the rest is for a machine that is
/// busy.
const POLLED: Duration = Duration::from_secs(5);
/// Longer than anything takes that happens at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn next(client: &mut Client) -> Happening {
    let happening = tokio::time::timeout(PATIENCE, client.next()).await;
    happening.expect("something happens").expect("the client may go on")
}

async fn next_payload(client: &mut Client) -> String {
    loop {
        if let Happening::Publication { publication, .. } = next(client).await {
            return String::from_utf8_lossy(publication.payload.bytes()).into_owned();
        }
    }
}

pub(crate) async fn until_subscribed(client: &mut Client) {
    while !matches!(next(client).await, Happening::Subscribed(_)) {}
}

async fn refusal(options: &Options) -> String {
    match Connection::open(options, 0, None).await {
        Err(OpenError::Refused { refusal, closing }) => format!("{refusal} {closing:?}"),
        Err(other) => unreachable!("refused in another way: {other}"),
        Ok(_) => unreachable!("let in"),
    }
}

pub(crate) fn channel(name: &str) -> Channel {
    Channel::parse(name).expect("a valid name")
}

pub(crate) async fn publish(node: &NodeProcess, tenant: &str, name: &str, body: &str) -> Response {
    let answer = try_publish(node, tenant, name, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

pub(crate) async fn try_publish(
    node: &NodeProcess,
    tenant: &str,
    name: &str,
    body: &str,
) -> Response {
    let url = format!("{}/v1/{tenant}/channels/{name}/publications", node.http());
    let key = format!("Bearer {API_KEY}-{tenant}");
    let headers = [("authorization", key.as_str())];
    request(http::Method::POST, &url, &headers, body.to_owned()).await.expect("the node answers")
}

fn json(response: &Response) -> serde_json::Value {
    serde_json::from_slice(&response.body).expect("JSON")
}

async fn readiness(node: &NodeProcess) -> Response {
    request(http::Method::GET, &node.ops("/readyz"), &[], "").await.expect("the node answers")
}

async fn until_ready(node: &NodeProcess) {
    let ready = async {
        while readiness(node).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("the node becomes ready");
}

pub(crate) async fn until_members(node: &NodeProcess, count: usize) {
    let complete = async {
        loop {
            let answer = request(http::Method::GET, &node.ops("/nodes"), &[], "").await;
            let members = json(&answer.expect("the node answers"));
            if members.as_array().is_some_and(|members| members.len() == count) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, complete).await.expect("the members are known");
}
