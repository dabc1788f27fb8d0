//! What the channels of a tenant may have.

use std::time::Duration;

use tidewire_model::{
    ChannelLimits, ChannelRule, ChannelRules, DeliveryClass, Failure, Filter, Limit, LiveRules,
    Pace, Since,
};
use tidewire_node::Node;

use crate::fleet::{Fleet, Subscriber, channel, draft, rules};

const PACE: Pace = Pace { per_second: 4, burst: 3 };

/// By which `fast/*` are published to as fast as one likes, and no log keeps `fleeting/*`.
fn limited(limits: ChannelLimits) -> LiveRules {
    let rule = |name: &str| ChannelRule::new(Filter::parse(name).expect("filter"));
    let fast = ChannelRule { publish: Some(Pace::doubled(1_000_000)), ..rule("fast/*") };
    let fleeting = ChannelRule { class: DeliveryClass::Ephemeral, ..rule("fleeting/*") };
    LiveRules::new(rules(vec![fast, fleeting]).with_limits(limits))
}

fn exceeded(failure: &Failure) -> (Limit, u64) {
    let exceeded = failure.exceeded.as_ref().expect("a limit");
    (exceeded.limit, exceeded.value)
}

/// Publishes ten times at once; yields how many passed, and the last refusal.
async fn publish_ten(node: &Node, name: &str) -> (usize, Option<Failure>) {
    let (mut passed, mut refusal) = (0, None);
    let mut under_way = Vec::new();
    for _ in 0..10 {
        under_way.push(node.publish(channel(name), draft("x")).await);
    }
    for publishing in under_way {
        match publishing.finish().await {
            Ok(_) => passed += 1,
            Err(failure) => refusal = Some(failure),
        }
    }
    (passed, refusal)
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_published_to_as_fast_as_it_may_be_on_each_node() {
    let limits = ChannelLimits { publish: Some(PACE), ..ChannelLimits::default() };
    let fleet = Fleet::<2>::with_live_rules(|_| limited(limits));
    let [one, other] = &fleet.nodes;

    for name in ["kept", "fleeting/1"] {
        let (passed, refusal) = publish_ten(one, name).await;
        let refusal = refusal.expect("ten are too many");
        assert_eq!((passed, exceeded(&refusal)), (3, (Limit::ChannelPublishRate, 4)), "{name}");

        tokio::time::sleep(refusal.retry_after.expect("a time")).await;
        let (passed, _) = publish_ten(one, name).await;
        assert_eq!(passed, 3, "{name}");
        assert_eq!(publish_ten(other, name).await.0, 3, "{name} is counted by each node");
    }
    assert_eq!(publish_ten(one, "fast/1").await, (10, None));
}

#[tokio::test(start_paused = true)]
async fn a_change_of_rules_changes_how_fast_a_channel_is_published_to() {
    let live = limited(ChannelLimits { publish: Some(PACE), ..ChannelLimits::default() });
    let fleet = Fleet::<1>::with_live_rules(|_| live.clone());
    let node = &fleet.nodes[0];
    assert_eq!(publish_ten(node, "kept").await.0, 3);

    live.replace(ChannelRules::default());

    assert_eq!(publish_ten(node, "kept").await, (10, None));
}

#[tokio::test(start_paused = true)]
async fn a_tenant_follows_as_many_channels_on_a_node_as_it_may_until_it_lets_one_go() {
    let limits = ChannelLimits { followed: Some(2), ..ChannelLimits::default() };
    let fleet = Fleet::<2>::with_live_rules(|_| limited(limits));
    let [one, other] = &fleet.nodes;
    let first = Subscriber::live(one, "first").await;
    let _second = Subscriber::live(one, "second").await;
    let _also_second = Subscriber::live(one, "second").await;

    let refusal = Subscriber::join(one, "third", Since::Now).await.1.expect_err("too many");
    assert_eq!(exceeded(&refusal), (Limit::TenantChannels, 2));
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(5)));
    let _third_elsewhere = Subscriber::live(other, "third").await;

    first.leave();
    // A channel nobody wants is followed on for half a minute.
    tokio::time::sleep(Duration::from_secs(32)).await;
    let _third = Subscriber::live(one, "third").await;
}
