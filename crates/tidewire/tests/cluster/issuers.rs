//! Tokens of an issuer whose keys real nodes fetch over HTTPS.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http::{Method, StatusCode};
use serde_json::json;
use tidewire_client::{Connection, Options};
use tidewire_testkit::IssuerKey;
use tidewire_testkit::services::HttpsStub;
use tidewire_transport::http::request;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{Cluster, NodeProcess, options};
use crate::scenarios::PATIENCE;

const FICKLE: &str = "https://fickle.example/";
const STEADY: &str = "https://steady.example/";
/// How often a node may ask an issuer: what clients cause is 30 s apart, and what has failed is repeated
/// after that, give or take a tenth.
const APART: Duration = Duration::from_secs(27);
/// Of made-up keys, so many at each node at once, and how long they rest before they come again.
const CROWD: usize = 10;
const REST: Duration = Duration::from_millis(200);

/// Row 40 of the failure matrix.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_goes_away_and_changes_its_keys_is_asked_each_half_minute_at_most() {
    let (fickle, steady) = (HttpsStub::start().await, HttpsStub::start().await);
    let [first, second, forged, of_steady] =
        ["first", "second", "forged", "steady"].map(IssuerKey::draw);
    fickle.answer_with(&IssuerKey::set(&[&first]));
    steady.answer_with(&IssuerKey::set(&[&of_steady]));
    let cluster = Cluster::start().await;
    let settings = settings();
    let [(a, admin), (b, _)] = [(); 2].map(|()| cluster.node_administered_with(&settings));
    let (nodes, begun) = ([&a, &b], Instant::now());
    put(&admin, "fickle", (FICKLE, &fickle)).await;
    put(&admin, "steady", (STEADY, &steady)).await;
    for node in nodes {
        until_let_in(node, "fickle", || first.token(FICKLE, "ada")).await;
        until_let_in(node, "steady", || of_steady.token(STEADY, "bob")).await;
    }

    let (is_over, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    let flooding = async {
        while !is_over.load(Ordering::Relaxed) {
            for node in nodes {
                flood(node, (&forged, &refused)).await;
                assert!(comes(node, "steady", of_steady.token(STEADY, "bob")).await);
            }
            sleep(REST).await;
        }
    };
    let changing = async {
        let asked = fickle.asked();
        fickle.fail();
        until(|| fickle.asked() >= asked + nodes.len()).await;
        for node in nodes {
            assert!(comes(node, "fickle", first.token(FICKLE, "ada")).await, "its keys are stale");
        }

        fickle.answer_with(&IssuerKey::set(&[&second]));
        for node in nodes {
            until_let_in(node, "fickle", || second.token(FICKLE, "ada")).await;
            assert!(!comes(node, "fickle", first.token(FICKLE, "ada")).await, "it is no more");
        }
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(flooding, changing);

    let rounds = usize::try_from(begun.elapsed().as_secs() / APART.as_secs()).expect("few");
    let most = nodes.len() * (1 + rounds);
    assert!(fickle.asked() <= most, "asked {} times, and not {most}", fickle.asked());
    assert!(refused.load(Ordering::Relaxed) > 20 * most, "that was no flood: {refused:?}");
}

/// That a node believes the stubs, and finds them on this machine.
fn settings() -> String {
    let authority = String::from_utf8_lossy(HttpsStub::AUTHORITY);
    format!(
        "[auth]\njwks_ca = '''\n{authority}'''\njwks_networks = [\"127.0.0.0/8\", \"::1/128\"]\n"
    )
}

/// Has a tenant have an issuer of this name, whose keys are behind a stub.
async fn put(admin: &str, tenant: &str, (name, stub): (&str, &HttpsStub)) {
    let issuer = json!({ "name": name, "jwks_url": stub.url("/keys") });
    let document = json!({ "name": tenant, "issuer": issuer }).to_string();
    let url = format!("{admin}/v1/tenants/{tenant}");
    let answer = request(Method::PUT, &url, &[("tidewire-control", "1")], document).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
}

/// Whether a client with this token is let in.
async fn comes(node: &NodeProcess, tenant: &str, token: String) -> bool {
    let options = Options { token: token.into(), ..options(tenant, "anybody", [node]) };
    timeout(PATIENCE, Connection::open(&options, 0, None)).await.expect("an answer").is_ok()
}

async fn until_let_in(node: &NodeProcess, tenant: &str, token: impl Fn() -> String) {
    let coming = async {
        while !comes(node, tenant, token()).await {
            sleep(REST).await;
        }
    };
    // Before that the node may not ask.
    timeout(APART + 2 * PATIENCE, coming).await.expect("let in");
}

async fn until(is_it: impl Fn() -> bool) {
    let waiting = async {
        while !is_it() {
            sleep(REST).await;
        }
    };
    timeout(APART + 2 * PATIENCE, waiting).await.expect("it comes to that");
}

/// Many come at once who name keys that nobody has, each another one, and none is let in.
async fn flood(node: &NodeProcess, (forged, refused): (&IssuerKey, &AtomicUsize)) {
    let coming = (0..CROWD).map(|_| {
        let number = refused.fetch_add(1, Ordering::Relaxed);
        comes(node, "fickle", forged.token_called(&format!("made-up-{number}"), FICKLE, "eve"))
    });
    assert!(join_all(coming).await.iter().all(|is_let_in| !is_let_in));
}
