//! Frames that are frames, and make no sense.

use futures_util::future::join_all;

use crate::raw::{Raw, TEXT, frame};
use crate::victim::Victim;

#[tokio::test]
async fn json_that_is_deep_wide_or_odd_is_refused_and_the_connection_goes_on() {
    let victim = Victim::start().await;
    let publish = |data: &str| format!(r#"{{"id":7,"publish":{{"channel":"a","data":{data}}}}}"#);
    let members = (0..5_000).map(|n| format!("\"{n}\":1")).collect::<Vec<_>>().join(",");
    let odd = [
        publish(&"[".repeat(33)),
        publish(&format!("{}{}", "[".repeat(33), "]".repeat(33))),
        publish(&format!("{}1{}", "{\"a\":".repeat(33), "}".repeat(33))),
        publish("1e"),
        publish("nul"),
        r#"{"id":7,"publish":{"channel":"a#","data":1}}"#.to_owned(),
        format!(r#"{{"id":7,"publish":{{"channel":"{}","data":1}}}}"#, "a".repeat(256)),
        r#"{"id":7,"subscribe":{"channel":"a","last":-1}}"#.to_owned(),
        format!(r#"{{"id":7,"nonsense":{{{members}}}}}"#),
    ];

    victim
        .withstands(2 << 20, async {
            for text in &odd {
                try_and_go_on(&victim, text).await;
            }
        })
        .await;
}

/// Expects a refusal, and an answer to what follows it.
async fn try_and_go_on(victim: &Victim, text: &str) {
    let shown: String = text.chars().take(80).collect();
    let mut raw = Raw::connected(victim, "odd").await;
    raw.say(text).await;
    let refusal = raw.frame().await.expect("an answer").text();
    assert!(refusal.contains("\"error\""), "{shown}: {refusal}");
    raw.say(r#"{"id":8,"ping":{}}"#).await;
    let next = raw.frame().await.expect("an answer").text();
    if next.contains("\"closing\"") {
        let code = raw.close_code().await;
        assert_eq!(code, Some(4400), "what is no JSON ends the connection: {shown}");
    } else {
        assert!(next.contains("\"pong\""), "{shown}: {next}");
    }
}

#[tokio::test]
async fn a_hundred_thousand_brackets_are_no_reason_to_fail() {
    let victim = Victim::start().await;
    let deep = "[".repeat(100_000);

    let codes = victim.withstands(2 << 20, async {
        let mut codes = Vec::new();
        for text in [deep.clone(), format!(r#"{{"id":1,"connect":{deep}"#)] {
            let mut raw = Raw::upgraded(&victim).await;
            raw.say(&text).await;
            codes.push(raw.close_code().await);
        }
        codes
    });

    assert_eq!(codes.await, [Some(4400); 2]);
}

#[tokio::test]
async fn numbers_and_texts_that_few_can_read_are_passed_on_as_they_are() {
    let victim = Victim::start().await;

    for data in ["1e99999", "-0.0", r#""\ud800""#, r#"{"a":1,"a":2}"#] {
        let heard = victim.withstands(0, publish_and_hear(&victim, data)).await;
        let is_passed_on = heard.contains(&format!("\"data\":{data}"));
        assert!(is_passed_on || heard.contains("\"bad_payload\""), "{data}: {heard}");
    }
}

/// What a client hears of what it publishes: its publication, or why there is none.
async fn publish_and_hear(victim: &Victim, data: &str) -> String {
    let mut raw = Raw::connected(victim, "odd").await;
    raw.say(r#"{"id":2,"subscribe":{"channel":"odd"}}"#).await;
    assert!(raw.frame().await.expect("an answer").text().contains("subscribed"));
    raw.say(&format!(r#"{{"id":3,"publish":{{"channel":"odd","data":{data}}}}}"#)).await;
    let mut heard = String::new();
    while !heard.contains("\"error\"") && !heard.contains("\"publications\"") {
        heard.push_str(&raw.frame().await.expect("it goes on").text());
    }
    heard
}

#[tokio::test]
async fn whoever_earns_errors_and_does_not_read_them_costs_no_more_than_its_bound() {
    const MOST_UNSENT: u64 = 1 << 20;
    const MORE_THAN_KERNELS_HOLD: usize = 100_000;
    let victim = Victim::with("write_timeout = \"1s\"\n").await;
    let bad = format!("[{}]", vec!["{\"x\":1}"; 64].join(","));
    let bad = frame(TEXT, bad.as_bytes());

    victim
        .withstands(20 * MOST_UNSENT, async {
            let mut greedy = Vec::new();
            for _ in 0..20 {
                greedy.push(Raw::connected(&victim, "greedy").await);
            }
            join_all(greedy.iter_mut().map(|raw| raw.send_often(&bad, MORE_THAN_KERNELS_HOLD)))
                .await;
            // All but the bystander. What they go on to send is not looked at.
            victim.until("tidewire_connections{", |connections| connections <= 1.0).await;
        })
        .await;
}
