//! Tokens that are none.

use futures_util::future::join_all;

use crate::raw::Raw;
use crate::victim::Victim;

#[tokio::test]
async fn tokens_that_are_none_are_refused_alike() {
    let victim = Victim::start().await;
    let good = victim.token("ada");
    let (head, signature) = good.rsplit_once('.').expect("three parts");
    let (_, claims) = head.split_once('.').expect("three parts");
    // {"alg":"none"} and {"typ":"JWT","alg":"none"}
    let none = ["eyJhbGciOiJub25lIn0", "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0"];
    let mut bad: Vec<String> = none.iter().map(|head| format!("{head}.{claims}.")).collect();
    bad.extend(none.iter().map(|head| format!("{head}.{claims}.{signature}")));
    bad.push(format!("{head}."));
    bad.push(format!("{head}.{}", "A".repeat(43)));
    bad.push("a".repeat((8 << 10) + 1));
    bad.push(format!("{}.{}.{}", "a".repeat(20_000), "b".repeat(20_000), "c".repeat(20_000)));
    bad.push("..".into());
    bad.push("\\u0000".into());

    let told = victim.withstands(1 << 20, async {
        let mut told = Vec::new();
        for token in &bad {
            let mut raw = Raw::upgraded(&victim).await;
            raw.say(&format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#)).await;
            let error = raw.frame().await.expect("an answer").text();
            told.push((error, raw.close_code().await));
        }
        told
    });

    let told = told.await;
    assert!(told.iter().all(|(_, code)| *code == Some(4401)), "{told:?}");
    assert!(told.iter().all(|(error, _)| *error == told[0].0), "{told:?}");
    for token in bad.iter().filter(|token| token.len() > 20) {
        assert!(!victim.log().contains(&token[..token.len().min(200)]), "a token is in the log");
    }
    assert!(!victim.log().contains(signature));
}

#[tokio::test]
async fn two_thousand_wrong_tokens_keep_nobody_waiting() {
    let victim = Victim::start().await;
    let mut wrong = victim.token("ada");
    wrong.truncate(wrong.len() - 4);
    let connect = format!(r#"{{"id":1,"connect":{{"token":"{wrong}AAAA"}}}}"#);

    let count = victim.withstands(8 << 20, async {
        let mut count = 0;
        for _ in 0..40 {
            let codes = join_all((0..50).map(|_| refused(&victim, &connect))).await;
            count += codes.iter().filter(|code| **code == Some(4401)).count();
        }
        count
    });

    assert_eq!(count.await, 2_000);
}

/// How a first frame ends the connection.
async fn refused(victim: &Victim, first_frame: &str) -> Option<u16> {
    let mut raw = Raw::upgraded(victim).await;
    raw.say(first_frame).await;
    raw.close_code().await
}

#[tokio::test]
async fn resume_tokens_of_any_size_open_nothing() {
    let victim = Victim::start().await;

    for token in ["", "A", &"A".repeat(100_000), "AQx2", "\\ud83d\\ude00"] {
        let resume = format!(
            r#"{{"id":1,"connect":{{"resume":{{"token":"{token}","nonce":"{}"}}}}}}"#,
            "0".repeat(32)
        );
        let code = victim.withstands(1 << 20, refused(&victim, &resume)).await;
        assert!(matches!(code, Some(4400 | 4401 | 4411)), "{code:?} for one of {}", token.len());
    }
}
