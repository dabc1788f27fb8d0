//! A process that has used what memory there is for it.

use crate::raw::Raw;
use crate::victim::Victim;

const UPGRADE: &str = "GET /v1/acme/ws HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";

async fn status(victim: &Victim) -> Option<u16> {
    let mut raw = Raw::open(victim).await;
    raw.send(UPGRADE.as_bytes()).await.expect("it reads");
    raw.status().await
}

#[tokio::test]
async fn a_process_that_has_used_its_memory_lets_nobody_in_and_lives() {
    // The program alone takes more.
    let victim = Victim::with("memory_limit = 16777216\n").await;

    victim.until("tidewire_memory_pressure", |level| level >= 3.0).await;

    assert_eq!(status(&victim).await, Some(503));
    assert!(victim.metric("tidewire_memory_bytes{kind=\"used\"}").await > 16e6);
    assert!(victim.metric("tidewire_limited_total{limit=\"node_memory\"}").await >= 1.0);
}

#[tokio::test]
async fn a_process_that_has_not_lets_everybody_in() {
    let victim = Victim::with("memory_limit = 4294967296\n").await;

    victim.until("tidewire_memory_bytes{kind=\"used\"}", |used| used > 1e6).await;

    assert_eq!(status(&victim).await, Some(101));
    assert!(victim.metric("tidewire_memory_pressure").await < 1.0);
}
