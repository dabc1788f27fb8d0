//! Publications on their way to many clients at once.

use std::collections::HashMap;
use std::time::Duration;

use tidewire_client::Codec;
use tidewire_edge::EdgeConfig;
use tidewire_hub::QueueLimits;
use tidewire_model::{ChannelRule, ChannelRules, Filter, SessionKind, Tenant};
use tidewire_protocol::Frame;
use tidewire_transport::{Compression, Limits, Transport, client, client::Settings};

use crate::fleet::{Fleet, OTHER_TENANT, TENANT, claims, sign, soon, tenants, token};
use crate::peer::{Bystander, Peer, text};

/// More than one turn of a worker hands a publication to.
const CROWD: usize = 600;

#[tokio::test]
async fn a_crowd_larger_than_a_turn_hands_out_to_gets_everything_in_order() {
    let fleet = Fleet::one().await;
    let node = &fleet.nodes[0];
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut peer = Peer::connect(node, "ada").await;
        peer.subscribe("room/1").await;
        crowd.push(peer);
    }
    let mut publisher = Peer::connect(node, "bob").await;

    let last = 20;
    for number in 0..last {
        publisher.publish("room/1", text(&number.to_string()));
    }
    publisher.flush().await;

    for peer in &mut crowd {
        assert!(offsets_to(peer, last).await.into_iter().eq(1..=last));
    }
}

#[tokio::test]
async fn whoever_joins_or_leaves_in_the_middle_of_a_fan_out_disturbs_nobody() {
    let fleet = Fleet::one().await;
    let node = &fleet.nodes[0];
    let mut stayers = Vec::new();
    for _ in 0..CROWD {
        let mut peer = Peer::connect(node, "ada").await;
        peer.subscribe("room/1").await;
        stayers.push(peer);
    }
    let leavers = stayers.split_off(CROWD / 2);
    let mut publisher = Peer::connect(node, "bob").await;

    let last = 10;
    for number in 0..last {
        publisher.publish("room/1", text(&number.to_string()));
    }
    publisher.flush().await;
    drop(leavers);
    let mut comer = Peer::connect(node, "eve").await;
    let start = comer.subscribe("room/1").await.position.offset;
    publisher.publish("room/1", text("last"));
    publisher.flush().await;

    for peer in &mut stayers {
        assert!(offsets_to(peer, last + 1).await.into_iter().eq(1..=last + 1));
    }
    assert!(offsets_to(&mut comer, last + 1).await.into_iter().eq(start + 1..=last + 1));
}

#[tokio::test]
async fn a_worker_whose_queue_overflows_loses_nothing() {
    let queue = QueueLimits { deliveries: 2, bytes: 1_024 };
    let fleet = Fleet::start(1, EdgeConfig { queue, ..EdgeConfig::default() }).await;
    let node = &fleet.nodes[0];
    let mut bystander = Bystander::watch(&fleet).await;
    let mut readers = [Peer::connect(node, "ada").await, Peer::connect(node, "eve").await];
    for reader in &mut readers {
        reader.subscribe("room/1").await;
    }
    let mut publisher = Peer::connect(node, "bob").await;

    let last = 200;
    for number in 0..last {
        publisher.publish("room/1", text(&number.to_string()));
    }
    publisher.flush().await;

    for reader in &mut readers {
        assert!(offsets_to(reader, last).await.into_iter().eq(1..=last));
    }
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn a_tenant_without_room_for_more_loses_nothing_and_takes_nobody_elses() {
    let rule = ChannelRule {
        flush_window: Duration::from_secs(10),
        ..ChannelRule::new(Filter::parse("ticker/*").expect("filter"))
    };
    let tenant = Tenant::parse(TENANT).expect("tenant");
    let rules = ChannelRules::new(HashMap::from([(tenant, vec![rule])]));
    // Never full itself: each publication has been taken out of it before the next is made.
    let queue = QueueLimits { deliveries: 8, bytes: 1 << 20 };
    let config = EdgeConfig { queue, ..EdgeConfig::default() };
    let fleet = Fleet::of(1, config, tenants(rules, SessionKind::Lazy)).await;
    let node = &fleet.nodes[0];
    let mut reader = Peer::connect(node, "ada").await;
    reader.subscribe("ticker/1").await;
    let mut neighbour = Peer::dial_as(node, Some(OTHER_TENANT), Codec::Json).await;
    neighbour.introduce(sign(OTHER_TENANT, &claims(OTHER_TENANT, "ada"))).await;
    neighbour.subscribe("ticker/1").await;
    let mut publisher = Peer::connect(node, "bob").await;

    let last = 20;
    for number in 0..last {
        publisher.published("ticker/1", text(&number.to_string())).await;
        let at = neighbour.publish("ticker/1", text("mine"));
        neighbour.flush().await;
        let own = neighbour.publications().await;
        assert_eq!(own[0].position.offset, number + 1, "{at:?} waits for nobody");
    }

    let given_up = node.get("/metrics").await.body;
    let given_up = String::from_utf8_lossy(&given_up).into_owned();
    assert!(given_up.contains("tidewire_fan_out_overflow_total"), "there was no room");
    // What came last gathers for as long as the rule says.
    tokio::time::pause();
    assert!(offsets_to(&mut reader, last).await.into_iter().eq(1..=last));
}

#[tokio::test]
async fn one_run_reaches_either_encoding() {
    let fleet = Fleet::one().await;
    let node = &fleet.nodes[0];
    let mut readers = Vec::new();
    for codec in [Codec::Json, Codec::Protobuf] {
        let mut peer = Peer::dial_as(node, Some(TENANT), codec).await;
        peer.introduce(token("ada")).await;
        peer.subscribe("room/1").await;
        readers.push(peer);
    }
    let mut publisher = Peer::connect(node, "bob").await;

    publisher.publish("room/1", text("hello"));
    publisher.flush().await;

    for reader in &mut readers {
        assert_eq!(reader.publications().await[0].payload, text("hello"));
    }
}

#[tokio::test]
async fn publications_wait_for_each_other_as_long_as_the_rule_says() {
    let rule = |filter: &str| ChannelRule {
        flush_window: Duration::from_secs(10),
        ..ChannelRule::new(Filter::parse(filter).expect("filter"))
    };
    let tenant = Tenant::parse(TENANT).expect("tenant");
    let rules = ChannelRules::new(HashMap::from([(tenant, vec![rule("ticker/*")])]));
    let tenants = tenants(rules, SessionKind::Lazy);
    let fleet = Fleet::of(1, EdgeConfig::default(), tenants).await;
    let node = &fleet.nodes[0];
    let mut bystander = Bystander::watch(&fleet).await;
    let mut reader = Peer::connect(node, "ada").await;
    reader.subscribe("ticker/1").await;
    let mut publisher = Peer::connect(node, "bob").await;

    for number in 0..3 {
        publisher.published("ticker/1", text(&number.to_string())).await;
        bystander.is_undisturbed().await;
    }
    tokio::time::pause();

    assert_eq!(reader.publications().await.len(), 3, "all of them in one frame");
}

#[tokio::test]
async fn a_client_that_offers_compression_gets_and_sends_compressed_publications() {
    let fleet = Fleet::one().await;
    let node = &fleet.nodes[0];
    let mut plain = Peer::connect(node, "ada").await;
    plain.subscribe("room/1").await;
    let settings = Settings { limits: Limits::default(), compression: Compression::On };
    let url = format!("ws://{}/v1/{TENANT}/ws", node.address);
    let connecting = client::connect(&url, Codec::Json.subprotocol(), settings);
    let mut socket = soon(connecting).await.expect("upgraded");
    assert!(socket.deflate().is_some(), "granted");

    let long = "all the same ".repeat(200);
    let token = token("bob");
    let commands = format!(
        r#"[{{"id":1,"connect":{{"token":"{token}"}}}},
            {{"id":2,"subscribe":{{"channel":"room/1"}}}},
            {{"id":3,"publish":{{"channel":"room/1","data":"{long}"}}}}]"#
    );
    soon(socket.send(&[Frame::Text(commands.into())])).await.expect("connected");

    assert_eq!(plain.publications().await[0].payload, text(&long));
    loop {
        let frame = soon(socket.receive()).await.expect("connected").expect("not closed");
        if String::from_utf8_lossy(frame.bytes()).contains(&long) {
            break;
        }
    }
}

/// What comes, up to the publication at `last`.
async fn offsets_to(peer: &mut Peer, last: u64) -> Vec<u64> {
    let mut offsets = Vec::new();
    while offsets.last() != Some(&last) {
        offsets.extend(peer.publications().await.iter().map(|one| one.position.offset));
    }
    offsets
}
