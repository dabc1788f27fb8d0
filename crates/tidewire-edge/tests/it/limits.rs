//! What a tenant's clients may do, and how fast.

use std::sync::mpsc;

use tidewire_auth::{TenantKeys, VerificationKey};
use tidewire_client::{Client, Codec, Happening, Options, Refusal, ServerEvent};
use tidewire_edge::EdgeConfig;
use tidewire_model::{
    ChannelLimits, ChannelRule, ChannelRules, Command, Filter, Pace, Payload, SessionKind, Since,
    Tenant, TenantLimits,
};
use tidewire_tenant::{Change, Definition, OwnLimits, TenantDetails};
use tokio::time::{Duration, sleep};

use crate::fleet::{
    API_KEY, Fleet, OTHER_TENANT, TENANT, claims, key_id, secret, sign, soon, tenants, token,
};
use crate::peer::{Bystander, Peer, channel, text};

const SLOW: Pace = Pace { per_second: 4, burst: 3 };

async fn fleet(limits: TenantLimits) -> Fleet {
    Fleet::start(1, EdgeConfig { limits, ..EdgeConfig::default() }).await
}

/// Adds a tenant that is in nobody's file, or changes it.
fn set_tenant(fleet: &Fleet, name: &str, limits: OwnLimits) {
    let tenant = Tenant::parse(name).expect("tenant");
    let key = VerificationKey::from_secret(key_id(name), secret(name).as_bytes()).expect("key");
    let keys = TenantKeys { tenant, keys: vec![key], api_keys: Vec::new(), issuer: None };
    let details = TenantDetails { limits, ..TenantDetails::default() };
    let definition = Definition { keys, rules: Vec::new(), details };
    fleet.tenants.apply([Change::Set(Box::new(definition))]);
}

async fn connect_as(fleet: &Fleet, tenant: &str) -> Peer {
    let mut peer = Peer::dial_as(&fleet.nodes[0], Some(tenant), Codec::Json).await;
    peer.introduce(sign(tenant, &claims(tenant, "ada"))).await;
    peer
}

fn assert_names(refusal: &Refusal, code: u16, name: &str, value: u64) {
    let limit = refusal.limit.as_ref().expect("the limit");
    assert_eq!((refusal.code, limit.name.as_str(), limit.value), (code, name, value));
    assert_eq!(refusal.retry_after.is_some(), refusal.retryable);
}

/// Asks `command` once more than passes, and once again when it may.
async fn assert_limits(
    limits: TenantLimits,
    command: Command,
    passes: usize,
    name: &str,
    rate: u64,
) {
    let fleet = fleet(limits).await;
    for codec in [Codec::Json, Codec::Protobuf] {
        let mut peer = Peer::dial_as(&fleet.nodes[0], Some(TENANT), codec).await;
        peer.introduce(token("ada")).await;
        for _ in 0..=passes {
            peer.send(command.clone());
        }
        let (mut taken, mut refusals) = (0, Vec::new());
        while taken < passes || refusals.is_empty() {
            match peer.next().await {
                ServerEvent::Failed { refusal, .. } => refusals.push(refusal),
                _ => taken += 1,
            }
        }

        let refusal = refusals.pop().expect("one");
        assert_names(&refusal, 2005, name, rate);
        let said = format!("{rate} ");
        assert!(refusal.message.contains(&said), "{}", refusal.message);
        sleep(refusal.retry_after.expect("a time")).await;
        let last = peer.send(command.clone());
        let answer = format!("{:?}", peer.next().await);
        assert!(!answer.starts_with("Failed"), "{last:?} {answer}");
    }
    let metrics = fleet.nodes[0].get("/metrics").await.body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    assert!(metrics.contains(&format!("tidewire_limited_total{{limit=\"{name}\"}}")), "{metrics}");
}

fn publish(payload: Payload) -> Command {
    let publish = tidewire_model::Publish { channel: channel("room/1"), id: None, payload };
    Command::Publish(publish)
}

#[tokio::test]
async fn a_publication_too_many_is_refused_until_the_time_that_is_told() {
    let limits = TenantLimits { connection_publish: SLOW, ..TenantLimits::GENEROUS };

    assert_limits(limits, publish(text("hello")), 3, "connection_publish_rate", 4).await;
}

#[tokio::test]
async fn a_byte_too_many_is_refused_until_the_time_that_is_told() {
    let pace = Pace { per_second: 100, burst: 200 };
    let limits = TenantLimits { connection_publish_bytes: pace, ..TenantLimits::GENEROUS };
    let payload = Payload::binary(vec![7; 80].into());

    assert_limits(limits, publish(payload), 2, "connection_publish_bytes", 100).await;
}

#[tokio::test]
async fn a_command_too_many_is_refused_until_the_time_that_is_told() {
    let limits = TenantLimits { connection_commands: SLOW, ..TenantLimits::GENEROUS };

    assert_limits(limits, Command::Ping, 3, "connection_command_rate", 4).await;
}

#[tokio::test]
async fn padding_is_charged_like_payload() {
    let pace = Pace { per_second: 10_000, burst: 20_000 };
    let limits = TenantLimits { connection_publish_bytes: pace, ..TenantLimits::GENEROUS };
    let fleet = fleet(limits).await;
    let mut peer = Peer::connect(&fleet.nodes[0], "ada").await;
    let padded = format!(r#"{{"id":7,"ping":{{}}{}}}"#, " ".repeat(30_000));

    peer.send_text(padded);

    assert_names(&peer.refused().await.1, 2005, "connection_publish_bytes", 10_000);
}

#[tokio::test]
async fn what_is_too_large_or_too_many_names_its_limit() {
    let limits =
        TenantLimits { connection_subscriptions: 1, payload_bytes: 10, ..TenantLimits::GENEROUS };
    let fleet = fleet(limits).await;
    let mut peer = Peer::connect(&fleet.nodes[0], "ada").await;
    peer.subscribe("room/1").await;

    let second = Command::Subscribe {
        channel: channel("room/2"),
        since: Since::Now,
        delta: None,
        token: None,
    };
    peer.send(second);
    assert_names(&peer.refused().await.1, 1300, "connection_subscriptions", 1);
    peer.publish("room/3", Payload::binary(vec![7; 11].into()));
    assert_names(&peer.refused().await.1, 1006, "payload_bytes", 10);

    let path = format!("/v1/{TENANT}/channels/lobby/publications");
    let (status, answer) = fleet.nodes[0].post(&path, API_KEY, r#"{"data":"0123456789"}"#).await;
    assert_eq!(status, 413);
    let limit = serde_json::json!({"name": "payload_bytes", "value": 10});
    assert_eq!(answer["error"]["limit"], limit);
}

#[tokio::test]
async fn one_tenants_limits_are_not_anothers() {
    let fleet = Fleet::one().await;
    let slow = OwnLimits {
        connection_publish_rate: Some(1),
        connection_publish_burst: Some(1),
        ..OwnLimits::default()
    };
    set_tenant(&fleet, "initech", slow);
    let mut slow = connect_as(&fleet, "initech").await;
    let mut peer = connect_as(&fleet, OTHER_TENANT).await;

    slow.published("room/1", text("hello")).await;
    slow.publish("room/1", text("hello"));
    assert_names(&slow.refused().await.1, 2005, "connection_publish_rate", 1);
    for _ in 0..100 {
        peer.published("room/1", text("hello")).await;
    }
}

#[tokio::test]
async fn a_changed_limit_holds_for_who_is_connected() {
    let fleet = Fleet::one().await;
    set_tenant(&fleet, "initech", OwnLimits::default());
    let mut peer = connect_as(&fleet, "initech").await;
    peer.subscribe("room/1").await;
    let second = || Command::Subscribe {
        channel: channel("room/2"),
        since: Since::Now,
        delta: None,
        token: None,
    };

    let one = OwnLimits { connection_subscriptions: Some(1), ..OwnLimits::default() };
    set_tenant(&fleet, "initech", one);
    peer.send(second());
    assert_names(&peer.refused().await.1, 1300, "connection_subscriptions", 1);

    set_tenant(&fleet, "initech", OwnLimits::default());
    peer.send(second());
    peer.subscribed().await;
}

#[tokio::test]
async fn a_client_that_publishes_too_fast_keeps_its_order() {
    const COUNT: usize = 40;
    let pace = Pace { per_second: 50, burst: 5 };
    let limits = TenantLimits { connection_publish: pace, ..TenantLimits::GENEROUS };
    let fleet = fleet(limits).await;
    let mut reader = Peer::connect(&fleet.nodes[0], "bob").await;
    reader.subscribe("room/1").await;
    let options = Options::new(format!("ws://{}", fleet.nodes[0].address), token("ada"));
    let mut client = soon(Client::connect(options)).await.expect("connected");

    for number in 0..COUNT {
        client.publish(channel("room/1"), text(&number.to_string())).expect("room");
    }
    fleet.spawn(async move {
        loop {
            if let Ok(Happening::Rejected { .. }) | Err(_) = client.next().await {
                return;
            }
        }
    });

    let mut heard = Vec::new();
    while heard.len() < COUNT {
        heard.extend(reader.publications().await.into_iter().map(|one| one.payload));
    }
    let sent: Vec<_> = (0..COUNT).map(|number| text(&number.to_string())).collect();
    assert_eq!(heard, sent);
}

/// Time stands still from now on but for what the test lets pass, at most for twenty real seconds.
fn hold_the_clock() -> mpsc::Sender<()> {
    let (held, wait) = mpsc::channel();
    // The runtime does not move its clock on while something blocking is under way.
    tokio::task::spawn_blocking(move || wait.recv_timeout(Duration::from_secs(20)));
    tokio::time::pause();
    held
}

#[tokio::test]
async fn a_client_that_goes_on_regardless_is_disconnected_and_disturbs_nobody() {
    let limits = TenantLimits { connection_commands: SLOW, ..TenantLimits::GENEROUS };
    let fleet = fleet(limits).await;
    let mut bystander = Bystander::watch(&fleet).await;
    let mut peer = Peer::connect(&fleet.nodes[0], "eve").await;
    let _held = hold_the_clock();

    for second in 1..=30 {
        for _ in 0..203 {
            peer.send(Command::Ping);
        }
        if second == 30 {
            break;
        }
        let mut refused = 0;
        while refused < 200 {
            refused += u32::from(matches!(peer.next().await, ServerEvent::Failed { .. }));
        }
        let metrics = fleet.nodes[0].get("/metrics").await.body;
        let is_paused =
            String::from_utf8_lossy(&metrics).contains("tidewire_paused_connections 1\n");
        assert_eq!(is_paused, second >= 3, "after {second} s");
        tokio::time::advance(Duration::from_millis(1_100)).await;
    }

    peer.closes_with(4429).await;
    bystander.is_undisturbed().await;
}

/// Nodes whose channels have these limits, of which `slow/*` have a rule of their own.
async fn limited(nodes: usize, limits: ChannelLimits) -> Fleet {
    let slow = ChannelRule {
        publish: Some(Pace { per_second: 1, burst: 1 }),
        ..ChannelRule::new(Filter::parse("slow/*").expect("filter"))
    };
    let mut rules = ChannelRules::default().with_limits(limits);
    rules.set(Tenant::parse(TENANT).expect("tenant"), vec![slow]);
    let tenants = tenants(rules, SessionKind::Strict);
    Fleet::ruled(nodes, tenants.rules().clone(), (EdgeConfig::default(), tenants)).await
}

async fn assert_counted(fleet: &Fleet, name: &str) {
    let metrics = fleet.nodes[0].get("/metrics").await.body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    assert!(metrics.contains(&format!("tidewire_limited_total{{limit=\"{name}\"}}")), "{metrics}");
}

#[tokio::test]
async fn a_channel_takes_so_many_publications_whoever_publishes_them_and_costs_no_other() {
    let fleet = limited(1, ChannelLimits { publish: Some(SLOW), ..ChannelLimits::default() }).await;
    let mut peers =
        [Peer::connect(&fleet.nodes[0], "ada").await, Peer::connect(&fleet.nodes[0], "bob").await];
    let _held = hold_the_clock();

    let mut refusals = Vec::new();
    for peer in &mut peers {
        for _ in 0..4 {
            peer.publish("lobby", text("hello"));
        }
        for _ in 0..4 {
            if let ServerEvent::Failed { refusal, .. } = peer.next().await {
                refusals.push(refusal);
            }
        }
    }
    assert_eq!(refusals.len(), 5, "three of eight, by whomever");
    for refusal in &refusals {
        assert_names(refusal, 2005, "channel_publish_rate", 4);
        assert!(refusal.message.contains("4 times a second"), "{}", refusal.message);
    }

    let path = format!("/v1/{TENANT}/channels/lobby/publications");
    let (status, answer) = fleet.nodes[0].post(&path, API_KEY, r#"{"data":1}"#).await;
    let error = &answer["error"];
    assert_eq!((status.as_u16(), &error["code"]), (429, &serde_json::json!(2005)), "{answer}");
    let limit = serde_json::json!({"name": "channel_publish_rate", "value": 4});
    assert_eq!(error["limit"], limit);
    assert!(error["retry_after_ms"].as_u64().is_some_and(|wait| wait > 0), "{answer}");
    peers[0].published("room/2", text("hello")).await;
    assert_counted(&fleet, "channel_publish_rate").await;
    tokio::time::advance(refusals[4].retry_after.expect("a time")).await;
    peers[1].published("lobby", text("hello")).await;
}

#[tokio::test]
async fn a_rule_says_how_fast_its_channels_may_be_published_to() {
    let fleet = limited(1, ChannelLimits::default()).await;
    let mut peer = Peer::connect(&fleet.nodes[0], "ada").await;
    let _held = hold_the_clock();

    peer.published("slow/1", text("hello")).await;
    peer.publish("slow/1", text("hello"));

    assert_names(&peer.refused().await.1, 2005, "channel_publish_rate", 1);
    for _ in 0..100 {
        peer.published("quick/1", text("hello")).await;
    }
}

#[tokio::test]
async fn a_tenant_has_so_many_channels_on_a_node_and_who_resumes_keeps_its_own() {
    let fleet = limited(2, ChannelLimits { followed: Some(2), ..ChannelLimits::default() }).await;
    let (mut mover, connected) = Peer::connect_with(&fleet.nodes[0], token("ada")).await;
    let mut resident = Peer::connect(&fleet.nodes[1], "bob").await;
    let subscribe = |name| Command::Subscribe {
        channel: channel(name),
        since: Since::Now,
        delta: None,
        token: None,
    };
    for number in ["1", "2"] {
        mover.subscribe(&format!("mine/{number}")).await;
        resident.subscribe(&format!("theirs/{number}")).await;
    }

    resident.send(subscribe("theirs/3"));
    let (_, refusal) = resident.refused().await;
    assert_names(&refusal, 2006, "tenant_channels", 2);
    assert!(refusal.message.contains("2 channels"), "{}", refusal.message);
    assert_counted(&fleet, "tenant_channels").await;
    let mut other = connect_as(&fleet, OTHER_TENANT).await;
    other.subscribe("mine/3").await;

    let seen = resident.published("theirs/1", text("hello")).await;
    drop(mover);
    let made_up = vec![(channel("made-up"), seen)];
    let mut mover = Peer::resume(&fleet.nodes[1], connected.resume_token, made_up).await;
    assert!(mover.connected().await.resumed);
    let (mut kept, mut ended) = (Vec::new(), Vec::new());
    while kept.len() + ended.len() < 3 {
        match mover.next().await {
            ServerEvent::Subscribed(subscribed) => kept.push(subscribed.channel),
            ServerEvent::Unsubscribed { channel, refusal: Some(refusal), .. } => {
                assert_names(&refusal, 2006, "tenant_channels", 2);
                ended.push(channel);
            }
            other => unreachable!("neither: {other:?}"),
        }
    }
    kept.sort();
    assert_eq!(kept, [channel("mine/1"), channel("mine/2")]);
    assert_eq!(ended, [channel("made-up")]);
}

#[tokio::test]
async fn who_keeps_as_much_as_it_may_is_told_so() {
    let limits = ChannelLimits { kept_bytes: Some(1_000), ..ChannelLimits::default() };
    let fleet = limited(1, limits).await;
    let mut peer = Peer::connect(&fleet.nodes[0], "ada").await;
    peer.published("room/1", Payload::binary(vec![7; 1_000].into())).await;

    peer.publish("room/2", text("hello"));
    let (_, refusal) = peer.refused().await;
    assert_names(&refusal, 2006, "tenant_history_bytes", 1_000);
    assert!(refusal.message.contains("1000 bytes"), "{}", refusal.message);
    let path = format!("/v1/{TENANT}/channels/lobby/publications");
    let (status, answer) = fleet.nodes[0].post(&path, API_KEY, r#"{"data":1}"#).await;
    assert_eq!((status.as_u16(), &answer["error"]["code"]), (429, &serde_json::json!(2006)));
    assert_counted(&fleet, "tenant_history_bytes").await;
    connect_as(&fleet, OTHER_TENANT).await.published("room/1", text("hello")).await;
}
