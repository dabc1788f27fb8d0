//! A node whose log leads to a primary that another has replaced, and hears of that.

use std::time::Duration;

use tidewire_broker::{MemoryLog, Partition, Retention, Sources};
use tidewire_model::{GapReason, Recovery, Since};
use tokio::time::{Instant, timeout};

use crate::fleet::{Fleet, Subscriber, channel, draft, publish};

#[tokio::test(start_paused = true)]
async fn who_comes_back_from_a_newer_life_of_the_log_is_not_told_reset() {
    let Fleet { nodes: [a, b], log, .. } = &Fleet::start();
    let position = publish(a, "news", draft("one")).await;
    publish(a, "news", draft("two")).await;

    log.depose(older(), true);
    let (_, joined) = Subscriber::join(b, "news", Since::Position(position)).await;

    let joined = joined.expect("joined");
    assert_eq!((joined.recovery, joined.missed.len()), (Recovery::Recovered, 1));
}

#[tokio::test(start_paused = true)]
async fn who_has_made_up_a_newer_life_is_told_reset_within_a_second() {
    let Fleet { nodes: [a, b], log, .. } = &Fleet::start();
    let position = publish(a, "news", draft("one")).await;

    // Until that has been announced.
    tokio::time::sleep(Duration::from_secs(1)).await;
    log.depose(older(), false);
    let began = Instant::now();
    let (_, joined) = Subscriber::join(b, "news", Since::Position(position)).await;

    assert_eq!(joined.expect("joined").recovery, Recovery::Failed(GapReason::Reset));
    assert!(began.elapsed() < Duration::from_secs(1), "after {:?}", began.elapsed());
    assert_eq!(log.hints(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_publication_from_a_newer_life_of_the_log_has_a_node_move_there() {
    let Fleet { nodes: [a, b], log, .. } = &Fleet::start();
    log.depose(older(), true);
    let mut subscriber = Subscriber::live(b, "news").await;
    assert_eq!(log.hints(), 0);

    publish(a, "news", draft("one")).await;
    timeout(Duration::from_secs(1), subscriber.hear(1))
        .await
        .expect("it is told of the other life");
    publish(a, "news", draft("two")).await;
    timeout(Duration::from_secs(1), subscriber.hear(1)).await.expect("it follows that");

    assert_eq!(subscriber.payloads(), ["two"]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_long_subscribed_to_is_read_once_for_a_further_channel() {
    let Fleet { nodes: [a], log, .. } = &Fleet::start();
    let partition = Partition::of(&channel("0"));
    let mut others = (1..).map(|number| number.to_string());
    let mut other = || others.find(|name| Partition::of(&channel(name)) == partition);
    let (second, third) = (other().expect("one"), other().expect("another"));
    let reads = async |name: &str| {
        let before = log.reads();
        let _subscriber = Subscriber::live(a, name).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        log.reads() - before
    };

    let _first = Subscriber::live(a, "0").await;

    assert_eq!(reads(&second).await, 1 + 2 + 2, "the network may not have heard of both yet");
    assert_eq!(reads(&third).await, 1);
}

/// An empty log in a life from before any other.
fn older() -> MemoryLog {
    let sources = Sources { unix_ms: Box::new(|| 1), ..Sources::default() };
    MemoryLog::with_sources(Retention::default(), sources)
}
