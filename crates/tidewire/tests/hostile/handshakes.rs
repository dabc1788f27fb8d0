//! Before there is a WebSocket.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::raw::Raw;
use crate::victim::{PATIENCE, Victim};

/// As in `server.connect_timeout` below.
const FIRST_FRAME: &str = "connect_timeout = \"5s\"\n";
const DRIP: Duration = Duration::from_millis(200);

#[tokio::test]
async fn whoever_dribbles_is_let_go() {
    let victim = Victim::with(FIRST_FRAME).await;
    let attack = async {
        let dribbling = (0..100).map(|_| dribble(&victim, b"GET /v1/acme/ws HTTP/1.1\r\nx: "));
        let silent = (0..300).map(|_| say_nothing(&victim));
        tokio::join!(all(dribbling), all(silent))
    };

    let (dribbled, silent) = victim.withstands(400 * (16 << 10), attack).await;

    assert!(dribbled.iter().all(|took| *took < PATIENCE), "{dribbled:?}");
    assert_eq!(silent, [Some(4410); 300]);
}

/// A byte at a time until the node hangs up. Returns how long that took.
async fn dribble(victim: &Victim, head: &[u8]) -> Duration {
    let mut raw = Raw::open(victim).await;
    let began = Instant::now();
    raw.send(head).await.expect("it reads");
    while began.elapsed() < PATIENCE && raw.send(b"a").await.is_ok() {
        sleep(DRIP).await;
    }
    began.elapsed()
}

/// A WebSocket without a first frame. Returns how it was closed.
async fn say_nothing(victim: &Victim) -> Option<u16> {
    Raw::upgraded(victim).await.close_code().await
}

async fn all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    futures_util::future::join_all(futures).await
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused() {
    let victim = Victim::start().await;
    let long = |bytes: usize| "a".repeat(bytes);
    let many = |count: usize| "x: 1\r\n".repeat(count);
    let requests = [
        (format!("GET /v1/acme/ws HTTP/1.1\r\nHost: node\r\nx: {}\r\n\r\n", long(17 << 10)), 431),
        (format!("GET /v1/acme/ws HTTP/1.1\r\nHost: node\r\n{}\r\n", many(65)), 431),
        (format!("GET /{} HTTP/1.1\r\nHost: node\r\n\r\n", long(1 << 20)), 414),
    ];

    for (request, status) in requests {
        let attack = async {
            let mut raw = Raw::open(&victim).await;
            // It may hang up in the middle.
            drop(raw.send(request.as_bytes()).await);
            raw.status().await
        };
        let answered = victim.withstands(1 << 20, attack).await;
        let head: String = request.chars().take(40).collect();
        // A reset may come before the answer was read: nobody reads what follows a refusal.
        assert!(
            answered.is_none_or(|answered| answered == status || answered == 431),
            "{head}: {answered:?}"
        );
        assert_ne!(answered, Some(101));
    }
}

#[tokio::test]
async fn a_request_that_can_be_read_in_two_ways_is_refused() {
    let victim = Victim::start().await;
    let both = "POST /v1/acme/publish HTTP/1.1\r\nHost: node\r\nContent-Length: 4\r\n\
                Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: node\r\n\r\n";
    let lengths = "POST /v1/acme/publish HTTP/1.1\r\nHost: node\r\nContent-Length: 4\r\n\
                   Content-Length: 5\r\n\r\nabcd";
    let keys = "GET /v1/acme/ws HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
                Sec-WebSocket-Key: BBBBBBBBBBBBBBBBBBBBBA==\r\n\r\n";

    for request in [both, lengths, keys] {
        let status = async {
            let mut raw = Raw::open(&victim).await;
            raw.send(request.as_bytes()).await.expect("it reads");
            raw.status().await
        };
        let status = victim.withstands(0, status).await;
        assert!(matches!(status, Some(400..500)), "{status:?} for {request}");
    }
}

#[tokio::test]
async fn ten_thousand_requests_in_one_go_are_answered_one_by_one() {
    let victim = Victim::start().await;
    let requests = "GET /nothing HTTP/1.1\r\nHost: node\r\n\r\n".repeat(10_000);

    let answered = victim.withstands(1 << 20, async {
        let mut raw = Raw::open(&victim).await;
        // Nothing is read meanwhile: what it answers must not gather in the node.
        let sent = raw.send(requests.as_bytes());
        drop(tokio::time::timeout(Duration::from_secs(2), sent).await);
        raw.status().await
    });

    assert_eq!(answered.await, Some(404));
}

#[tokio::test]
async fn two_thousand_sockets_that_never_speak_take_a_bounded_number_of_descriptors() {
    // A tenth of it may be without a WebSocket.
    let victim = Victim::with("max_connections = 1000\n").await;
    let before = victim.descriptors();

    let most = victim.withstands(2_000 * (16 << 10), async {
        let mut sockets = Vec::new();
        for _ in 0..2_000 {
            sockets.push(Raw::open(&victim).await);
        }
        // Whoever speaks is heard all the same.
        Raw::connected(&victim, "ada").await;
        victim.descriptors()
    });

    let most = most.await;
    assert!(most < before + 300, "{most} descriptors, and {before} before");
    let began = Instant::now();
    while victim.descriptors() > before + 20 {
        assert!(
            began.elapsed() < PATIENCE,
            "{} descriptors, and {before} before",
            victim.descriptors()
        );
        sleep(DRIP).await;
    }
}
