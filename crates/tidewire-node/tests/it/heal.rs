//! What the log loses of what was acknowledged comes into it again.

use std::time::Duration;

use tidewire_broker::Log as _;
use tidewire_model::{ErrorCode, Position, Publication, Since};
use tidewire_node::Node;
use tidewire_testkit::SwitchedLog;

use crate::fleet::{Fleet, Subscriber, channel, draft, draft_with_id, publish};

#[tokio::test(start_paused = true)]
async fn what_was_lost_comes_back_within_two_seconds_though_nobody_publishes() {
    let Fleet { nodes: [a, b], log, .. } = &Fleet::start();
    let mut subscriber = Subscriber::live(b, "news").await;
    let positions = publish_all(a, &["one", "two", "three"]).await;
    subscriber.hear(3).await;

    log.inner().restart(2);
    let hearing = tokio::time::timeout(Duration::from_secs(2), subscriber.hear(3)).await;

    assert!(hearing.is_ok(), "heard {:?}", subscriber.payloads());
    assert_eq!(subscriber.payloads(), ["one", "two", "three", "two", "three"]);
    assert_eq!(kept(log).await, ["one", "two", "three"]);
    let ids: Vec<_> = history(log).await.into_iter().map(|one| one.id).collect();
    let id = |position: Position| Some(position.to_string());
    let ids: Vec<_> = ids.iter().map(|id| id.as_ref().map(|id| id.as_str().to_owned())).collect();
    assert_eq!(ids, [None, id(positions[1]), id(positions[2])], "named after where they were");
}

#[tokio::test(start_paused = true)]
async fn what_is_published_after_a_loss_comes_behind_what_was_lost() {
    let Fleet { nodes: [a], log, .. } = &Fleet::start();
    let texts: Vec<_> = (0..150).map(|number| number.to_string()).collect();
    publish_all(a, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;

    log.inner().restart(140);
    publish(a, "news", draft("new")).await;

    let expected: Vec<_> = texts.into_iter().chain(["new".to_owned()]).collect();
    assert_eq!(kept(log).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_second_loss_while_the_first_is_mended_changes_no_order() {
    let Fleet { nodes: [a], log, .. } = &Fleet::start();
    let texts: Vec<_> = (0..150).map(|number| number.to_string()).collect();
    publish_all(a, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;

    log.inner().restart(150);
    log.hold(true);
    let publishing = a.publish(channel("news"), draft("new")).await;
    for _ in 0..3 {
        until(|| log.waiting() == 1).await;
        log.inner().restart(40);
        log.let_one_go();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    until(|| log.waiting() == 1).await;
    log.hold(false);
    publishing.finish().await.expect("published");

    let expected: Vec<_> = texts.into_iter().chain(["new".to_owned()]).collect();
    assert_eq!(kept(log).await, expected);
}

#[tokio::test(start_paused = true)]
async fn what_several_acknowledged_is_stored_once() {
    let Fleet { nodes: [a, b], log, .. } = &Fleet::start();
    publish(a, "news", draft_with_id("one", "1")).await;
    publish(b, "news", draft_with_id("one", "1")).await;

    log.inner().restart(1);
    let again = publish(b, "news", draft_with_id("one", "1")).await;
    tokio::time::sleep(Duration::from_secs(3)).await;

    assert_eq!(again.offset, 1);
    assert_eq!(kept(log).await, ["one"]);
}

#[tokio::test(start_paused = true)]
async fn what_only_the_second_of_two_nodes_can_bring_back_comes_back() {
    let first = Fleet::<1>::start();
    let second = Fleet::<1>::start_on(first.log.clone());
    publish(&first.nodes[0], "news", draft_with_id("one", "1")).await;
    publish(&second.nodes[0], "news", draft_with_id("one", "1")).await;
    first.stop().await;

    second.log.inner().restart(1);
    tokio::time::sleep(Duration::from_secs(3)).await;

    assert_eq!(kept(&second.log).await, ["one"]);
}

#[tokio::test(start_paused = true)]
async fn without_its_log_nothing_goes_before_what_was_lost_and_it_comes_when_the_log_is_back() {
    let Fleet { nodes: [a], log, .. } = &Fleet::start();
    publish_all(a, &["one", "two"]).await;
    log.hold(true);
    let waiting = a.publish(channel("news"), draft("three")).await;
    until(|| log.waiting() == 1).await;

    log.inner().restart(1);
    log.hold(false);
    log.switch(false);
    let refused = waiting.finish().await.expect_err("refused");
    let refused_too = a.publish(channel("news"), draft("four")).await.finish().await;
    log.switch(true);
    tokio::time::sleep(Duration::from_secs(3)).await;
    publish(a, "news", draft("five")).await;

    assert!(refused.code.is_retryable());
    assert_eq!(refused_too.expect_err("refused").code, ErrorCode::Unavailable);
    assert_eq!(kept(log).await, ["one", "two", "five"]);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_stays_away_for_long_is_mended_when_it_is_back() {
    let Fleet { nodes: [a], log, .. } = &Fleet::start();
    publish_all(a, &["one", "two"]).await;
    log.hold(true);
    log.inner().restart(1);
    until(|| log.waiting() == 1).await;

    log.switch(false);
    log.hold(false);
    tokio::time::sleep(Duration::from_mins(3)).await;
    log.switch(true);
    tokio::time::sleep(Duration::from_secs(3)).await;

    assert_eq!(kept(log).await, ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_ends_though_it_cannot_bring_back_what_was_lost() {
    let fleet = Fleet::<1>::start();
    publish_all(&fleet.nodes[0], &["one"]).await;
    fleet.log.inner().restart(1);
    fleet.log.switch(false);
    tokio::time::sleep(Duration::from_secs(3)).await;

    let stopping = tokio::time::timeout(Duration::from_secs(10), fleet.stop()).await;

    assert!(stopping.is_ok(), "it waits for a log that is not there");
}

#[tokio::test(start_paused = true)]
async fn what_is_older_than_half_a_minute_is_not_brought_back() {
    let Fleet { nodes: [a], log, .. } = &Fleet::start();
    publish_all(a, &["old"]).await;
    tokio::time::sleep(Duration::from_secs(32)).await;
    publish_all(a, &["new"]).await;

    log.inner().restart(2);
    tokio::time::sleep(Duration::from_secs(3)).await;

    assert_eq!(kept(log).await, ["new"]);
}

/// Publishes to `news`, one after the other.
async fn publish_all(node: &Node, texts: &[&str]) -> Vec<Position> {
    let mut positions = Vec::new();
    for text in texts {
        positions.push(publish(node, "news", draft(text)).await);
    }
    positions
}

async fn history(log: &SwitchedLog) -> Vec<Publication> {
    let read = log.inner().read(&channel("news"), Since::Last(400), 400).await;
    read.expect("it is in memory").publications
}

async fn kept(log: &SwitchedLog) -> Vec<String> {
    let text = |one: Publication| String::from_utf8(one.payload.bytes().to_vec()).expect("text");
    history(log).await.into_iter().map(text).collect()
}

async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it is so in 20 s");
}
