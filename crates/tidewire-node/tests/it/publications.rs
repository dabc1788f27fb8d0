use std::time::Duration;

use tidewire_hub::QueueLimits;
use tidewire_model::{
    ChannelRule, Delivery, ErrorCode, Filter, GapReason, Position, Recovery, Since,
};
use tokio::time::Instant;

use crate::fleet::{Fleet, Subscriber, channel, draft, draft_with_id, publish};

#[tokio::test(start_paused = true)]
async fn a_publication_on_one_node_reaches_subscribers_on_both_with_its_position() {
    let Fleet { nodes: [a, b], .. } = &Fleet::start();
    let mut here = Subscriber::live(a, "news").await;
    let mut there = Subscriber::live(b, "news").await;

    let position = publish(a, "news", draft("hello")).await;

    for subscriber in [&mut here, &mut there] {
        let [Delivery::Publication(envelope)] = subscriber.hear(1).await else {
            panic!("a publication");
        };
        assert_eq!(envelope.position, position);
        assert_eq!(envelope.payload.bytes(), "hello");
    }
    assert_eq!(position.offset, 1);
}

#[tokio::test(start_paused = true)]
async fn both_nodes_hand_out_one_order_when_both_publish_at_once() {
    let Fleet { nodes: [a, b], .. } = &Fleet::start();
    let mut here = Subscriber::live(a, "news").await;
    let mut there = Subscriber::live(b, "news").await;

    let from_a = async {
        for number in 0..100 {
            publish(a, "news", draft(&format!("a{number}"))).await;
        }
    };
    let from_b = async {
        for number in 0..100 {
            publish(b, "news", draft(&format!("b{number}"))).await;
        }
    };
    tokio::join!(from_a, from_b);
    here.hear(200).await;
    there.hear(200).await;

    assert_eq!(here.offsets(), (1..=200).collect::<Vec<_>>());
    assert_eq!(here.offsets(), there.offsets());
    assert_eq!(here.payloads(), there.payloads());
}

#[tokio::test(start_paused = true)]
async fn drafts_get_offsets_in_the_order_they_were_handed_over() {
    let Fleet { nodes: [a], .. } = &Fleet::start();
    let mut subscriber = Subscriber::live(a, "news").await;

    let mut verdicts = Vec::new();
    for number in 0..200 {
        verdicts.push(a.publish(channel("news"), draft(&number.to_string())).await);
    }
    for verdict in verdicts {
        verdict.finish().await.expect("published");
    }
    subscriber.hear(200).await;

    let expected: Vec<_> = (0..200).map(|number| number.to_string()).collect();
    assert_eq!(subscriber.payloads(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_id_that_comes_again_gets_the_same_position_and_is_delivered_once() {
    let Fleet { nodes: [a, b], .. } = &Fleet::start();
    let mut subscriber = Subscriber::live(b, "news").await;

    let first = publish(a, "news", draft_with_id("one", "id")).await;
    let again = publish(b, "news", draft_with_id("another payload", "id")).await;
    publish(a, "news", draft("two")).await;
    subscriber.hear(2).await;

    assert_eq!(first, again);
    assert_eq!(subscriber.payloads(), ["one", "two"]);
    assert_eq!(subscriber.hear_ready(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_publication_lost_between_nodes_is_found_soon_though_nothing_follows_it() {
    let Fleet { nodes: [a, b], network, .. } = &Fleet::start();
    let mut subscriber = Subscriber::live(b, "news").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    network.lose_next(1);

    publish(a, "news", draft("lost")).await;
    let published = Instant::now();
    subscriber.hear(1).await;

    assert_eq!(subscriber.payloads(), ["lost"]);
    assert!(published.elapsed() < Duration::from_millis(500), "{:?}", published.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_retry_completes_a_delivery_that_the_first_attempt_did_not() {
    let Fleet { nodes: [a, b], network, .. } = &Fleet::start();
    let mut subscriber = Subscriber::live(b, "news").await;
    network.partition([b.id().clone()]);
    publish(a, "news", draft_with_id("one", "id")).await;
    network.heal();

    publish(a, "news", draft_with_id("one", "id")).await;
    // Sooner than the position is announced once the channel is quiet.
    let soon = Duration::from_millis(200);
    tokio::time::timeout(soon, subscriber.hear(1)).await.expect("the retry says where it is");

    assert_eq!(subscriber.payloads(), ["one"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_network_turns_round_is_handed_out_in_order() {
    let Fleet { nodes: [a, b], network, .. } = &Fleet::start();
    let mut subscriber = Subscriber::live(b, "news").await;
    network.hold();
    for number in 0..10 {
        publish(a, "news", draft(&number.to_string())).await;
    }

    network.release_reversed();
    subscriber.hear(10).await;

    assert_eq!(subscriber.offsets(), (1..=10).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn with_the_network_cut_publications_arrive_by_asking_the_log_each_second() {
    let Fleet { nodes: [a, b], network, .. } = &Fleet::start();
    let mut subscriber = Subscriber::live(b, "news").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    network.partition([b.id().clone()]);
    let cut = Instant::now();

    publish(a, "news", draft("one")).await;
    subscriber.hear(1).await;
    assert!(cut.elapsed() <= Duration::from_secs(6), "{:?}", cut.elapsed());

    // A position check may have come round first, but not for the next twenty.
    tokio::time::sleep_until(cut + Duration::from_secs(6)).await;
    for number in 0..20 {
        let published = Instant::now();
        publish(a, "news", draft(&number.to_string())).await;
        subscriber.hear(1).await;
        assert!(published.elapsed() <= Duration::from_millis(1_100), "{:?}", published.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_asks_the_log_each_second_until_it_hears_the_others_again() {
    let Fleet { nodes: [_, b], network, log, .. } = &Fleet::start();
    let _subscriber = Subscriber::live(b, "news").await;
    let asked_in_half_a_minute = async || {
        let before = log.comparisons();
        tokio::time::sleep(Duration::from_secs(30)).await;
        log.comparisons() - before
    };

    let quiet = asked_in_half_a_minute().await;
    network.partition([b.id().clone()]);
    let cut = asked_in_half_a_minute().await;
    network.heal();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let healed = asked_in_half_a_minute().await;

    assert!((2..=4).contains(&quiet), "{quiet}");
    assert!((25..=34).contains(&cut), "{cut}");
    assert!((2..=4).contains(&healed), "{healed}");
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_of_the_network_is_a_reason_to_compare_at_once() {
    let Fleet { nodes: [a, b], network, .. } = &Fleet::start();
    let mut subscriber = Subscriber::live(b, "news").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    network.partition([b.id().clone()]);
    publish(a, "news", draft("one")).await;
    network.heal();
    network.suspect();
    let suspected = Instant::now();

    subscriber.hear(1).await;

    assert!(suspected.elapsed() < Duration::from_millis(10), "{:?}", suspected.elapsed());
}

#[tokio::test(start_paused = true)]
async fn of_many_channels_the_liveliest_is_compared_at_once_and_all_within_two_seconds() {
    let Fleet { nodes: [a, b], network, log, .. } = &Fleet::start();
    let mut subscribers = Vec::new();
    for number in 0..1_000 {
        subscribers.push(Subscriber::live(b, &format!("room/{number}")).await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    publish(a, "room/777", draft("lively")).await;
    subscribers[777].hear(1).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    network.partition([b.id().clone()]);
    for number in (0..1_000).step_by(111) {
        publish(a, &format!("room/{number}"), draft("lost")).await;
    }
    // So that what is announced when a channel has become quiet is lost as well.
    tokio::time::sleep(Duration::from_millis(500)).await;
    network.heal();
    let before = log.comparisons();
    network.suspect();
    let suspected = Instant::now();

    subscribers[777].hear(1).await;
    assert!(suspected.elapsed() < Duration::from_millis(10), "{:?}", suspected.elapsed());
    for number in (0..1_000).step_by(111).filter(|number| *number != 777) {
        if subscribers[number].heard.is_empty() {
            subscribers[number].hear(1).await;
        }
    }

    assert!(suspected.elapsed() <= Duration::from_secs(2), "{:?}", suspected.elapsed());
    let calls = log.comparisons() - before;
    assert!(calls < 30, "{calls} calls for 1,000 channels");
}

#[tokio::test(start_paused = true)]
async fn a_returning_subscriber_misses_nothing_whether_memory_or_the_log_has_it() {
    let Fleet { nodes: [a, b], .. } = &Fleet::start();
    let mut watcher = Subscriber::live(a, "news").await;
    let mut epoch = None;
    for number in 0..300 {
        epoch = Some(publish(a, "news", draft(&number.to_string())).await.epoch);
    }
    watcher.hear(300).await;
    let since = |offset| Since::Position(Position::new(epoch.expect("published"), offset));

    let (_, near) = Subscriber::join(a, "news", since(290)).await;
    let (_, far) = Subscriber::join(a, "news", since(10)).await;
    let (_, elsewhere) = Subscriber::join(b, "news", since(290)).await;

    let near = near.expect("joined");
    assert_eq!((near.missed.len(), near.live, near.recovery), (10, true, Recovery::Recovered));
    let far = far.expect("joined");
    assert_eq!((far.missed.len(), far.live), (256, false), "page by page");
    assert_eq!(far.end().offset, 266);
    let elsewhere = elsewhere.expect("joined");
    assert_eq!((elsewhere.missed.len(), elsewhere.live), (10, true));
}

#[tokio::test(start_paused = true)]
async fn the_last_few_come_first_for_those_who_ask() {
    let Fleet { nodes: [a, b], .. } = &Fleet::start();
    for number in 0..5 {
        publish(a, "news", draft(&number.to_string())).await;
    }

    let (_, three) = Subscriber::join(b, "news", Since::Last(3)).await;
    let (_, all) = Subscriber::join(b, "news", Since::Last(50)).await;

    let offsets = |joined: tidewire_model::Joined| {
        joined.missed.iter().map(|envelope| envelope.position.offset).collect::<Vec<_>>()
    };
    assert_eq!(offsets(three.expect("joined")), [3, 4, 5]);
    assert_eq!(offsets(all.expect("joined")), [1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn the_newest_comes_first_where_the_rule_says_so() {
    let filter = Filter::parse("state/*").expect("filter");
    let latest = ChannelRule { gives_latest: true, ..ChannelRule::new(filter) };
    let Fleet { nodes: [a, b], .. } = &Fleet::with_rules(&[latest]);
    let mut position = None;
    for number in 0..3 {
        position = Some(publish(a, "state/1", draft(&number.to_string())).await);
        publish(a, "news", draft(&number.to_string())).await;
    }
    let position = position.expect("published");

    let (_, latest) = Subscriber::join(b, "state/1", Since::Now).await;
    let (_, resumed) = Subscriber::join(b, "state/1", Since::Position(position)).await;
    let (_, empty) = Subscriber::join(b, "state/2", Since::Now).await;
    let (_, other) = Subscriber::join(b, "news", Since::Now).await;

    let latest = latest.expect("joined");
    assert_eq!((latest.missed.len(), latest.recovery), (1, Recovery::NotAsked));
    assert_eq!(latest.missed[0].payload.bytes(), "2");
    for joined in [resumed, empty, other] {
        assert_eq!(joined.expect("joined").missed.len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_position_the_log_has_dropped_is_told_as_such() {
    let Fleet { nodes: [a], .. } = &Fleet::start();
    let mut first = None;
    for number in 0..700 {
        let position = publish(a, "news", draft(&number.to_string())).await;
        first.get_or_insert(position);
    }

    let (_, joined) = Subscriber::join(a, "news", Since::Position(first.expect("published"))).await;

    let joined = joined.expect("joined");
    assert_eq!(joined.recovery, Recovery::Failed(GapReason::Window));
    assert_eq!(joined.lost, Some(joined.position.offset - 1));
    assert_eq!(joined.missed[0].position.offset, joined.position.offset + 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_is_told_to_catch_up_and_costs_nobody_else_anything() {
    let Fleet { nodes: [a], .. } = &Fleet::start();
    let limits = QueueLimits { deliveries: 10, bytes: 1 << 20 };
    let (mut slow, joined) = Subscriber::join_with(a, "news", Since::Now, limits).await;
    joined.expect("joined");
    let mut quick = Subscriber::live(a, "news").await;

    for number in 0..50 {
        publish(a, "news", draft(&number.to_string())).await;
    }
    quick.hear(50).await;

    slow.hear_ready();
    assert_eq!(slow.offsets(), (1..=10).collect::<Vec<_>>());
    assert!(matches!(slow.heard.last(), Some(Delivery::Lagged { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_failover_that_loses_the_tail_is_told_to_those_who_saw_it_and_brings_it_again() {
    let Fleet { nodes: [a, b], log, .. } = &Fleet::start();
    let mut subscriber = Subscriber::live(b, "news").await;
    for text in ["one", "two", "three"] {
        publish(a, "news", draft(text)).await;
    }
    subscriber.hear(3).await;

    log.inner().restart(1);
    publish(a, "news", draft("four")).await;
    subscriber.hear(3).await;

    assert_eq!(subscriber.payloads(), ["one", "two", "three", "three", "four"]);
    assert_eq!(subscriber.offsets(), [1, 2, 3, 3, 4]);
    assert!(matches!(
        subscriber.heard[3],
        Delivery::Gap { gap, .. } if gap.reason == GapReason::Rewind && gap.position.offset == 2
    ));
}

#[tokio::test(start_paused = true)]
async fn without_its_log_a_node_refuses_publications_and_keeps_its_subscribers() {
    let Fleet { nodes: [a, b], log, .. } = &Fleet::start();
    let mut subscriber = Subscriber::live(b, "news").await;
    log.switch(false);

    let refused = a.publish(channel("news"), draft("one")).await.finish().await;
    let (_, joined) = Subscriber::join(a, "other", Since::Now).await;
    let ailments = a.ailments().await;

    let failure = refused.expect_err("refused");
    assert!(failure.code.is_retryable());
    assert_eq!(joined.expect_err("refused").code, ErrorCode::Unavailable);
    assert_eq!(ailments, ["log at memory is unavailable: switched off"]);

    log.switch(true);
    publish(a, "news", draft("two")).await;
    subscriber.hear(1).await;
    assert_eq!(subscriber.payloads(), ["two"]);
}

#[tokio::test(start_paused = true)]
async fn who_has_left_hears_nothing_more() {
    let Fleet { nodes: [a], .. } = &Fleet::start();
    let mut gone = Subscriber::live(a, "news").await;
    let mut here = Subscriber::live(a, "news").await;

    gone.leave();
    publish(a, "news", draft("one")).await;
    here.hear(1).await;

    assert_eq!(gone.hear_ready(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_channel_nobody_wants_is_given_up_and_can_be_taken_up_again() {
    let Fleet { nodes: [a, b], .. } = &Fleet::start();
    Subscriber::live(b, "news").await.leave();
    tokio::time::sleep(Duration::from_mins(1)).await;

    publish(a, "news", draft("unheard")).await;
    let mut back = Subscriber::live(b, "news").await;
    publish(a, "news", draft("heard")).await;
    back.hear(1).await;

    assert_eq!(back.payloads(), ["heard"]);
}
