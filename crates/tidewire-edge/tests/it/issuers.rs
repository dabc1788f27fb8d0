//! Tokens of an issuer whose keys are fetched over HTTPS, that is down, changes its keys, and is asked
//! for keys that nobody has (row 40); and what others notice of one that hangs (row 39).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{Method, StatusCode};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use tidewire_auth::{Algorithm, GeneratedKey};
use tidewire_client::{Codec, ServerEvent};
use tidewire_edge::{JwksPace, over_https};
use tidewire_model::{Command, Connect};
use tidewire_testkit::services::HttpsStub;
use tidewire_transport::guard::Guard;
use tidewire_transport::https::{Fetcher, Roots};
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use crate::channel_tokens::show;
use crate::fleet::{OTHER_TENANT, TENANT, now, soon, until};
use crate::peer::{Peer, text};
use crate::registry::{Registered, json_of};

const ISSUER: &str = "https://idp.example/";
const OTHER_ISSUER: &str = "https://other.example/";

/// An issuer's key, and how it is published.
struct Key {
    id: String,
    signing: EncodingKey,
    published: Value,
}

impl Key {
    fn draw(id: &str) -> Self {
        let GeneratedKey::Pair { private_pem, public_pem } =
            GeneratedKey::generate(Algorithm::EdDsa)
        else {
            unreachable!("a pair")
        };
        let signing = EncodingKey::from_ed_pem(private_pem.as_bytes()).expect("a key");
        let text: String = public_pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = STANDARD.decode(text).expect("base64");
        // The key itself is what a SubjectPublicKeyInfo ends with (RFC 8410).
        let x = URL_SAFE_NO_PAD.encode(&der[der.len() - 32..]);
        let published = json!({ "kid": id, "kty": "OKP", "crv": "Ed25519", "x": x });
        Self { id: id.to_owned(), signing, published }
    }

    /// A token of `user` that names no tenant, good for everything.
    fn token(&self, user: &str) -> String {
        self.token_of(ISSUER, user)
    }

    /// The same, of an issuer of this name.
    fn token_of(&self, issuer: &str, user: &str) -> String {
        self.sign(&json!({
            "iss": issuer, "sub": user, "aud": "tidewire", "exp": now() + 600,
            "channels": { "**": ["subscribe", "publish"] },
        }))
    }

    fn token_without_rights(&self, user: &str) -> String {
        self.sign(&json!({
            "iss": ISSUER, "sub": user, "aud": "tidewire", "exp": now() + 600, "channels": {},
        }))
    }

    fn token_of_channel(&self, user: &str, channel: &str) -> String {
        self.sign(&json!({
            "iss": ISSUER, "sub": user, "aud": "tidewire", "exp": now() + 600,
            "channel": channel, "actions": ["subscribe", "publish"],
        }))
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(jsonwebtoken::Algorithm::EdDSA);
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, claims, &self.signing).expect("a token")
    }
}

fn publish(stub: &HttpsStub, keys: &[&Key]) {
    let keys: Vec<_> = keys.iter().map(|key| &key.published).collect();
    stub.answer_with(&json!({ "keys": keys }).to_string());
}

/// A node with a tenant that has the issuer behind `stub`, whose keys clients may have fetched so often.
async fn node_with(stub: &HttpsStub, apart: Duration) -> Registered {
    let nodes = Registered::start(1).await;
    let here = ["127.0.0.0/8", "::1"].map(|text| text.parse().expect("a network"));
    let roots = Roots::Pem(HttpsStub::AUTHORITY.to_vec());
    let fetcher = Fetcher::new(&roots, Guard::new(here.to_vec())).expect("roots");
    let edge = nodes.fleet.nodes[0].edge.clone();
    let pace = JwksPace { apart, ..JwksPace::default() };
    nodes.fleet.spawn(async move {
        edge.keep_issuers(over_https(fetcher), pace, CancellationToken::new()).await;
    });
    let put = put(&nodes, TENANT, (ISSUER, stub)).await;
    assert_eq!(put.0, StatusCode::CREATED, "{}", put.1);
    until(|| stub.asked() > 0).await;
    nodes
}

/// Has a tenant have an issuer of this name, whose keys are behind a stub.
async fn put(
    nodes: &Registered,
    tenant: &str,
    (name, stub): (&str, &HttpsStub),
) -> (StatusCode, Value) {
    let issuer = json!({ "name": name, "jwks_url": stub.url("/keys") });
    let document = json!({ "name": tenant, "issuer": issuer }).to_string();
    let path = format!("/v1/tenants/{tenant}");
    let answer = nodes.ask(Method::PUT, &path, &[], document).await;
    (answer.status, json_of(&answer))
}

async fn is_let_in(nodes: &Registered, token: String) -> bool {
    let mut peer = Peer::dial(&nodes.fleet.nodes[0]).await;
    peer.send(Command::Connect(Connect { token: Some(token.into()), ..Connect::default() }));
    matches!(soon(peer.0.next()).await, Ok(ServerEvent::Connected(_)))
}

async fn published(nodes: &Registered) {
    until(|| nodes.fleet.nodes[0].tenants.ring().load().published_keys() > 0).await;
}

#[tokio::test]
async fn a_key_that_an_issuer_has_just_published_lets_in_at_once() {
    let stub = HttpsStub::start().await;
    let (first, second) = (Key::draw("first"), Key::draw("second"));
    publish(&stub, &[&first]);
    let nodes = node_with(&stub, Duration::ZERO).await;
    published(&nodes).await;
    let (mut peer, _) = Peer::connect_with(&nodes.fleet.nodes[0], first.token("ada")).await;

    publish(&stub, &[&second]);
    assert!(is_let_in(&nodes, second.token("bob")).await);
    assert!(!is_let_in(&nodes, first.token("cid")).await, "it is published no more");

    // Whoever is there stays, and goes over to the new key.
    let third = Key::draw("third");
    publish(&stub, &[&third]);
    peer.send(Command::Refresh { token: third.token("ada").into(), channel: None });
    assert!(matches!(peer.next().await, ServerEvent::Refreshed { .. }));
    peer.published("room/1", text("here")).await;
}

#[tokio::test]
async fn a_token_of_a_channel_waits_for_the_key_of_its_own_tenants_issuer_and_for_no_other() {
    let stub = HttpsStub::start().await;
    let (known, new) = (Key::draw("known"), Key::draw("new"));
    publish(&stub, &[&known]);
    let nodes = node_with(&stub, Duration::ZERO).await;
    published(&nodes).await;
    let node = &nodes.fleet.nodes[0];
    let (others, other) = (HttpsStub::start().await, Key::draw("other"));
    publish(&others, &[&other]);
    let put = put(&nodes, OTHER_TENANT, (OTHER_ISSUER, &others)).await;
    assert_eq!(put.0, StatusCode::CREATED, "{}", put.1);
    until(|| node.tenants.ring().load().published_keys() > 1).await;
    let mut stranger = Peer::dial_as(node, Some(OTHER_TENANT), Codec::Json).await;
    stranger.introduce(other.token_of(OTHER_ISSUER, "ada")).await;
    let asked = stub.asked();
    show(&mut stranger, "room/1", new.token_of_channel("ada", "room/1"));
    assert_eq!(stranger.refused().await.1.code, 1101);
    assert_eq!(stub.asked(), asked, "it learns nothing of another's issuer");

    let (mut ada, _) = Peer::connect_with(node, known.token_without_rights("ada")).await;
    publish(&stub, &[&known, &new]);
    show(&mut ada, "room/1", new.token_of_channel("ada", "room/1"));

    ada.subscribed().await;
    let nobodys = Key::draw("nobodys");
    show(&mut ada, "room/2", nobodys.token_of_channel("ada", "room/2"));
    assert_eq!(ada.refused().await.1.code, 1101);
    ada.published("room/1", text("here")).await;
}

#[tokio::test]
async fn an_issuer_that_is_down_keeps_out_only_who_has_a_new_key() {
    let stub = HttpsStub::start().await;
    let (known, new) = (Key::draw("known"), Key::draw("new"));
    publish(&stub, &[&known]);
    let nodes = node_with(&stub, Duration::ZERO).await;
    published(&nodes).await;

    // It hangs, and whoever names what is not there waits for so long and no longer.
    stub.answer("");
    let started = Instant::now();
    assert!(!is_let_in(&nodes, new.token("bob")).await);
    assert!(started.elapsed() >= Duration::from_secs(3), "{:?}", started.elapsed());
    assert!(is_let_in(&nodes, known.token("ada")).await);
    stub.fail();
    assert!(!is_let_in(&nodes, new.token("bob")).await);
    assert!(is_let_in(&nodes, known.token("ada")).await);

    publish(&stub, &[&known, &new]);
    while !is_let_in(&nodes, new.token("bob")).await {}
}

#[tokio::test]
async fn a_flood_of_unknown_keys_costs_an_issuer_one_question() {
    const MANY: usize = 50;
    let stub = HttpsStub::start().await;
    let known = Key::draw("known");
    publish(&stub, &[&known]);
    let nodes = node_with(&stub, JwksPace::default().apart).await;
    published(&nodes).await;

    let forged: Vec<_> = (0..MANY).map(|index| Key::draw(&format!("forged-{index}"))).collect();
    let knocking = forged.iter().map(|key| is_let_in(&nodes, key.token("eve")));
    let (let_in, ada) = tokio::join!(
        futures_util::future::join_all(knocking),
        is_let_in(&nodes, known.token("ada")),
    );

    assert!(ada && let_in.iter().all(|is_let_in| !is_let_in));
    assert_eq!(stub.asked(), 1, "and that was before they came");
}

#[tokio::test]
async fn an_issuer_is_one_tenants() {
    let stub = HttpsStub::start().await;
    let key = Key::draw("known");
    publish(&stub, &[&key]);
    let nodes = node_with(&stub, Duration::ZERO).await;
    published(&nodes).await;

    let (status, answer) = put(&nodes, OTHER_TENANT, (ISSUER, &stub)).await;

    assert_eq!((status, &answer["error"]["code"]), (StatusCode::CONFLICT, &json!("issuer_in_use")));
    // By its path it would be the other's.
    let mut peer = Peer::dial_as(&nodes.fleet.nodes[0], Some(OTHER_TENANT), Codec::Json).await;
    peer.send(Command::Connect(Connect {
        token: Some(key.token("ada").into()),
        ..Connect::default()
    }));
    peer.closes_with(4401).await;
    assert!(is_let_in(&nodes, key.token("ada")).await);
}

/// As many knock with keys that nobody has as may wait, as long as this lasts, and those of another
/// tenant come in under the key that their issuer has published last.
#[tokio::test]
async fn an_issuer_that_hangs_or_fails_is_not_noticed_by_another_tenants_clients() {
    const OTHER: &str = "https://hangs.example/";
    const CROWD: usize = 100;
    let (stub, hanging) = (HttpsStub::start().await, HttpsStub::start().await);
    let (first, forged) = (Key::draw("first"), Key::draw("forged"));
    publish(&stub, &[&first]);
    let nodes = node_with(&stub, Duration::ZERO).await;
    published(&nodes).await;
    hanging.answer("");
    assert_eq!(put(&nodes, OTHER_TENANT, (OTHER, &hanging)).await.0, StatusCode::CREATED);
    until(|| hanging.asked() > 0).await;

    for (round, fails) in [false, true].into_iter().enumerate() {
        if fails {
            hanging.fail();
        }
        // Whoever comes while it is not known yet waits.
        let (begun, mut waited) = (Instant::now(), Duration::MAX);
        while waited > Duration::from_secs(1) {
            assert!(begun.elapsed() < Duration::from_secs(30), "eve still waits for {waited:?}");
            let started = Instant::now();
            assert!(!is_let_in(&nodes, forged.token_of(OTHER, "eve")).await);
            waited = started.elapsed();
        }
        let next = Key::draw(&format!("next-{round}"));
        publish(&stub, &[&next]);
        let knocking = (0..CROWD).map(|_| is_let_in(&nodes, forged.token_of(OTHER, "eve")));
        let started = Instant::now();
        let coming = async { (is_let_in(&nodes, next.token("ada")).await, started.elapsed()) };
        let (let_in, (ada, took)) = tokio::join!(futures_util::future::join_all(knocking), coming);

        assert!(ada, "ada was kept out, fails: {fails}");
        assert!(took < Duration::from_secs(3), "ada waited for {took:?}, fails: {fails}");
        assert!(let_in.iter().all(|is_let_in| !is_let_in));
    }
}
