//! Publications as what changed, for those who ask in channels that offer it.

use std::collections::HashMap;

use tidewire_client::{
    Client, Codec, Content, Happening, Options, Payload, Received, ServerEvent, Since,
};
use tidewire_edge::EdgeConfig;
use tidewire_model::{
    ChannelRule, ChannelRules, Command, Connected, DeltaFormat, Filter, SessionKind, Subscribed,
    Tenant,
};

use crate::fleet::{Fleet, Running, TENANT, soon, tenants, token};
use crate::peer::{Peer, channel};

const OFFERED: &str = "state/1";

/// Nodes that offer deltas in `state/**`.
async fn fleet(nodes: usize) -> Fleet {
    let rule = ChannelRule {
        delta: Some(DeltaFormat::Fossil),
        ..ChannelRule::new(Filter::parse("state/**").expect("filter"))
    };
    let rules = HashMap::from([(Tenant::parse(TENANT).expect("tenant"), vec![rule])]);
    let tenants = tenants(ChannelRules::new(rules), SessionKind::Lazy);
    Fleet::of(nodes, EdgeConfig::default(), tenants).await
}

/// One of successive states, of more than the 256 bytes below which nothing is a delta.
fn state(round: u32) -> Payload {
    let board = "ü".repeat(200);
    Payload::json(format!(r#"{{"round":{round},"board":"{board}","turn":{}}}"#, round % 2).into())
        .expect("json")
}

async fn connect(node: &Running, codec: Codec) -> (Peer, Connected) {
    let mut peer = Peer::dial_as(node, Some(TENANT), codec).await;
    let connected = peer.introduce(token("ada")).await;
    (peer, connected)
}

async fn subscribe_by_delta(peer: &mut Peer, name: &str, since: Since) -> Subscribed {
    let delta = Some(DeltaFormat::Fossil);
    peer.send(Command::Subscribe { channel: channel(name), since, delta, token: None });
    peer.subscribed().await
}

/// The next publications as they came.
async fn written(peer: &mut Peer) -> Vec<Received<Content>> {
    match peer.next().await {
        ServerEvent::Deltas { publications, .. } => publications,
        ServerEvent::Publications { publications, .. } => {
            publications.into_iter().map(Received::written).collect()
        }
        other => unreachable!("not publications: {other:?}"),
    }
}

/// The next publication, made of the one before, and whether it had to be.
async fn next(peer: &mut Peer, last: &mut Option<Received>) -> (Payload, bool) {
    let [item] = <[_; 1]>::try_from(written(peer).await).expect("published one by one");
    let is_delta = matches!(item.payload, Content::Delta(_));
    let whole = item.restored(last.as_ref()).expect("a delta of the one before");
    *last = Some(whole.clone());
    (whole.payload, is_delta)
}

#[tokio::test]
async fn whoever_asks_gets_the_first_in_full_and_then_what_changed() {
    let fleet = fleet(1).await;
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    for codec in [Codec::Json, Codec::Protobuf] {
        let (mut peer, _) = connect(&fleet.nodes[0], codec).await;
        publisher.published(OFFERED, state(0)).await;

        let subscribed = subscribe_by_delta(&mut peer, OFFERED, Since::Now).await;

        assert_eq!(subscribed.delta, Some(DeltaFormat::Fossil));
        let mut last = None;
        for round in 1..=4 {
            publisher.published(OFFERED, state(round)).await;
            assert_eq!(next(&mut peer, &mut last).await, (state(round), round > 1), "{codec:?}");
        }
    }
    let metrics = fleet.nodes[0].get("/metrics").await;
    let text = String::from_utf8_lossy(&metrics.body);
    for series in [
        r#"tidewire_delta_total{result="delta"}"#,
        r#"tidewire_delta_total{result="full"}"#,
        "tidewire_delta_saved_bytes_total",
    ] {
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        assert!(value.is_some_and(|value: u64| value > 0), "{series}: {text}");
    }
}

#[tokio::test]
async fn a_channel_that_does_not_offer_deltas_sends_none_and_says_so() {
    let fleet = fleet(1).await;
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    let mut peer = Peer::connect(&fleet.nodes[0], "ada").await;

    let subscribed = subscribe_by_delta(&mut peer, "room/1", Since::Now).await;

    assert_eq!(subscribed.delta, None);
    for round in 1..=3 {
        publisher.published("room/1", state(round)).await;
        assert_eq!(next(&mut peer, &mut None).await, (state(round), false));
    }
}

#[tokio::test]
async fn those_who_did_not_ask_get_everything_in_full_beside_those_who_did() {
    let fleet = fleet(1).await;
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    let mut plain = Peer::connect(&fleet.nodes[0], "ada").await;
    let mut asking = Peer::connect(&fleet.nodes[0], "eve").await;
    assert_eq!(plain.subscribe(OFFERED).await.delta, None);
    subscribe_by_delta(&mut asking, OFFERED, Since::Now).await;

    let mut last = None;
    for round in 1..=3 {
        publisher.published(OFFERED, state(round)).await;
        assert_eq!(next(&mut plain, &mut None).await, (state(round), false));
        assert_eq!(next(&mut asking, &mut last).await, (state(round), round > 1));
    }
}

#[tokio::test]
async fn what_was_missed_comes_in_full_first_and_deltas_go_on_from_it() {
    let fleet = fleet(1).await;
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    for round in 1..=3 {
        publisher.published(OFFERED, state(round)).await;
    }
    let mut peer = Peer::connect(&fleet.nodes[0], "ada").await;

    subscribe_by_delta(&mut peer, OFFERED, Since::Last(3)).await;

    let missed = written(&mut peer).await;
    let is_delta = |item: &Received<Content>| matches!(item.payload, Content::Delta(_));
    assert_eq!(missed.iter().map(is_delta).collect::<Vec<_>>(), [false, true, true]);
    let mut last = None;
    for (round, item) in (1..).zip(missed) {
        let whole = item.restored(last.as_ref()).expect("a delta of the one before");
        assert_eq!(whole.payload, state(round));
        last = Some(whole);
    }
    // The node has not seen the third itself, so it may have nothing to make a delta from yet.
    publisher.published(OFFERED, state(4)).await;
    assert_eq!(next(&mut peer, &mut last).await.0, state(4));
    publisher.published(OFFERED, state(5)).await;
    assert_eq!(next(&mut peer, &mut last).await, (state(5), true));
}

#[tokio::test]
async fn a_resumed_session_goes_on_with_deltas_and_begins_in_full() {
    let fleet = fleet(2).await;
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    let (mut peer, connected) = connect(&fleet.nodes[0], Codec::Json).await;
    let start = subscribe_by_delta(&mut peer, OFFERED, Since::Now).await.position;
    publisher.published(OFFERED, state(1)).await;
    assert_eq!(next(&mut peer, &mut None).await, (state(1), false));
    drop(peer);

    let positions = vec![(channel(OFFERED), start)];
    let mut peer = Peer::resume(&fleet.nodes[1], connected.resume_token, positions).await;
    assert!(peer.connected().await.resumed);
    assert_eq!(peer.subscribed().await.delta, Some(DeltaFormat::Fossil));

    let mut last = None;
    assert_eq!(next(&mut peer, &mut last).await, (state(1), false));
    publisher.published(OFFERED, state(2)).await;
    assert_eq!(next(&mut peer, &mut last).await.0, state(2));
    publisher.published(OFFERED, state(3)).await;
    assert_eq!(next(&mut peer, &mut last).await, (state(3), true));
}

#[tokio::test]
async fn a_client_that_loses_its_connections_gets_every_state_whole_and_once() {
    let fleet = fleet(2).await;
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    let mut options = Options::new(format!("ws://{}", fleet.nodes[0].address), token("ada"));
    options.urls.push(format!("ws://{}", fleet.nodes[1].address));
    let mut client = soon(Client::connect(options)).await.expect("connected");
    client.subscribe_by_delta(channel(OFFERED), Since::Now);
    while !matches!(soon(client.next()).await.expect("goes on"), Happening::Subscribed(_)) {}

    let mut heard = Vec::new();
    for round in 1..=30 {
        publisher.published(OFFERED, state(round)).await;
        if round % 10 == 5 {
            client.cut();
        }
        while heard.len() + 3 < round as usize {
            heard.extend(payload(soon(client.next()).await.expect("goes on")));
        }
    }
    while heard.len() < 30 {
        heard.extend(payload(soon(client.next()).await.expect("goes on")));
    }

    assert!(heard.into_iter().eq((1..=30).map(state)));
}

fn payload(happening: Happening) -> Option<Payload> {
    match happening {
        Happening::Publication { publication, .. } => Some(publication.payload),
        _ => None,
    }
}
