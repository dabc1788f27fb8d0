//! What is no proper WebSocket, or too much of one (RFC 6455 sections 5 and 7.4.1).

use std::io::Write as _;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::raw::{Raw, TEXT, frame, header};
use crate::victim::Victim;

const CONTINUED: u8 = 0x01;
const CONTINUATION: u8 = 0x00;
const COMPRESSED: u8 = 0xc1;
const LIMIT: u64 = 128 << 10;
/// How much of a message is sent that is not finished.
const SENT: usize = 100 << 10;

#[tokio::test]
async fn a_message_that_is_announced_too_large_is_refused_and_nothing_is_reserved_for_it() {
    let victim = Victim::start().await;

    let codes = victim.withstands(1 << 20, async {
        let mut codes = Vec::new();
        for size in [LIMIT + 1, 1 << 30, (1 << 63) - 1] {
            for _ in 0..50 {
                let mut raw = Raw::upgraded(&victim).await;
                raw.send(&header(TEXT, size)).await.expect("it reads");
                codes.push(raw.close_code().await);
            }
        }
        codes
    });

    assert_eq!(codes.await, [Some(1009); 150]);
}

#[tokio::test]
async fn what_is_against_the_protocol_ends_the_connection() {
    let victim = Victim::start().await;
    let unmasked = vec![TEXT, 2, b'{', b'}'];
    let wrong = [
        ("unmasked", unmasked, 1002),
        ("a reserved bit", frame(TEXT | 0x20, b"{}"), 1002),
        ("a reserved opcode", frame(0x83, b"{}"), 1002),
        ("a fragmented ping", frame(0x09, b""), 1002),
        ("a ping of 126 bytes", frame(0x89, &[0; 126]), 1002),
        ("a continuation of nothing", frame(CONTINUATION | 0x80, b""), 1002),
        (
            "a length of 2^63",
            [&[TEXT, 0xff][..], &[0x80, 0, 0, 0, 0, 0, 0, 0], &[0; 4]].concat(),
            1002,
        ),
        ("a close of one byte", frame(0x88, &[3]), 1002),
        ("text that is no UTF-8", frame(TEXT, b"\xff\xff"), 1007),
    ];

    let told = victim.withstands(0, async {
        let mut told = Vec::new();
        for (what, bytes, _) in &wrong {
            let mut raw = Raw::upgraded(&victim).await;
            raw.send(bytes).await.expect("it reads");
            told.push((*what, raw.close_code().await));
        }
        told
    });

    let expected: Vec<_> = wrong.iter().map(|(what, _, code)| (*what, Some(*code))).collect();
    assert_eq!(told.await, expected);
}

#[tokio::test]
async fn a_message_in_too_many_pieces_is_refused() {
    let victim = Victim::start().await;

    let code = victim.withstands(1 << 20, async {
        let mut raw = Raw::upgraded(&victim).await;
        let mut pieces = frame(CONTINUED, b"");
        for _ in 0..1_000 {
            pieces.extend(frame(CONTINUATION, b""));
        }
        // It hangs up in the middle.
        drop(raw.send(&pieces).await);
        raw.close_code().await
    });

    assert!(matches!(code.await, Some(1008 | 1009) | None));
}

#[tokio::test]
async fn a_bomb_is_refused_before_it_is_inflated() {
    let victim = Victim::start().await;
    let bomb = deflated(&vec![b' '; 100 << 20]);
    assert!(bomb.len() < 120 << 10, "it fits a message: {}", bomb.len());

    let codes = victim.withstands(4 << 20, async {
        let mut codes = Vec::new();
        for _ in 0..50 {
            let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
            let mut raw = Raw::upgraded_with(&victim, offer).await;
            raw.send(&frame(COMPRESSED, &bomb)).await.expect("it reads");
            codes.push(raw.close_code().await);
        }
        codes
    });

    assert_eq!(codes.await, [Some(1009); 50]);
}

/// As RFC 7692 section 7.2.1 wants it.
fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("to memory");
    encoder.flush().expect("to memory");
    let mut deflated = encoder.get_ref().clone();
    deflated.truncate(deflated.len() - 4);
    deflated
}

#[tokio::test]
async fn messages_that_are_never_finished_take_what_was_sent_of_them_and_no_more() {
    let victim = Victim::start().await;

    victim
        .withstands(200 * LIMIT, async {
            let mut unfinished = Vec::new();
            for _ in 0..200 {
                let mut raw = Raw::upgraded(&victim).await;
                raw.send(&header(TEXT, LIMIT)).await.expect("it reads");
                raw.send(&vec![b' '; SENT]).await.expect("it reads");
                unfinished.push(raw);
            }
            for raw in &mut unfinished {
                // Its time is over, or there was no room for more of it.
                assert!(matches!(raw.close_code().await, Some(4410 | 1013)));
            }
        })
        .await;
}

#[tokio::test]
async fn first_frames_of_two_thousand_clients_take_no_more_than_there_is_for_them() {
    const CLIENTS: u64 = 2_000;
    // What its worker has for those that are large, what everybody has, and a connection by itself.
    let growth = (16 << 20) + CLIENTS * ((8 << 10) + (8 << 10));
    let victim = Victim::with("connect_timeout = \"1m\"\n").await;

    victim
        .withstands(growth, async {
            let mut unfinished = Vec::new();
            for _ in 0..CLIENTS {
                let mut raw = Raw::upgraded(&victim).await;
                raw.send(&header(TEXT, LIMIT)).await.expect("it reads");
                raw.send(&vec![b' '; SENT]).await.expect("it reads");
                unfinished.push(raw);
            }
            Raw::connected(&victim, "late").await;
        })
        .await;
}

/// What an unfinished message is taken to be in memory: buffers double.
const HELD: u64 = LIMIT;

/// The beginning of a message.
async fn begin(raw: &mut Raw) {
    // It may be let go in the middle.
    drop(raw.send(&header(TEXT, LIMIT)).await);
    drop(raw.send(&vec![b' '; SENT]).await);
}

#[tokio::test]
async fn messages_of_clients_that_are_never_finished_take_their_bound_and_no_more() {
    const MANY: u64 = 800;
    const BOUND: u64 = 64 << 20;
    const REFUSED: &str =
        "tidewire_connections_closed_total{transport=\"ws\",initiator=\"server\",code=\"1013\"";
    let victim = Victim::start().await;
    let token = victim.token("slow");

    victim
        .withstands(BOUND + HELD, async {
            let mut unfinished = Vec::new();
            for _ in 0..MANY {
                let mut raw = Raw::connected_with(&victim, &token).await;
                begin(&mut raw).await;
                unfinished.push(raw);
            }
            let least = MANY - BOUND / (SENT as u64) - 1;
            #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
            victim.until(REFUSED, |refused| refused >= least as f64).await;
        })
        .await;
}

#[tokio::test]
async fn a_message_that_is_not_finished_in_time_ends_its_connection_and_a_slow_one_does_not() {
    const PIECES: usize = 4;
    let victim = Victim::with("message_timeout = \"2s\"\n").await;
    let slow = format!(r#"{}{{"id":2,"ping":{{}}}}"#, " ".repeat(PIECES << 10));
    let slow = frame(TEXT, slow.as_bytes());

    let (code, answer) = victim
        .withstands(4 << 20, async {
            let mut never = Raw::connected(&victim, "never").await;
            let mut slowly = Raw::connected(&victim, "slowly").await;
            let in_time = async {
                for piece in slow.chunks(slow.len().div_ceil(PIECES)) {
                    slowly.send(piece).await.expect("it reads");
                    sleep(Duration::from_millis(250)).await;
                }
                slowly.frame().await.expect("an answer").text()
            };
            tokio::join!(dribble(&mut never), in_time)
        })
        .await;

    assert_eq!(code, Some(4412));
    assert!(answer.contains("\"id\":2"), "{answer}");
}

/// Sends a byte now and then of a message that is never finished, until it is told to go.
async fn dribble(raw: &mut Raw) -> Option<u16> {
    for byte in header(TEXT, LIMIT).into_iter().chain([b' '; 1_000]) {
        if raw.send(&[byte]).await.is_err() {
            return None;
        }
        sleep(Duration::from_millis(100)).await;
        if let Ok(code) = timeout(Duration::ZERO, raw.close_code()).await {
            return code;
        }
    }
    None
}
