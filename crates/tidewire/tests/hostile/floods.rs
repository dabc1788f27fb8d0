//! Too much of what is allowed.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use crate::raw::{PING, PONG, Raw, TEXT, frame};
use crate::victim::Victim;

/// Long enough to be refused and not read for some seconds.
const A_WHILE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn whoever_publishes_without_end_is_refused_and_disturbs_nobody() {
    let victim = Victim::start().await;
    let publish = frame(TEXT, br#"{"publish":{"channel":"flood","data":1}}"#).repeat(500);

    victim
        .withstands(4 << 20, async {
            Raw::connected(&victim, "flooding").await.flood(&publish, A_WHILE).await;
        })
        .await;

    assert!(victim.metric("tidewire_limited_total{limit=\"connection_publish_rate\"}").await > 0.0);
}

#[tokio::test]
async fn pings_without_end_from_somebody_who_does_not_read_take_no_memory() {
    let victim = Victim::start().await;
    let pings = frame(PING, &[b'p'; 125]).repeat(1_000);

    victim
        .withstands(4 << 20, async {
            let mut pinging = Vec::new();
            for _ in 0..10 {
                pinging.push(Raw::upgraded(&victim).await);
            }
            join_all(pinging.iter_mut().map(|raw| raw.send_often(&pings, 50))).await;
        })
        .await;
}

#[tokio::test]
async fn whoever_pings_without_end_is_read_slowly_and_then_let_go() {
    let victim = Victim::start().await;

    for first in [PING, PONG] {
        let many = frame(first, b"p").repeat(1_000);
        let (code, pongs) = victim
            .withstands(4 << 20, async {
                Raw::connected(&victim, "pinging").await.flood_to_the_end(&many).await
            })
            .await;

        assert_eq!(code, Some(4429));
        // A burst of 64, and what is read in each of ten seconds until that is too much.
        assert!(pongs < 1_000, "{pongs} of them were answered");
    }

    assert!(victim.metric("tidewire_excess_controls_total").await > 0.0);
}

#[tokio::test]
async fn readers_that_never_read_cost_their_bound_and_are_let_go() {
    const READERS: u32 = 50;
    const LET_GO: &str = "tidewire_slow_consumers_total{action=\"disconnect\"";
    const BELOW_THE_RATE: Duration = Duration::from_millis(250);
    // What is unsent, a run of publications that found room, and what waits in the kernel is its own.
    const MOST_UNSENT: u64 = (256 + 128) << 10;
    let victim = Victim::with("write_timeout = \"1s\"\n").await;
    let publish = format!(r#"{{"publish":{{"channel":"hot","data":"{}"}}}}"#, "x".repeat(60 << 10));

    victim
        .withstands(u64::from(READERS) * MOST_UNSENT, async {
            let mut readers = Vec::new();
            for _ in 0..READERS {
                let mut raw = Raw::connected(&victim, "reader").await;
                raw.say(r#"{"id":2,"subscribe":{"channel":"hot"}}"#).await;
                assert!(raw.frame().await.expect("an answer").text().contains("subscribed"));
                readers.push(raw);
            }
            let mut publishers = Vec::new();
            for _ in 0..4 {
                publishers.push(Raw::connected(&victim, "publisher").await);
            }
            while victim.metric(LET_GO).await < f64::from(READERS) {
                for publisher in &mut publishers {
                    publisher.say(&publish).await;
                }
                sleep(BELOW_THE_RATE).await;
            }
        })
        .await;
}

#[tokio::test]
async fn subscribing_and_leaving_without_end_is_refused_and_disturbs_nobody() {
    let victim = Victim::start().await;
    let churn: Vec<u8> = (0..200)
        .flat_map(|_| {
            let mut pair = frame(TEXT, br#"{"id":5,"subscribe":{"channel":"churn"}}"#);
            pair.extend(frame(TEXT, br#"{"id":6,"unsubscribe":{"channel":"churn"}}"#));
            pair
        })
        .collect();

    victim
        .withstands(4 << 20, async {
            Raw::connected(&victim, "churning").await.flood(&churn, A_WHILE).await;
        })
        .await;

    assert!(victim.metric("tidewire_limited_total{limit=\"connection_command_rate\"}").await > 0.0);
}
