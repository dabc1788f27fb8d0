//! Channels whose publications are acknowledged when they are kept in more than one place.

use std::time::Duration;

use futures_util::future::join_all;
use tidewire_broker::{Log as _, Secured};
use tidewire_model::{ChannelRule, DeliveryClass, ErrorCode, Filter, Since};
use tokio::time::{Instant, timeout};

use crate::fleet::{Fleet, Subscriber, channel, draft, draft_with_id, publish};

const COPIED: Secured = Secured::Copied { replicas: 1 };
const BEHIND: Secured = Secured::Behind { wanted: 1, reached: 0 };

#[tokio::test(start_paused = true)]
async fn it_is_delivered_at_once_and_acknowledged_when_it_is_copied() {
    let Fleet { nodes: [a, b], log, .. } = &fleet();
    let mut subscriber = Subscriber::live(b, "orders/1").await;
    log.set_copies(None);

    let first = a.publish(channel("orders/1"), draft("one")).await;
    let mut first = Box::pin(first.finish());
    subscriber.hear(1).await;
    let early = timeout(Duration::from_secs(1), &mut first).await;
    let second = a.publish(channel("orders/1"), draft("two")).await;
    subscriber.hear(1).await;
    log.set_copies(Some(COPIED));

    assert!(early.is_err(), "it was acknowledged before it was copied");
    assert_eq!(subscriber.payloads(), ["one", "two"]);
    assert_eq!(first.await.expect("copied").position.offset, 1);
    assert_eq!(second.finish().await.expect("copied").position.offset, 2);
}

#[tokio::test(start_paused = true)]
async fn with_too_few_copies_it_is_refused_as_retryable_and_stored_once() {
    let Fleet { nodes: [a, b], log, .. } = &fleet();
    let mut subscriber = Subscriber::live(b, "orders/1").await;
    log.set_copies(Some(BEHIND));

    let refused = a.publish(channel("orders/1"), draft_with_id("one", "1")).await.finish().await;
    let again = a.publish(channel("orders/1"), draft_with_id("one", "1")).await.finish().await;
    log.set_copies(Some(COPIED));
    let position = publish(b, "orders/1", draft_with_id("one", "1")).await;
    publish(a, "orders/1", draft("two")).await;
    subscriber.hear(2).await;

    for failure in [refused, again].map(|refused| refused.expect_err("not copied")) {
        assert_eq!(failure.code, ErrorCode::Timeout);
        assert!(failure.code.is_retryable());
        assert!(failure.message.contains("publish it again with the same id"), "{failure}");
    }
    assert_eq!(position.offset, 1);
    assert_eq!(subscriber.payloads(), ["one", "two"]);
    let kept = log.read(&channel("orders/1"), Since::Last(10), 10).await.expect("read");
    assert_eq!(kept.publications.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_never_says_whether_there_are_copies_is_waited_for_two_seconds() {
    let Fleet { nodes: [a], log, .. } = &fleet();
    publish(a, "orders/1", draft("alone")).await;
    log.set_copies(None);

    let asked = Instant::now();
    let waiting = a.publish(channel("orders/1"), draft_with_id("one", "1")).await.finish();
    let refused = timeout(Duration::from_secs(20), waiting).await.expect("an answer");
    let waited = asked.elapsed();
    log.set_copies(Some(COPIED));
    let position = publish(a, "orders/1", draft_with_id("one", "1")).await;

    assert_eq!(refused.expect_err("not copied").code, ErrorCode::Timeout);
    assert_eq!(waited.as_secs(), 2, "{waited:?}");
    assert_eq!(position.offset, 2, "it was stored once");
}

#[tokio::test(start_paused = true)]
async fn other_channels_do_not_wait_for_copies_and_one_place_is_enough_where_there_is_one() {
    let Fleet { nodes: [a], log, .. } = &fleet();
    publish(a, "orders/1", draft("alone")).await;

    log.set_copies(None);
    let waiting = a.publish(channel("orders/1"), draft("one")).await;
    publish(a, "news", draft("recoverable")).await;
    log.set_copies(Some(COPIED));

    waiting.finish().await.expect("copied");
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_for_want_of_copies_is_still_brought_back_in_its_order() {
    let Fleet { nodes: [a], log, .. } = &fleet();
    publish(a, "orders/1", draft("zero")).await;
    log.set_copies(Some(BEHIND));
    let one = a.publish(channel("orders/1"), draft_with_id("one", "1")).await.finish().await;
    log.set_copies(Some(COPIED));
    publish(a, "orders/1", draft("two")).await;

    log.inner().restart(2);
    publish(a, "orders/1", draft_with_id("one", "1")).await;
    publish(a, "orders/1", draft("three")).await;

    one.expect_err("not copied");
    let kept = log.read(&channel("orders/1"), Since::Last(10), 10).await.expect("read");
    let payloads: Vec<_> = kept.publications.iter().map(|one| one.payload.bytes()).collect();
    assert_eq!(payloads, ["zero", "one", "two", "three"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_answers_those_who_wait_for_copies() {
    let fleet: Fleet<1> = fleet();
    fleet.log.set_copies(None);
    let waiting = fleet.nodes[0].publish(channel("orders/1"), draft("one")).await;
    let log = fleet.log.clone();

    let mut stopping = Box::pin(fleet.stop());
    let early = timeout(Duration::from_secs(1), &mut stopping).await;
    log.set_copies(Some(COPIED));
    stopping.await;

    assert!(early.is_err(), "it stopped though somebody waited");
    waiting.finish().await.expect("copied");
}

#[tokio::test(start_paused = true)]
async fn no_more_than_16384_publications_wait_for_copies() {
    let Fleet { nodes: [a], log, .. } = &fleet();
    let mut subscriber = Subscriber::live(a, "orders/1").await;
    log.set_copies(None);
    let mut waiting = Vec::new();
    for _ in 0..=(16_384 / 64) {
        for _ in 0..64 {
            waiting.push(Box::pin(a.publish(channel("orders/1"), draft("")).await.finish()));
        }
        subscriber.hear(64).await;
    }

    let beyond = timeout(Duration::from_secs(1), join_all(waiting.split_off(16_384))).await;
    let earlier = timeout(Duration::from_secs(1), join_all(waiting.iter_mut())).await;
    log.set_copies(Some(COPIED));

    for answer in beyond.expect("answered at once") {
        assert_eq!(answer.expect_err("too many wait").code, ErrorCode::Timeout);
    }
    assert!(earlier.is_err());
    for answer in join_all(waiting).await {
        answer.expect("copied");
    }
}

/// Nodes to which `orders/*` is durable.
fn fleet<const N: usize>() -> Fleet<N> {
    let filter = Filter::parse("orders/*").expect("filter");
    let rule = ChannelRule { class: DeliveryClass::Durable, ..ChannelRule::new(filter) };
    Fleet::with_rules(&[rule])
}
