//! Channels that no log keeps.

use std::time::Duration;

use tidewire_hub::QueueLimits;
use tidewire_model::{
    ChannelRule, Delivery, DeliveryClass, Direction, Filter, GapReason, HistoryQuery, Position,
    Recovery, Since,
};

use crate::fleet::{Fleet, Subscriber, channel, draft, draft_with_id, publish};

#[tokio::test(start_paused = true)]
async fn an_ephemeral_channel_needs_no_log() {
    let Fleet { nodes: [a, b], log, .. } = &fleet();
    log.switch(false);
    let mut here = Subscriber::live(a, "ticker/1").await;
    let mut there = Subscriber::live(b, "ticker/1").await;

    for number in 0..100 {
        let position = publish(a, "ticker/1", draft(&number.to_string())).await;
        assert_eq!(position, Position::NONE);
    }
    here.hear(100).await;
    there.hear(100).await;

    let expected: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(here.payloads(), expected);
    assert_eq!(there.payloads(), expected);
    assert_eq!(there.offsets(), (1..=100).collect::<Vec<_>>());
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(log.comparisons(), 0, "there is nothing to compare with");
}

#[tokio::test(start_paused = true)]
async fn what_the_network_loses_is_lost_and_leaves_no_hole() {
    let Fleet { nodes: [a, b], network, .. } = &fleet();
    let mut subscriber = Subscriber::live(b, "ticker/1").await;

    publish(a, "ticker/1", draft("one")).await;
    network.lose_next(1);
    publish(a, "ticker/1", draft("lost")).await;
    publish(a, "ticker/1", draft("two")).await;
    subscriber.hear(2).await;

    assert_eq!(subscriber.payloads(), ["one", "two"]);
    assert_eq!(subscriber.offsets(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn an_id_that_comes_again_is_another_publication() {
    let Fleet { nodes: [a], .. } = &fleet();
    let mut subscriber = Subscriber::live(a, "ticker/1").await;

    for text in ["one", "two"] {
        publish(a, "ticker/1", draft_with_id(text, "id")).await;
    }
    subscriber.hear(2).await;

    assert_eq!(subscriber.payloads(), ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_soon_misses_nothing_and_who_comes_back_late_is_told() {
    let Fleet { nodes: [a], .. } = &fleet();
    let mut watcher = Subscriber::live(a, "ticker/1").await;
    for number in 0..300 {
        publish(a, "ticker/1", draft(&number.to_string())).await;
    }
    watcher.hear(300).await;
    let (_, latest) = Subscriber::join(a, "ticker/1", Since::Last(2)).await;
    let latest = latest.expect("joined");
    let since = |offset| Since::Position(Position::new(latest.position.epoch, offset));

    let (_, near) = Subscriber::join(a, "ticker/1", since(290)).await;
    let (_, far) = Subscriber::join(a, "ticker/1", since(10)).await;

    assert_eq!((latest.position.offset, latest.missed.len()), (298, 2));
    let near = near.expect("joined");
    assert_eq!((near.missed.len(), near.recovery, near.live), (10, Recovery::Recovered, true));
    let far = far.expect("joined");
    assert_eq!(far.recovery, Recovery::Failed(GapReason::Window));
    assert_eq!((far.lost, far.position.offset, far.missed.len()), (Some(34), 44, 256));
    assert!(far.live);
}

#[tokio::test(start_paused = true)]
async fn moving_to_another_node_begins_anew_without_a_gap() {
    let Fleet { nodes: [a, b], .. } = &fleet();
    let mut subscriber = Subscriber::live(a, "ticker/1").await;
    let _watcher = Subscriber::live(b, "ticker/1").await;
    publish(a, "ticker/1", draft("one")).await;
    let [Delivery::Publication(one)] = subscriber.hear(1).await else { panic!("a publication") };

    let (_, moved) = Subscriber::join(b, "ticker/1", Since::Position(one.position)).await;

    let moved = moved.expect("joined");
    assert_eq!((moved.recovery, moved.missed.len()), (Recovery::NotAsked, 0));
    assert_ne!(moved.position.epoch, one.position.epoch);
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_lags_and_costs_nobody_else_anything() {
    let Fleet { nodes: [a], .. } = &fleet();
    let limits = QueueLimits { deliveries: 10, bytes: 1 << 20 };
    let (mut slow, joined) = Subscriber::join_with(a, "ticker/1", Since::Now, limits).await;
    joined.expect("joined");
    let mut quick = Subscriber::live(a, "ticker/1").await;

    for number in 0..50 {
        publish(a, "ticker/1", draft(&number.to_string())).await;
    }
    quick.hear(50).await;

    slow.hear_ready();
    assert!(matches!(slow.heard.last(), Some(Delivery::Lagged { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_publication_of_another_class_than_the_channel_has_is_delivered_or_told_as_a_gap() {
    let of_first = |index| if index == 0 { rules() } else { Vec::new() };
    let Fleet { nodes: [ruled, unruled], .. } = &Fleet::with_rules_of_each(of_first);
    let mut ephemeral = Subscriber::live(ruled, "ticker/1").await;
    let mut recoverable = Subscriber::live(unruled, "ticker/1").await;

    publish(ruled, "ticker/1", draft("ephemeral")).await;
    publish(unruled, "ticker/1", draft("recoverable")).await;
    ephemeral.hear(2).await;
    recoverable.hear(2).await;

    assert_eq!(ephemeral.payloads(), ["ephemeral", "recoverable"]);
    assert_eq!(ephemeral.offsets(), [1, 2]);
    assert_eq!(recoverable.payloads(), ["recoverable"]);
    let Delivery::Gap { gap, .. } = &recoverable.heard[1] else { panic!("a gap") };
    assert_eq!((gap.reason, gap.position.offset), (GapReason::Reset, 1));
}

#[tokio::test(start_paused = true)]
async fn its_history_is_empty() {
    let Fleet { nodes: [a], log, .. } = &fleet();
    log.switch(false);
    publish(a, "ticker/1", draft("one")).await;

    let query = HistoryQuery { from: None, direction: Direction::Backward, limit: 10 };
    let page = a.history(&channel("ticker/1"), query).await.expect("a page");

    assert_eq!((page.publications.len(), page.top, page.next), (0, Position::NONE, None));
}

/// Nodes to which `ticker/*` is ephemeral.
fn fleet<const N: usize>() -> Fleet<N> {
    Fleet::with_rules(&rules())
}

fn rules() -> Vec<ChannelRule> {
    let filter = Filter::parse("ticker/*").expect("filter");
    vec![ChannelRule { class: DeliveryClass::Ephemeral, ..ChannelRule::new(filter) }]
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_memory_is_short_remembers_less_until_it_is_not() {
    let Fleet { nodes: [a], .. } = &fleet();
    let mut watcher = Subscriber::live(a, "ticker/1").await;
    let mut fill = async |count| {
        for number in 0..count {
            publish(a, "ticker/1", draft(&format!("{number}"))).await;
        }
        watcher.hear(count).await;
        // The shard has looked at its rings meanwhile.
        tokio::time::sleep(Duration::from_secs(2)).await;
    };
    let remembered = async || {
        let (_, latest) = Subscriber::join(a, "ticker/1", Since::Last(1_000)).await;
        latest.expect("joined").missed.len()
    };

    fill(100).await;
    assert_eq!(remembered().await, 100);
    a.remember_less(true);
    fill(1).await;
    assert_eq!(remembered().await, 64);
    fill(100).await;
    assert_eq!(remembered().await, 64);
    a.remember_less(false);
    fill(1).await;
    fill(100).await;
    assert_eq!(remembered().await, 164);
}
