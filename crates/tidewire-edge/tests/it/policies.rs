//! What becomes of publications for clients that do not read, as their channels say.

use std::collections::HashMap;
use std::time::Duration;

use tidewire_client::{Codec, Content, ServerEvent};
use tidewire_edge::EdgeConfig;
use tidewire_model::{
    ChannelRule, ChannelRules, Command, DeliveryClass, DeltaFormat, Filter, Gap, GapReason,
    Payload, SessionKind, Since, Tenant, WhenSlow,
};
use tokio::time::Instant;

use crate::fleet::{Fleet, TENANT, tenants, token};
use crate::peer::{Bystander, Peer, channel, text};

/// More of these than there is room for in the kernel's buffers are sent.
fn large() -> Payload {
    Payload::binary(vec![7; 32 * 1_024].into())
}

const MANY: u64 = 320;

const SLOW_AFTER: Duration = Duration::from_millis(50);

/// A node whose channels below `a/` are of this class and treat clients that are slow so.
async fn fleet(class: DeliveryClass, when_slow: WhenSlow) -> Fleet {
    // However long a test takes, nobody is slow in it.
    let slow_after = Duration::from_mins(10);
    fleet_with(class, when_slow, EdgeConfig { slow_after, ..EdgeConfig::default() }).await
}

async fn fleet_with(class: DeliveryClass, when_slow: WhenSlow, config: EdgeConfig) -> Fleet {
    let filter = Filter::parse("a/*").expect("filter");
    let delta = Some(DeltaFormat::Fossil);
    let key = (when_slow == WhenSlow::LatestByKey).then(|| "symbol".into());
    let rule = ChannelRule { class, when_slow, delta, key, ..ChannelRule::new(filter) };
    with_rule(rule, config).await
}

async fn with_rule(rule: ChannelRule, config: EdgeConfig) -> Fleet {
    let tenant = Tenant::parse(TENANT).expect("tenant");
    let rules = ChannelRules::new(HashMap::from([(tenant, vec![rule])]));
    let tenants = tenants(rules, SessionKind::Lazy);
    Fleet::ruled(1, tenants.rules().clone(), (config, tenants)).await
}

/// What a client was sent: publications without a hole, between what was left out.
#[derive(Debug, Eq, PartialEq)]
enum Heard {
    Publications(u64),
    Skipped(u64),
}

/// Reads up to the publication or the gap at `last`, and holds that nothing is missing without a word.
async fn heard_up_to(peer: &mut Peer, last: u64) -> Vec<Heard> {
    let mut heard = Vec::new();
    let mut seen = 0;
    while seen < last {
        match peer.next().await {
            ServerEvent::Publications { publications, .. } => {
                for publication in publications {
                    assert_eq!(publication.position.offset, seen + 1, "after {heard:?}");
                    seen += 1;
                    match heard.last_mut() {
                        Some(Heard::Publications(count)) => *count += 1,
                        _ => heard.push(Heard::Publications(1)),
                    }
                }
            }
            ServerEvent::Gap { gap, .. } => {
                let Gap { reason: GapReason::Skipped, position, missed: Some(missed) } = gap else {
                    unreachable!("{gap:?} after {heard:?}")
                };
                assert_eq!(position.offset, seen + missed, "after {heard:?}");
                seen = position.offset;
                heard.push(Heard::Skipped(missed));
            }
            other => unreachable!("{other:?} after {heard:?}"),
        }
    }
    heard
}

/// What a client is sent that reads nothing of `a/1` until all has been published.
async fn heard_late(fleet: &Fleet, codec: Codec) -> Vec<Heard> {
    let mut bystander = Bystander::watch(fleet).await;
    let mut reader = Peer::dial_as(&fleet.nodes[0], Some(TENANT), codec).await;
    reader.introduce(token("ada")).await;
    let before = reader.subscribe("a/1").await.position.offset;
    assert_eq!(before, 0);
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    for _ in 0..MANY {
        publisher.published("a/1", large()).await;
    }
    bystander.is_undisturbed().await;

    let mut heard = heard_up_to(&mut reader, MANY).await;

    // It is in step again.
    publisher.published("a/1", text("one more")).await;
    heard.extend(heard_up_to_next(&mut reader).await);
    bystander.is_undisturbed().await;
    heard
}

/// The publication after the last, of which nothing is left out.
async fn heard_up_to_next(peer: &mut Peer) -> Option<Heard> {
    let publications = peer.publications().await;
    assert_eq!(publications.iter().map(|one| one.position.offset).collect::<Vec<_>>(), [MANY + 1]);
    None
}

#[tokio::test]
async fn the_newest_few_are_held_and_the_rest_is_told_of_once() {
    for codec in [Codec::Json, Codec::Protobuf] {
        let fleet = fleet(DeliveryClass::Ephemeral, WhenSlow::DropOldest).await;

        let heard = heard_late(&fleet, codec).await;

        let [.., Heard::Skipped(_), Heard::Publications(held)] = heard[..] else {
            unreachable!("{heard:?}")
        };
        // As many as there is room for beside what is unsent: 256 KiB.
        assert!((6..8).contains(&held), "{heard:?}");
    }
}

#[tokio::test]
async fn what_comes_while_it_does_not_read_is_left_out_and_told_of_once() {
    let fleet = fleet(DeliveryClass::Ephemeral, WhenSlow::DropNewest).await;

    let heard = heard_late(&fleet, Codec::Json).await;

    assert!(matches!(heard[..], [Heard::Publications(_), .., Heard::Skipped(_)]), "{heard:?}");
}

#[tokio::test]
async fn the_newest_one_is_held_whether_the_rest_is_kept_or_not() {
    for (class, codec) in
        [(DeliveryClass::Recoverable, Codec::Json), (DeliveryClass::Ephemeral, Codec::Protobuf)]
    {
        let fleet = fleet(class, WhenSlow::Latest).await;

        let heard = heard_late(&fleet, codec).await;

        // The kernel may make more room for it meanwhile, and then takes the newest.
        let is_so = matches!(heard[..], [.., Heard::Skipped(_), Heard::Publications(1)]);
        assert!(is_so, "{class:?}: {heard:?}");
    }
}

#[tokio::test]
async fn the_newest_one_of_each_key_is_held() {
    let fleet = fleet(DeliveryClass::Recoverable, WhenSlow::LatestByKey).await;
    let mut bystander = Bystander::watch(&fleet).await;
    let mut reader = Peer::connect(&fleet.nodes[0], "ada").await;
    reader.subscribe("a/1").await;
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    let symbols = ["A", "B", "C"];
    for number in 0..MANY {
        let symbol = symbols[usize::try_from(number % 3).expect("small")];
        let value = format!(r#"{{"note":"{}","symbol":"{symbol}"}}"#, "x".repeat(32 * 1_024));
        publisher.published("a/1", Payload::json(value.into()).expect("json")).await;
    }
    for rare in ["D", "E"] {
        let value = format!(r#"{{"symbol":"{rare}"}}"#);
        publisher.published("a/1", Payload::json(value.into()).expect("json")).await;
    }
    for _ in 0..30 {
        let value = r#"{"symbol":"A","price":3}"#;
        publisher.published("a/1", Payload::json(value.into()).expect("json")).await;
    }
    bystander.is_undisturbed().await;

    let heard = heard_up_to(&mut reader, MANY + 32).await;

    // The last C, then without the A between them B, D and E, then A.
    let [
        ..,
        Heard::Publications(1),
        Heard::Skipped(1),
        Heard::Publications(3),
        Heard::Skipped(29),
        Heard::Publications(1),
    ] = heard[..]
    else {
        unreachable!("{heard:?}")
    };
}

#[tokio::test]
async fn of_a_sampled_channel_the_newest_of_each_interval_is_handed_out() {
    for class in [DeliveryClass::Recoverable, DeliveryClass::Ephemeral] {
        let filter = Filter::parse("a/*").expect("filter");
        let sample = Some(Duration::from_millis(200));
        let rule = ChannelRule { class, sample, ..ChannelRule::new(filter) };
        let fleet = with_rule(rule, EdgeConfig::default()).await;
        let mut bystander = Bystander::watch(&fleet).await;
        let mut readers = Vec::new();
        for codec in [Codec::Json, Codec::Protobuf] {
            let mut reader = Peer::dial_as(&fleet.nodes[0], Some(TENANT), codec).await;
            reader.introduce(token("ada")).await;
            assert!(reader.subscribe("a/1").await.sampled);
            assert!(!reader.subscribe("b").await.sampled);
            readers.push(reader);
        }
        let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;

        let begun = Instant::now();
        let mut last = 0;
        while begun.elapsed() < Duration::from_secs(1) {
            publish_ten(&mut publisher).await;
            last += 10;
            // Whoever comes in between has no interval ended early.
            Peer::connect(&fleet.nodes[0], "eve").await.subscribe("a/1").await;
        }

        // One at its beginning and one at its end.
        let most = begun.elapsed().as_millis() / 200 + 2;
        for reader in &mut readers {
            let mut offsets = Vec::new();
            while offsets.last() != Some(&last) {
                offsets.extend(reader.publications().await.iter().map(|one| one.position.offset));
            }
            assert!(offsets.is_sorted() && offsets.len() as u128 <= most, "{offsets:?} of {last}");
            assert!(offsets.len() < usize::try_from(last).expect("few"), "{offsets:?} of {last}");
        }
        bystander.is_undisturbed().await;
    }
}

/// Publishes ten at once, so that an interval has most of them however busy the machine is. Tells the last
/// offset.
async fn publish_ten(publisher: &mut Peer) -> u64 {
    for _ in 0..10 {
        publisher.publish("a/1", text("value"));
    }
    let mut last = 0;
    for _ in 0..10 {
        match publisher.next().await {
            ServerEvent::Published { position, .. } => last = position.offset,
            other => unreachable!("not published: {other:?}"),
        }
    }
    last
}

#[tokio::test]
async fn whoever_was_there_before_a_channel_was_sampled_is_told_of_each_hole() {
    let rule = ChannelRule::new(Filter::parse("a/*").expect("filter"));
    let fleet = with_rule(rule.clone(), EdgeConfig::default()).await;
    let mut reader = Peer::connect(&fleet.nodes[0], "ada").await;
    assert!(!reader.subscribe("a/1").await.sampled);
    let mut rules = ChannelRules::default();
    let sample = Some(Duration::from_millis(200));
    rules.set(Tenant::parse(TENANT).expect("tenant"), vec![ChannelRule { sample, ..rule }]);
    fleet.tenants.rules().replace(rules);
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;

    let mut last = 0;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        last = publish_ten(&mut publisher).await;
    }

    let heard = heard_up_to(&mut reader, last).await;
    assert!(heard.iter().any(|one| matches!(one, Heard::Skipped(_))), "{heard:?}");
}

#[tokio::test]
async fn when_a_channel_is_sampled_no_longer_what_a_slow_client_misses_is_told() {
    let filter = Filter::parse("a/*").expect("filter");
    let rule = ChannelRule {
        class: DeliveryClass::Ephemeral,
        when_slow: WhenSlow::DropNewest,
        sample: Some(Duration::from_millis(50)),
        ..ChannelRule::new(filter)
    };
    let slow_after = Duration::from_mins(10);
    let config = EdgeConfig { slow_after, ..EdgeConfig::default() };
    let fleet = with_rule(rule.clone(), config).await;
    let mut reader = Peer::connect(&fleet.nodes[0], "ada").await;
    assert!(reader.subscribe("a/1").await.sampled);
    let mut rules = ChannelRules::default();
    rules.set(Tenant::parse(TENANT).expect("tenant"), vec![ChannelRule { sample: None, ..rule }]);
    fleet.tenants.rules().replace(rules);
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    for _ in 0..MANY {
        publisher.published("a/1", large()).await;
    }

    let heard = heard_up_to(&mut reader, MANY).await;

    assert!(matches!(heard[..], [Heard::Publications(_), .., Heard::Skipped(_)]), "{heard:?}");
}

#[tokio::test]
async fn a_client_that_cannot_show_a_gap_is_disconnected_and_resumes() {
    let fleet = fleet(DeliveryClass::Recoverable, WhenSlow::Disconnect).await;
    let mut bystander = Bystander::watch(&fleet).await;
    let (mut reader, connected) = Peer::connect_with(&fleet.nodes[0], token("ada")).await;
    let start = reader.subscribe("a/1").await.position;
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    let everybody = fleet.nodes[0].edge.connections();
    let mut newest = 0;
    while fleet.nodes[0].edge.connections() == everybody {
        publisher.published("a/1", large()).await;
        newest += 1;
    }
    bystander.is_undisturbed().await;

    let heard = reader.closes_with(4508).await;
    let last = heard.iter().rev().find_map(|event| match event {
        ServerEvent::Publications { publications, .. } => publications.last(),
        _ => None,
    });
    let positions = vec![(channel("a/1"), last.map_or(start, |last| last.position))];
    let mut reader = Peer::resume(&fleet.nodes[0], connected.resume_token, positions).await;

    assert!(reader.connected().await.resumed);
    let mut seen = reader.subscribed().await.position.offset;
    while seen < newest {
        for publication in reader.publications().await {
            seen += 1;
            assert_eq!(publication.position.offset, seen);
        }
    }
}

#[tokio::test]
async fn after_what_was_left_out_a_publication_is_no_delta() {
    let fleet = fleet(DeliveryClass::Recoverable, WhenSlow::Latest).await;
    let mut reader = Peer::connect(&fleet.nodes[0], "ada").await;
    let delta = Some(DeltaFormat::Fossil);
    reader.send(Command::Subscribe {
        channel: channel("a/1"),
        since: Since::Now,
        delta,
        token: None,
    });
    assert_eq!(reader.subscribed().await.delta, delta);
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    for number in 0..MANY {
        // Half of each is as it was before.
        let payload = [noise(0), noise(1 + number)].concat();
        publisher.published("a/1", Payload::binary(payload.into())).await;
    }

    let (mut is_after_gap, mut gaps, mut deltas) = (false, 0, 0);
    loop {
        let written = match reader.next().await {
            ServerEvent::Gap { .. } => {
                (is_after_gap, gaps) = (true, gaps + 1);
                continue;
            }
            ServerEvent::Deltas { publications, .. } => publications,
            ServerEvent::Publications { publications, .. } => {
                publications.into_iter().map(tidewire_client::Received::written).collect()
            }
            other => unreachable!("{other:?}"),
        };
        let Some(first) = written.first() else { continue };
        assert!(
            !(is_after_gap && matches!(first.payload, Content::Delta(_))),
            "at {:?}",
            first.position
        );
        is_after_gap = false;
        deltas += written.iter().filter(|one| matches!(one.payload, Content::Delta(_))).count();
        if written.iter().any(|one| one.position.offset == MANY) {
            break;
        }
    }
    assert!(gaps > 0 && deltas > 0, "{gaps} gaps and {deltas} deltas");
}

#[tokio::test]
async fn for_a_client_that_is_slow_nothing_is_held_but_counted() {
    let config = EdgeConfig { slow_after: SLOW_AFTER, ..EdgeConfig::default() };
    let fleet = fleet_with(DeliveryClass::Ephemeral, WhenSlow::DropOldest, config).await;
    let mut reader = Peer::connect(&fleet.nodes[0], "ada").await;
    reader.subscribe("a/1").await;
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    for _ in 0..MANY {
        publisher.published("a/1", large()).await;
    }
    let behind = Instant::now();
    while behind.elapsed() < 10 * SLOW_AFTER {
        publisher.published("a/2", text("another turn")).await;
    }
    for _ in 0..3 {
        publisher.published("a/1", large()).await;
    }

    let heard = heard_up_to(&mut reader, MANY + 3).await;

    assert!(matches!(heard[..], [Heard::Publications(_), .., Heard::Skipped(_)]), "{heard:?}");
}

#[tokio::test]
async fn leaving_a_channel_forgets_what_was_held_of_it() {
    let fleet = fleet(DeliveryClass::Ephemeral, WhenSlow::DropOldest).await;
    let mut reader = Peer::connect(&fleet.nodes[0], "ada").await;
    reader.subscribe("a/1").await;
    reader.subscribe("a/2").await;
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    for _ in 0..MANY {
        publisher.published("a/1", large()).await;
    }
    publisher.published("a/2", text("held")).await;
    reader.send(Command::Unsubscribe { channel: channel("a/1") });

    let mut is_left = false;
    loop {
        match reader.next().await {
            ServerEvent::Unsubscribed { .. } => is_left = true,
            ServerEvent::Publications { channel: of, publications } if of == channel("a/2") => {
                assert_eq!(publications[0].payload, text("held"));
                break;
            }
            event => assert!(!is_left, "{event:?}"),
        }
    }
}

/// 16 KiB that look like no others.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..2 * 1_024).flat_map(|_| next()).collect()
}
