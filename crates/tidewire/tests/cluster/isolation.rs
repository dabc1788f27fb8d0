//! Two tenants, one of which knows what the other's things are called and tries what it can say with
//! that (row 42 of the failure matrix). What the other has that must not get out is marked: it may occur in
//! nothing that the attacker is told, and in no metric or log. What is there is answered like what is
//! not. Starts from numbers that are always the same; a failure names the case.

mod attack;
mod names;
mod victim;

use std::collections::BTreeSet;

use http::Method;
use tidewire_auth::Claims;
use tidewire_client::Codec;
use tidewire_model::Permissions;
use tidewire_transport::http::request;
use tidewire_witness::Random;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use self::attack::{Attack, Bearer, Listener, OWN};
use self::names::Names;
use self::victim::{Victim, socket_url};
use crate::cluster::{API_KEY, Cluster, NodeProcess, channel_token, claims, sign, token};
use crate::command::{Command, Member};
use crate::scenarios::PATIENCE;
use crate::socket::{Socket, contains};

const SEED: u64 = 42;
const CASES: u32 = 1_000;
const REFUSED_CASES: u32 = 100;
/// As long as the victim's name, so that lengths tell nothing.
const NOBODY: &str = "zeta";
const CONTROL: &str = "tidewire-control";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_tenant_says_with_anothers_names_tells_and_touches_nothing() {
    let mut scene = Scene::set().await;
    let mut said = BTreeSet::new();

    for case in 0..CASES {
        scene.compare(case, |_| true, &mut said).await;
    }

    assert_eq!(said, Command::names().into_iter().collect(), "every command there is was tried");
    scene.victim.has_been_left_alone().await;
    scene.logs_and_metrics_hold_nothing().await;
}

/// Where no store is asked, no time is taken that would tell what is in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_for_its_bearer_asks_redis_nothing() {
    let mut scene = Scene::set().await;
    let mut monitor = TcpStream::connect(scene.cluster.redis.address()).await.expect("it listens");
    monitor.write_all(b"MONITOR\r\n").await.expect("it reads");
    let is_refused = |attack: &Attack| match attack {
        Attack::Say { user, is_allowed, .. } => user.is_none() && !is_allowed,
        Attack::Connect { has_own, .. } => !has_own,
        Attack::Ask { bearer, .. } => !matches!(bearer, Bearer::OwnKey),
    };

    let mut tried = BTreeSet::new();
    for case in 0..REFUSED_CASES {
        scene.compare(case, is_refused, &mut tried).await;
    }

    scene.cluster.redis.command(&["ECHO", "it is over"]).await.expect("an answer");
    let mut heard = Vec::new();
    while !contains(&heard, "it is over") {
        let read = timeout(PATIENCE, monitor.read_buf(&mut heard)).await;
        assert!(read.expect("in time").expect("it says on") > 0);
    }
    let heard = String::from_utf8_lossy(&heard);
    assert!(heard.contains("\"FCALL\""), "it hears what is asked");
    for names in [&scene.victim.names, &scene.nobody] {
        // What the victim's own node asks about its own channels aside.
        let asked = heard.lines().filter(|line| !line.contains(":acme:"));
        let asked: Vec<_> = asked.filter(|line| names.is_any_in(line)).collect();
        assert!(asked.is_empty(), "{asked:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_hears_what_another_tenant_says_under_the_same_names() {
    let mut scene = Scene::set().await;
    let names = scene.victim.names.clone();
    let mut listeners = Vec::new();
    for node in &scene.nodes {
        for codec in [Codec::Json, Codec::Protobuf] {
            let (url, token) = (socket_url(node, OWN), token(OWN, &names.user));
            let mut listener = Socket::open(&url, codec, &token).await;
            listener.exchange(&listening(&names, "from the start")).await;
            listeners.push(listener);
        }
    }

    // On both nodes, so that it travels between them too.
    scene.victim.keep("what is published later", "secret-published-later");
    scene.victim.keep("what another member says", "secret-said-later");
    scene.victim.publish("later", "secret-published-later").await;
    let url = socket_url(&scene.nodes[1], victim::TENANT);
    let mut member = Socket::open(&url, Codec::Json, &names.token).await;
    member.exchange(&listening(&names, "secret-said-later")).await;
    scene.victim.until_heard("secret-published-later", 2).await;
    scene.victim.until_heard("secret-said-later", 1).await;
    // What comes last comes behind all that may not come.
    for channel in [&names.channel, &names.ephemeral] {
        let publish = scene.own("publications", channel, r#"{"data":"from its own"}"#).await;
        assert_eq!(publish, 200);
    }
    let url = socket_url(&scene.nodes[1], OWN);
    let mut own = Socket::open(&url, Codec::Json, &token(OWN, "somebody")).await;
    own.exchange(&listening(&names, "of its own")).await;

    for listener in &mut listeners {
        listener.until_heard("from its own", 2).await;
        listener.until_heard("of its own", 1).await;
        let leaked = scene.victim.leaked(&listener.bytes);
        assert!(leaked.is_empty(), "{leaked:?}: {:#?}", listener.told);
    }
    for foreign in ["from the start", "from its own", "of its own"] {
        assert!(!scene.victim.has_heard(foreign) && !contains(&member.bytes, foreign));
    }
    scene.logs_and_metrics_hold_nothing().await;
}

/// Everything by which one is told something.
fn listening(names: &Names, word: &str) -> Vec<Command> {
    let at = |channel: &str| ("channel", Member::Text(channel.into()));
    let word = ("data", Member::Data(format!("\"{word}\"")));
    vec![
        Command::new("subscribe", vec![at(&names.channel), ("last", Member::Number(10))]),
        Command::new("subscribe", vec![at(&names.ephemeral)]),
        Command::new("watch", vec![at(&names.present)]),
        Command::new("enter", vec![at(&names.present), word]),
        Command::new("members", vec![at(&names.present)]),
    ]
}

/// Two nodes, a tenant that has something, and names that nobody has.
struct Scene {
    cluster: Cluster,
    nodes: [NodeProcess; 2],
    admin: String,
    victim: Victim,
    nobody: Names,
}

/// What came back: how it looks, and all of it.
struct Answer {
    text: String,
    bytes: Vec<u8>,
}

impl Scene {
    async fn set() -> Self {
        let cluster = Cluster::start().await;
        let tokens = "tokens = [\"a token that only operators have, of some length\"]\n";
        let (first, admin) = cluster.node_administered_with(tokens);
        let nodes = [first, cluster.node()];
        let mut random = Random::new(SEED, u32::MAX);
        let victim = Victim::settle(&nodes[0], &mut random).await;
        let mut nobody = Names::draw(NOBODY, &mut random);
        nobody.token = token(NOBODY, &nobody.user);
        nobody.channel_token = channel_token(NOBODY, &nobody.user, &nobody.channel);
        nobody.mark.clone_from(&victim.names.mark);
        Self { cluster, nodes, admin, victim, nobody }
    }

    /// Tries one thing with the names of what is there, and the same with names of what is nobody's.
    async fn compare(
        &mut self,
        case: u32,
        is_wanted: impl Fn(&Attack) -> bool,
        said: &mut BTreeSet<String>,
    ) {
        let mut random = Random::new(SEED, case);
        let attack = Attack::draw(&mut random.clone(), &self.victim.names);
        let other = Attack::draw(&mut random, &self.nobody);
        if !is_wanted(&attack) {
            return;
        }
        said.insert("connect".into());
        if let Attack::Say { says, .. } = &attack {
            said.extend(says.iter().map(|command| command.name.clone()));
        }
        let node = &self.nodes[random.below(2)];

        let there = self.attempt(node, &attack).await;
        let not_there = self.attempt(node, &other).await;

        for answer in [&there, &not_there] {
            let leaked = self.victim.leaked(&answer.bytes);
            assert!(leaked.is_empty(), "case {case}: {leaked:?} in {}: {attack:?}", answer.text);
        }
        if attack.is_to_be_answered_alike() {
            let names = &self.victim.names;
            let there = names.told_of(names, &there.text);
            let not_there = self.nobody.told_of(names, &not_there.text);
            assert_eq!(there, not_there, "case {case}: {attack:?}");
        }
    }

    async fn attempt(&self, node: &NodeProcess, attack: &Attack) -> Answer {
        match attack {
            Attack::Say { codec, user, is_allowed, is_cut, says } => {
                let claims = claims(OWN, user.as_deref().unwrap_or("eve"));
                let permissions =
                    if *is_allowed { Permissions::all() } else { Permissions::default() };
                // Later than what the attacker's server revokes, which has its own users only.
                let issued_at = Some(claims.expires_at - 3_600 + 20);
                let token = sign(OWN, &Claims { permissions, issued_at, ..claims });
                let mut socket = Socket::open(&socket_url(node, OWN), *codec, &token).await;
                if *is_cut {
                    socket.exchange_cut(says).await;
                } else {
                    socket.exchange(says).await;
                }
                socket.into()
            }
            Attack::Connect { codec, path, members, has_own } => {
                let mut members = members.clone();
                if *has_own {
                    members.push(("token", Member::Text(token(OWN, "eve"))));
                }
                match Socket::dial(&socket_url(node, path), *codec).await {
                    Ok(mut socket) => {
                        socket.connect(members).await;
                        socket.into()
                    }
                    Err(text) => Answer { bytes: text.clone().into_bytes(), text },
                }
            }
            Attack::Ask { listener, method, path, bearer, body } => {
                let base = match listener {
                    Listener::Clients => node.http(),
                    Listener::Admin => self.admin.clone(),
                    Listener::Ops => node.ops(""),
                };
                // Who can send it to the operators' listener is an operator.
                let control = if *listener == Listener::Ops { "x-nothing" } else { CONTROL };
                ask(method, &format!("{base}{path}"), (bearer, control), body).await
            }
        }
    }

    /// How the attacker's own server is answered.
    async fn own(&self, what: &str, channel: &str, body: &str) -> u16 {
        let (http, channel) = (self.nodes[1].http(), channel.replace('/', "%2F"));
        let url = format!("{http}/v1/{OWN}/channels/{channel}/{what}");
        let key = format!("Bearer {API_KEY}-{OWN}");
        let headers = [("authorization", key.as_str())];
        let answer = request(Method::POST, &url, &headers, body.to_owned()).await;
        answer.expect("an answer").status.as_u16()
    }

    async fn logs_and_metrics_hold_nothing(&self) {
        for node in &self.nodes {
            let metrics = request(Method::GET, &node.ops("/metrics"), &[], "").await;
            let mut written = metrics.expect("an answer").body.to_vec();
            written.extend(node.log().into_bytes());
            let leaked = self.victim.leaked(&written);
            assert!(leaked.is_empty(), "{leaked:?} in {}", String::from_utf8_lossy(&written));
        }
    }
}

impl From<Socket> for Answer {
    fn from(socket: Socket) -> Self {
        Self { text: socket.told.join("\n"), bytes: socket.bytes }
    }
}

async fn ask(method: &Method, url: &str, (bearer, control): (&Bearer, &str), body: &str) -> Answer {
    let bearer = match bearer {
        Bearer::Nobody => String::new(),
        Bearer::OwnKey => format!("Bearer {API_KEY}-{OWN}"),
        Bearer::OwnToken => format!("Bearer {}", token(OWN, "eve")),
        Bearer::Stolen(key) => format!("Bearer {key}"),
    };
    let headers = [("authorization", bearer.as_str()), (control, "1")];
    let answer = match request(method.clone(), url, &headers, body.to_owned()).await {
        Ok(answer) => answer,
        // Such an address cannot be asked.
        Err(error) => return Answer { text: format!("{error:?}"), bytes: Vec::new() },
    };
    let mut headers: Vec<_> =
        answer.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    headers.retain(|header| !header.starts_with("date"));
    headers.sort();
    let body = String::from_utf8_lossy(&answer.body);
    let text = format!("{}\n{}\n{body}", answer.status, headers.join("\n"));
    Answer { bytes: text.clone().into_bytes(), text }
}
