//! What is revoked on one node, and how soon it is void on the others, with real Redis and NATS.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tidewire_auth::{Claims, TokenId};
use tidewire_chaos::{Proxy, Rules};
use tidewire_client::{Connection, Lost, OpenError, Options};
use tidewire_transport::ConnectError;
use tidewire_transport::http::request;
use tokio::time::{Instant, timeout};

use crate::cluster::{API_KEY, Cluster, NodeProcess, UNKEPT, claims, options, sign};
use crate::scenarios::PATIENCE;

/// Seconds before now, and before anything that a test revokes.
const BEFORE: u64 = 60;
/// A node looks every 5 s what is revoked; the rest is for a machine that is busy.
const LOOKED: Duration = Duration::from_secs(15);

async fn revoke(admin: &str, what: &Value) {
    let url = format!("{admin}/v1/tenants/acme/revocations");
    let headers = [("tidewire-control", "1")];
    let answer = request(Method::POST, &url, &headers, what.to_string()).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
}

/// Who comes to `node` with a token called as the user, that was issued so many seconds ago.
fn bearer(node: &NodeProcess, user: &str, ago: u64) -> Options {
    let token_id = Some(TokenId::parse(&format!("of-{user}")).expect("token id"));
    let claims = claims("acme", user);
    let issued_at = Some(claims.expires_at - 3_600 - ago);
    let token = sign("acme", &Claims { token_id, issued_at, ..claims });
    Options { token: token.into(), ..options("acme", user, [node]) }
}

async fn open(node: &NodeProcess, user: &str) -> Connection {
    let options = bearer(node, user, BEFORE);
    let opening = Connection::open(&options, 0, None);
    timeout(PATIENCE, opening).await.expect("an answer").expect("let in").0
}

/// How long it is until a connection is ended, which is to be with 4403.
async fn until_revoked(connection: &mut Connection, since: Instant) -> Duration {
    let ended = async {
        loop {
            match connection.next().await {
                Ok(_) => {}
                Err(Lost::Closed { code, .. }) => return code,
                Err(other) => unreachable!("not closed: {other}"),
            }
        }
    };
    let code = timeout(PATIENCE, ended).await.expect("an end");
    assert_eq!(code, Some(4403));
    since.elapsed()
}

async fn is_refused(node: &NodeProcess, user: &str) {
    let opened = timeout(PATIENCE, Connection::open(&bearer(node, user, BEFORE), 0, None)).await;
    match opened.expect("an answer") {
        Err(OpenError::Refused { refusal, .. }) => assert_eq!(refusal.code, 1103),
        Err(other) => unreachable!("refused in another way: {other}"),
        Ok(_) => unreachable!("{user} is let in on {}", node.name),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_revoked_is_gone_from_all_nodes_within_a_second_and_comes_back_to_none() {
    let cluster = Cluster::start().await;
    let (first, admin) = cluster.administered_node();
    let (second, third) = (cluster.node(), cluster.node());
    let mut bystander = open(&third, "bystander").await;

    // Several in a row: a node that only looks from time to time would be late for most of them.
    let mut times = Vec::new();
    for (number, what) in ["user", "token", "user", "token", "user"].iter().enumerate() {
        let user = format!("user-{number}");
        let mut here = open(&first, &user).await;
        let mut there = open(&second, &user).await;
        let mut elsewhere = open(&third, &user).await;
        let name = if *what == "token" { format!("of-{user}") } else { user.clone() };

        let started = Instant::now();
        revoke(&admin, &json!({ (*what): name })).await;
        for connection in [&mut here, &mut there, &mut elsewhere] {
            until_revoked(connection, started).await;
        }
        times.push(started.elapsed());
        for node in [&first, &second, &third] {
            is_refused(node, &user).await;
        }
    }

    // Everybody else goes with the key, and again with the tenant.
    for what in [json!({ "key": "test" }), json!({ "all": true })] {
        let started = Instant::now();
        revoke(&admin, &what).await;
        times.push(until_revoked(&mut bystander, started).await);
        is_refused(&second, "anybody").await;
        if what["all"] == true {
            break;
        }
        // Whoever is issued a token later than that may come, and the next second is later.
        let later = async {
            loop {
                match Connection::open(&bearer(&third, "bystander", 0), 0, None).await {
                    Ok((connection, _)) => return connection,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        bystander = timeout(PATIENCE, later).await.expect("let in");
    }
    // One of them may have met a machine that was busy with something else.
    times.sort();
    assert!(times[times.len() / 2] < Duration::from_millis(1_500), "{times:?}");
}

/// Row 41 of the failure matrix.
#[tokio::test(flavor = "multi_thread")]
async fn without_nats_whoever_is_revoked_is_gone_when_the_other_nodes_look_next() {
    let mut cluster = Cluster::start().await;
    let (_first, admin) = cluster.administered_node();
    let (second, third) = (cluster.node(), cluster.node());
    let mut there = open(&second, "ada").await;
    let mut elsewhere = open(&third, "ada").await;
    let mut bystander = open(&third, "bob").await;
    cluster.nats.kill();

    let started = Instant::now();
    revoke(&admin, &json!({ "user": "ada" })).await;
    for connection in [&mut there, &mut elsewhere] {
        let took = until_revoked(connection, started).await;
        assert!(took < LOOKED, "took {took:?}");
    }

    is_refused(&second, "ada").await;
    let quiet = timeout(Duration::from_millis(100), bystander.next()).await;
    assert!(!matches!(quiet, Ok(Err(_))), "{quiet:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_server_revokes_on_nodes_that_have_no_registry() {
    let cluster = Cluster::start().await;
    let (first, second) = (cluster.node(), cluster.node());
    let mut here = open(&first, "ada").await;
    let mut there = open(&second, "ada").await;
    let mut bystander = open(&second, "bob").await;

    let started = Instant::now();
    let url = format!("{}/v1/acme/revocations", first.http());
    let key = format!("Bearer {API_KEY}-acme");
    let headers = [("authorization", key.as_str())];
    let answer = request(Method::POST, &url, &headers, r#"{"user":"ada"}"#).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    for connection in [&mut here, &mut there] {
        until_revoked(connection, started).await;
    }

    is_refused(&second, "ada").await;
    let quiet = timeout(Duration::from_millis(100), bystander.next()).await;
    assert!(!matches!(quiet, Ok(Err(_))), "{quiet:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_starts_again_empty_takes_nothing_back() {
    let mut cluster = Cluster::start().await;
    let (node, admin) = cluster.administered_node();
    revoke(&admin, &json!({ "user": "ada" })).await;

    cluster.redis.restart().await;
    is_refused(&node, "ada").await;
    // Whoever starts now knows only what the other has brought back.
    let (new, _) = cluster.administered_node();

    let refused = async {
        while Connection::open(&bearer(&new, "ada", BEFORE), 0, None).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, refused).await.expect("it is brought back");
    is_refused(&new, "ada").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_read_what_it_was_told_of_sends_clients_to_another() {
    let cluster = Cluster::start().await;
    let proxy = Proxy::start(cluster.redis.address()).await.expect("a proxy");
    let redis = format!("redis://{}/", proxy.address());
    let cut_off = cluster.node_by(&redis, "");
    let careless = cluster.node_by(&redis, "[auth]\nwhen_cut_off = \"serve\"\n");
    let other = cluster.node();
    let comes = async |node: &NodeProcess| {
        let options = options(UNKEPT, "ada", [node]);
        timeout(PATIENCE, Connection::open(&options, 0, None)).await.expect("an answer").map(drop)
    };

    proxy.set(Rules { is_black_hole: [true, true], ..Rules::default() });
    // It goes on with what it knows while nobody tells of more.
    assert!(comes(&cut_off).await.is_ok());
    let url = format!("{}/v1/{UNKEPT}/revocations", other.http());
    let key = format!("Bearer {API_KEY}-{UNKEPT}");
    let headers = [("authorization", key.as_str())];
    let answer = request(Method::POST, &url, &headers, r#"{"user":"ada"}"#).await;
    assert_eq!(answer.expect("an answer").status, StatusCode::ACCEPTED);
    let told = Instant::now();

    // Whoever is at the door just then is refused by a frame.
    let at_the_door = |came: &Result<(), OpenError>| {
        let Err(OpenError::Connect(ConnectError::Refused { status, .. })) = came else {
            return false;
        };
        *status == StatusCode::SERVICE_UNAVAILABLE
    };
    until_it(&cut_off, &comes, at_the_door).await.expect_err("it is refused at the door");
    assert!(told.elapsed() < Duration::from_secs(25), "after {:?}", told.elapsed());
    let ready = request(Method::GET, &cut_off.ops("/readyz"), &[], "").await.expect("an answer");
    assert!(String::from_utf8_lossy(&ready.body).contains("what is revoked"), "{ready:?}");
    assert!(comes(&careless).await.is_ok(), "that is what it was told to do");
    let Err(OpenError::Refused { refusal, .. }) = comes(&other).await else {
        unreachable!("she is let in where it is known");
    };
    assert_eq!(refusal.code, 1103);

    proxy.heal();
    let known = |came: &Result<(), OpenError>| matches!(came, Err(OpenError::Refused { refusal, .. }) if refusal.code == 1103);
    for node in [&cut_off, &careless] {
        until_it(node, &comes, known).await.expect_err("she is revoked there too");
    }
}

/// How somebody fares who comes until it is as `wanted`.
async fn until_it<'a>(
    node: &'a NodeProcess,
    comes: &impl AsyncFn(&'a NodeProcess) -> Result<(), OpenError>,
    wanted: impl Fn(&Result<(), OpenError>) -> bool,
) -> Result<(), OpenError> {
    let coming = async {
        loop {
            let came = comes(node).await;
            if wanted(&came) {
                return came;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, coming).await.expect("it comes to that")
}
