//! Every secret that a node is given, by every way that is there, and none of them in what it writes.
//!
//! Each is something that occurs nowhere else. Nodes log everything they can (`trace`); what they log, their
//! metrics, what operators are shown, and what whoever is refused is told is searched for each, as it is and
//! encoded.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidewire_auth::{ChannelClaims, Claims, KeyId, SigningKey};
use tidewire_client::Codec;
use tidewire_model::{Action, Channel, Permissions};
use tidewire_testkit::services::{NatsServer, RedisServer};
use tidewire_transport::http::request;
use tidewire_witness::Random;
use tokio::time::{Duration, sleep, timeout};

use crate::cluster::{NodeProcess, claims, field};
use crate::command::{Command, Member};
use crate::scenarios::PATIENCE;
use crate::socket::{Socket, contains};

const TENANT: &str = "acme";
/// What is nobody's secret, and has no place in metrics: whoever sends it decides on it.
const CHOSEN: [&str; 3] = [USER, CHANNEL, ID];
const PAGE: &str = "https://app.example";
const USER: &str = "user-1f9c";
const CHANNEL: &str = "channel-83ab";
const ID: &str = "id-77d0";

/// By what they are.
#[derive(Default)]
struct Secrets(BTreeMap<String, String>);

impl Secrets {
    /// Another one that occurs nowhere else, in its first 16 characters as well.
    fn draw(&mut self, what: &str) -> String {
        let mut random = Random::new(7, u32::try_from(self.0.len()).expect("few"));
        let secret: String = (0..3).fold(String::new(), |mut text, _| {
            write!(text, "{:016x}", random.draw()).expect("it is written to memory");
            text
        });
        self.keep(what, &secret);
        secret
    }

    /// One that is made elsewhere: what is at its end is its own.
    fn keep(&mut self, what: &str, secret: &str) {
        self.0.insert(what.into(), secret.into());
    }

    /// Those that are among these bytes in one form or another.
    fn among(&self, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        for (what, secret) in &self.0 {
            let encoded = [STANDARD_NO_PAD.encode(secret), URL_SAFE_NO_PAD.encode(secret)];
            let hexadecimal = secret.bytes().fold(String::new(), |mut text, byte| {
                write!(text, "{byte:02x}").expect("it is written to memory");
                text
            });
            let forms = [&secret[..16], &encoded[0], &encoded[1], &hexadecimal];
            if forms.iter().any(|form| contains(bytes, form)) {
                found.push(what.clone());
            }
        }
        found
    }
}

/// Two nodes that know many secrets, and all that they have said to whom it was not meant for.
struct Scene {
    secrets: Secrets,
    nats: NatsServer,
    redis: RedisServer,
    nodes: Vec<NodeProcess>,
    admin: String,
    admin_token: String,
    signing_key: String,
    api_key: String,
    said: Vec<u8>,
    _directory: TempDir,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_logs_metrics_refusals_or_what_operators_are_shown() {
    let mut scene = Scene::set().await;

    scene.use_all_that_is_good().await;
    scene.be_refused_over_http().await;
    scene.be_refused_over_websockets().await;
    scene.be_refused_by_the_registry().await;
    scene.look_at_everything().await;
    scene.lose_redis_and_nats().await;
    scene.look_at_everything().await;

    scene.collect_logs();
    assert!(scene.said.len() > 100_000, "that is no log of everything");
    let found = scene.secrets.among(&scene.said);
    let said = String::from_utf8_lossy(&scene.said).into_owned();
    let lines = |secret: &String| {
        let secret = &scene.secrets.0[secret][..16];
        said.lines().filter(|line| line.contains(secret)).take(3).collect::<Vec<_>>()
    };
    let where_it_is: Vec<_> = found.iter().map(lines).collect();
    assert!(found.is_empty(), "{found:?} in {where_it_is:#?}");
}

/// A configuration with a secret wherever there is room for one.
fn config(secrets: &mut Secrets, nats: &NatsServer, redis: &RedisServer) -> String {
    let signing_key = secrets.draw("the tenant's key");
    let api_key = secrets.draw("an API key");
    let registry = secrets.draw("a registry key");
    let resume = secrets.draw("a resume key");
    let admin = secrets.draw("an admin token");
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n\
         [ops]\nlisten = \"127.0.0.1:0\"\ntenant_metrics = \"on\"\n\
         [nats]\nservers = [\"{}\"]\nuser = \"tidewire\"\npassword = \"{}\"\n\
         [redis]\naddresses = [\"{}\"]\nusername = \"tidewire\"\npassword = \"{}\"\n\
         [session]\nresume_keys = [\"{resume}\"]\n\
         [registry]\nkeys = [\"{registry}\"]\n\
         [admin]\nlisten = \"127.0.0.1:0\"\ntokens = [\"{admin}\"]\n\
         [log]\nformat = \"json\"\nlevel = \"trace\"\n\
         [[tenants]]\nname = \"{TENANT}\"\nallowed_origins = [\"{PAGE}\"]\ncookie = \"session\"\n\
         [[tenants.keys]]\nid = \"test\"\nalgorithm = \"HS256\"\nsecret = \"{signing_key}\"\n\
         [[tenants.api_keys]]\nid = \"server\"\nsecret = \"{api_key}\"\n\
         scopes = [\"publish\", \"presence\", \"revoke\"]\n\
         [[tenants.rules]]\npattern = \"*\"\npresence = \"members\"\n",
        nats.url(),
        secrets.0["the password of NATS"],
        redis.url(),
        secrets.0["the password of Redis"],
    )
}

impl Scene {
    async fn set() -> Self {
        let mut secrets = Secrets::default();
        let password = secrets.draw("the password of NATS");
        let nats = NatsServer::with_arguments(&["--user", "tidewire", "--pass", &password]).await;
        let password = format!(">{}", secrets.draw("the password of Redis"));
        let user = ["--user", "tidewire", "on", &password, "~*", "&*", "+@all"];
        let redis = RedisServer::with_arguments(&user).await;
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("tidewire.toml");
        std::fs::write(&file, config(&mut secrets, &nats, &redis)).expect("it is written");
        let mut admin = String::new();
        let mut nodes = Vec::new();
        for _ in 0..2 {
            let node = NodeProcess::start(&file);
            let line = node.line_with("tenants can be changed");
            admin = format!("http://{}", field(&line, "admin"));
            nodes.push(node);
        }
        let [admin_token, signing_key, api_key] =
            ["an admin token", "the tenant's key", "an API key"]
                .map(|what| secrets.0[what].clone());
        let api_key = format!("server.{api_key}");
        let said = Vec::new();
        Self {
            secrets,
            nats,
            redis,
            nodes,
            admin,
            admin_token,
            signing_key,
            api_key,
            said,
            _directory: directory,
        }
    }

    /// A token whose signature is looked for.
    fn token(&mut self, what: &str, change: impl FnOnce(&mut Claims)) -> String {
        let mut claims = claims(TENANT, USER);
        change(&mut claims);
        let token = self.key().sign(&claims);
        self.keep_signature(what, token)
    }

    /// The same, of the channel.
    fn channel_token(&mut self, what: &str, expires_at: impl FnOnce(u64) -> u64) -> String {
        let mut claims = Claims { permissions: Permissions::default(), ..claims(TENANT, USER) };
        claims.expires_at = expires_at(claims.expires_at);
        let channel = Channel::parse(CHANNEL).expect("channel");
        let actions = [Action::Subscribe].into_iter().collect();
        let token = self.key().sign_for_channel(&ChannelClaims { claims, channel, actions });
        self.keep_signature(what, token)
    }

    fn key(&self) -> SigningKey {
        let id = KeyId::parse("test").expect("key id");
        let key = SigningKey::from_secret(Some(id), self.signing_key.as_bytes());
        key.expect("long enough")
    }

    fn keep_signature(&mut self, what: &str, token: String) -> String {
        let signature = token.rsplit('.').next().expect("it has one");
        self.secrets.keep(what, signature);
        token
    }

    fn socket(&self, node: usize) -> String {
        format!("{}/v1/{TENANT}/ws", self.nodes[node].url())
    }

    /// Asks, and keeps the answer among what is searched.
    async fn ask(&mut self, method: Method, url: &str, header: (&str, &str), body: &str) -> u16 {
        let headers = [header, ("tidewire-control", "1")];
        let answer = request(method, url, &headers, body.to_owned()).await.expect("an answer");
        write!(Said(&mut self.said), "{:?}", answer.headers).expect("it is written to memory");
        self.said.extend_from_slice(&answer.body);
        self.said.push(b'\n');
        answer.status.as_u16()
    }

    async fn admin(&mut self, method: Method, path: &str, body: &str) -> u16 {
        let (url, bearer) =
            (format!("{}{path}", self.admin), format!("Bearer {}", self.admin_token));
        self.ask(method, &url, ("authorization", &bearer), body).await
    }

    async fn use_all_that_is_good(&mut self) {
        let payload = self.secrets.draw("a payload");
        let word = self.secrets.draw("what a member says");
        let first = self.token("a token", |_| {});
        let second = self.token("a token to refresh with", |claims| claims.expires_at -= 1);
        let at = ("channel", Member::Text(CHANNEL.into()));
        let data = |data: &str| ("data", Member::Data(format!("\"{data}\"")));
        let mut client = Socket::open(&self.socket(0), Codec::Protobuf, &first).await;
        let shown = self.channel_token("a token of a channel", |at| at);
        let renewed = self.channel_token("another token of a channel", |at| at - 1);
        let [shown, renewed] = [shown, renewed].map(|token| ("token", Member::Text(token)));
        client.exchange(&[Command::new("subscribe", vec![at.clone(), shown])]).await;
        client.exchange(&[Command::new("refresh", vec![at.clone(), renewed])]).await;
        client
            .exchange(&[
                Command::new("watch", vec![at.clone()]),
                Command::new("enter", vec![at.clone(), data(&word)]),
                Command::new(
                    "publish",
                    vec![at.clone(), ("id", Member::Text(ID.into())), data(&payload)],
                ),
                Command::new("refresh", vec![("token", Member::Text(second))]),
            ])
            .await;
        client.until_heard(&payload, 1).await;
        let connected = client.connected.take().expect("it was let in");
        let resume = connected.resume_token.expect("kept").as_str().to_owned();
        self.secrets.keep("a resume token", &resume[resume.len() - 40..]);
        drop(client);
        self.connect_with_a_cookie().await;
        let mut resumed = Socket::dial(&self.socket(1), Codec::Json).await.expect("it listens");
        let nonce = ("nonce", Member::Text("0".repeat(32)));
        let resume = Member::Message(vec![("token", Member::Text(resume)), nonce]);
        resumed.connect(vec![("resume", resume)]).await;
        assert!(resumed.connected.is_some_and(|connected| connected.resumed));

        let channel = format!("{}/v1/{TENANT}/channels/{CHANNEL}", self.nodes[0].http());
        let bearer = format!("Bearer {}", self.api_key);
        let body = json!({ "data": self.secrets.draw("a server's payload") }).to_string();
        let header = ("authorization", bearer.as_str());
        let status =
            self.ask(Method::POST, &format!("{channel}/publications"), header, &body).await;
        assert_eq!(status, 200);
        assert_eq!(self.ask(Method::GET, &format!("{channel}/occupancy"), header, "").await, 200);
        let members = request(Method::GET, &format!("{channel}/presence"), &[header], "").await;
        assert!(
            contains(&members.expect("an answer").body, &word),
            "it is told to who may hear it"
        );
    }

    /// Fetches a ticket for a cookie, and shows it where it is good for nothing.
    async fn connect_with_a_cookie(&mut self) {
        let cookie = format!("session={}", self.token("a token in a cookie", |_| {}));
        let forged = format!("session=a.b.{}", self.secrets.draw("a forged token in a cookie"));
        let url = format!("{}/v1/{TENANT}/ticket", self.nodes[0].http());
        for (cookie, status) in [(cookie, 201), (forged, 401)] {
            let control = ("tidewire-control", "1");
            let headers = [("origin", PAGE), control, ("cookie", cookie.as_str())];
            let answer = request(Method::POST, &url, &headers, "").await.expect("an answer");
            assert_eq!(answer.status.as_u16(), status);
            let Ok(Value::Object(told)) = serde_json::from_slice(&answer.body) else { continue };
            let Some(ticket) = told.get("ticket").and_then(Value::as_str) else {
                self.said.extend_from_slice(&answer.body);
                continue;
            };
            self.secrets.keep("a ticket", ticket);
            let mut socket = Socket::dial(&self.socket(1), Codec::Json).await.expect("it listens");
            socket.connect(vec![("ticket", Member::Text(ticket.into()))]).await;
            assert!(socket.connected.is_none(), "{:?}", socket.told);
            self.said.extend(socket.bytes);
        }
    }

    async fn be_refused_over_http(&mut self) {
        let channel = format!("{}/v1/{TENANT}/channels/{CHANNEL}", self.nodes[0].http());
        let publish = format!("{channel}/publications");
        let wrong = self.secrets.draw("a wrong API key");
        let payload = self.secrets.draw("a payload that is refused");
        let query = self.secrets.draw("a query");
        let cookie = self.secrets.draw("a cookie");
        let good = format!("Bearer {}", self.api_key);
        let good = ("authorization", good.as_str());
        for (header, body, expected) in [
            (("authorization", format!("Bearer server.{wrong}")), json!({ "data": 1 }), 401),
            (("authorization", format!("Basic {wrong}")), json!({ "data": 1 }), 401),
            (("cookie", format!("session={cookie}")), json!({ "data": payload }), 401),
        ] {
            let header = (header.0, header.1.as_str());
            let status = self.ask(Method::POST, &publish, header, &body.to_string()).await;
            assert_eq!(status, expected);
        }
        for body in [
            json!({ "data": payload, payload.as_str(): 1 }).to_string(),
            json!({ "binary": payload, "id": 7 }).to_string(),
            format!("{{\"data\": {payload}"),
            format!("{{\"data\": \"{}\"}}", payload.repeat(2_000)),
        ] {
            let status = self.ask(Method::POST, &publish, good, &body).await;
            assert!([400, 413].contains(&status), "{status} for {body}");
        }
        for url in [
            format!("{channel}/presence?key={query}"),
            format!("{}/v1/{TENANT}/ws?token={query}", self.nodes[0].http()),
            format!("{}/v1/{query}/ws", self.nodes[0].http()),
            format!("{}/{query}", self.nodes[0].http()),
        ] {
            let status = self.ask(Method::GET, &url, good, "").await;
            assert!((400..500).contains(&status), "{status} for {url}");
        }
    }

    async fn be_refused_over_websockets(&mut self) {
        let good = self.token("a token in the wrong place", |_| {});
        let (head, _) = good.rsplit_once('.').expect("three parts");
        let forged = format!("{head}.{}", self.secrets.draw("a forged signature"));
        let expired = self.token("an expired token", |claims| claims.expires_at = 1);
        let foreign = self.token("a foreign audience", |claims| claims.audience = vec!["x".into()]);
        let text = |text: &str| Member::Text(text.into());
        let nonce = ("nonce", text(&"0".repeat(32)));
        let resume = Member::Message(vec![("token", text(&good)), nonce]);
        let connects = vec![
            vec![("token", text(&forged))],
            vec![("token", text(&expired))],
            vec![("token", text(&foreign))],
            vec![("token", text(&forged.repeat(200)))],
            vec![("resume", resume)],
            vec![("token", Member::Message(vec![("token", text(&good))]))],
        ];
        for codec in [Codec::Json, Codec::Protobuf] {
            for members in &connects {
                let url = format!("{}?token={good}", self.socket(0));
                let mut socket = Socket::dial(&url, codec).await.expect("it listens");
                socket.connect(members.clone()).await;
                assert!(socket.connected.is_none(), "{:?}", socket.told);
                self.said.extend(socket.bytes);
            }
            let mut early = Socket::dial(&self.socket(0), codec).await.expect("it listens");
            early.exchange(&[Command::new("subscribe", vec![("channel", text(&good))])]).await;
            // It is told in what it has sent itself that it is no name.
            let payload = self.secrets.draw("a payload in a frame that is none");
            let payload =
                vec![("channel", text("a")), ("data", Member::Data(format!("\"{payload}\"")))];
            let token = self.token("a good token", |_| {});
            let mut cut = Socket::open(&self.socket(1), codec, &token).await;
            cut.exchange_cut(&[Command::new("publish", payload.clone())]).await;
            let mut unknown = Socket::open(&self.socket(1), codec, &token).await;
            let forged = vec![("token", text(&forged))];
            unknown.exchange(&[Command::new("refresh", forged)]).await;
            let of_channel = self.channel_token("an expired token of a channel", |_| 1);
            let forged_of_channel = of_channel.replacen("eyJ", "eyK", 1);
            let mut unwanted = Socket::open(&self.socket(0), codec, &token).await;
            for token in [of_channel, forged_of_channel] {
                let members = vec![("channel", text(CHANNEL)), ("token", text(&token))];
                unwanted.exchange(&[Command::new("subscribe", members.clone())]).await;
                unwanted.exchange(&[Command::new("refresh", members)]).await;
            }
            for socket in [early, cut, unknown, unwanted] {
                self.said.extend(socket.bytes);
            }
        }
    }

    async fn be_refused_by_the_registry(&mut self) {
        let key = self.secrets.draw("a key of the registry's");
        let wrong = self.secrets.draw("a wrong admin token");
        let stray = self.secrets.draw("a secret in the wrong place");
        let tenant = |name: &str, keys: &Value| json!({ "name": name, "keys": keys }).to_string();
        let good = json!([{ "id": "main", "algorithm": "HS256", "secret": key }]);
        let url = format!("{}/v1/tenants", self.admin);
        let bearer = format!("Bearer {wrong}");
        assert_eq!(self.ask(Method::GET, &url, ("authorization", &bearer), "").await, 401);
        let status = self.admin(Method::PUT, "/v1/tenants/other", &tenant("other", &good)).await;
        assert_eq!(status, 201);
        for (path, body, expected) in [
            ("/v1/tenants/twin", tenant("twin", &good), 409),
            ("/v1/tenants/bad", tenant("bad", &json!([{ "id": stray, "secret": stray }])), 400),
            ("/v1/tenants/bad", tenant("bad", &json!([{ "id": "a", "secert": stray }])), 400),
            ("/v1/tenants/bad", tenant("bad", &json!(stray)), 400),
            ("/v1/tenants/bad", tenant(&stray, &good), 400),
            ("/v1/tenants/bad", json!({ "name": "bad", stray.as_str(): 1 }).to_string(), 400),
            ("/v1/tenants/bad", format!("{{\"name\": {stray}"), 400),
        ] {
            assert_eq!(self.admin(Method::PUT, path, &body).await, expected, "{body}");
        }
        for path in ["/v1/tenants/other/revocations", "/v1/tenants/other/keys"] {
            let status =
                self.admin(Method::POST, path, &json!({ "token": [stray] }).to_string()).await;
            assert_eq!(status, 400);
        }
        // Shown once, to who made it.
        let url = format!("{}/v1/tenants/other/api-keys", self.admin);
        let bearer = format!("Bearer {}", self.admin_token);
        let headers = [("authorization", bearer.as_str())];
        let made = request(Method::POST, &url, &headers, r#"{"id":"made"}"#).await;
        let made: Value = serde_json::from_slice(&made.expect("an answer").body).expect("JSON");
        let made = made["key"].as_str().and_then(|key| key.split_once('.')).expect("a key");
        self.secrets.keep("an API key that was made", made.1);
        let kept = self.redis.command(&["HGETALL", "tw:{tenants}:d"]).await.expect("an answer");
        assert!(kept.contains("other"), "the document is there");
        self.said.extend(kept.into_bytes());
    }

    /// As operators can.
    async fn look_at_everything(&mut self) {
        for index in 0..self.nodes.len() {
            for path in ["/metrics", "/readyz", "/nodes", "/placement", "/placement/acme"] {
                let url = self.nodes[index].ops(path);
                let before = self.said.len();
                self.ask(Method::GET, &url, ("accept", "*/*"), "").await;
                for chosen in CHOSEN {
                    assert!(!contains(&self.said[before..], chosen), "{chosen} in {path}");
                }
            }
        }
        for path in ["/v1/tenants", "/v1/tenants/other", "/v1/registry"] {
            self.admin(Method::GET, path, "").await;
        }
    }

    async fn lose_redis_and_nats(&mut self) {
        self.redis.kill();
        self.nats.kill();
        let token = self.token("a token without Redis", |_| {});
        let mut socket = Socket::dial(&self.socket(0), Codec::Json).await.expect("it listens");
        socket.connect(vec![("token", Member::Text(token))]).await;
        assert!(socket.connected.is_none(), "{:?}", socket.told);
        self.said.extend(socket.bytes);
        let not_ready = async {
            let url = self.nodes[0].ops("/readyz");
            let missing = [self.redis.address(), self.nats.address()].map(|at| at.to_string());
            loop {
                let answer = request(Method::GET, &url, &[], "").await.expect("an answer");
                let said = String::from_utf8_lossy(&answer.body).into_owned();
                if missing.iter().all(|address| said.contains(address)) {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, not_ready).await.expect("it says what is missing");
    }

    fn collect_logs(&mut self) {
        for node in &self.nodes {
            self.said.extend(node.log().into_bytes());
        }
    }
}

/// Text among bytes.
struct Said<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for Said<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
