//! Clients that do not read what is sent to them.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tidewire_edge::EdgeConfig;
use tidewire_model::{Payload, TenantLimits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::Instant;

use crate::fleet::{Fleet, TENANT, listen};
use crate::peer::{Bystander, Peer};

/// More of these than there is room for in the kernel's buffers are sent.
fn large() -> Payload {
    Payload::binary(vec![7; 32 * 1_024].into())
}

const MANY: u64 = 600;

#[tokio::test]
async fn a_slow_reader_falls_behind_and_catches_up_without_loss() {
    let limits = TenantLimits { unsent_bytes: 160 * 1_024, ..TenantLimits::GENEROUS };
    let fleet = Fleet::start(1, EdgeConfig { limits, ..EdgeConfig::default() }).await;
    let mut bystander = Bystander::watch(&fleet).await;
    let mut reader = Peer::connect(&fleet.nodes[0], "ada").await;
    reader.subscribe("room/1").await;
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    for _ in 0..MANY {
        publisher.published("room/1", large()).await;
    }
    bystander.is_undisturbed().await;

    let mut offsets = Vec::new();
    while offsets.last() != Some(&MANY) {
        offsets.extend(reader.publications().await.iter().map(|one| one.position.offset));
    }

    assert!(offsets.into_iter().eq(1..=MANY));
    let metrics = fleet.nodes[0].get("/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(metrics.contains(r#"tidewire_slow_consumers_total{action="lag"}"#), "{metrics}");
}

#[tokio::test]
async fn operators_see_who_is_behind_and_neither_users_nor_channels() {
    let fleet = Fleet::one().await;
    let mut reader = Peer::connect(&fleet.nodes[0], "ada").await;
    reader.subscribe("room/secret").await;
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    assert_eq!(slow(&fleet).await, json!({ "behind": 0, "clients": [] }));
    for _ in 0..MANY {
        publisher.published("room/secret", large()).await;
    }

    let seen = slow(&fleet).await;

    assert_eq!(seen["behind"], 1, "{seen}");
    let client = &seen["clients"][0];
    assert_eq!((&client["tenant"], &client["is_slow"]), (&json!(TENANT), &json!(false)));
    assert!(client["unsent_bytes"].as_u64() > Some(128 * 1_024), "{client}");
    assert_eq!(client["rules"], json!([null]), "of no rule");
    let told = seen.to_string();
    assert!(!told.contains("ada") && !told.contains("secret"), "{told}");
    let mut offset = 0;
    while offset < MANY {
        offset = reader.publications().await.last().map_or(offset, |last| last.position.offset);
    }
    while slow(&fleet).await["behind"] != 0 {}
}

async fn slow(fleet: &Fleet) -> Value {
    let answer = fleet.nodes[0].get("/slow").await;
    serde_json::from_slice(&answer.body).expect("json")
}

#[tokio::test]
async fn a_client_that_does_not_read_at_all_is_disconnected() {
    let write_timeout = Duration::from_millis(300);
    let fleet = Fleet::start(1, EdgeConfig { write_timeout, ..EdgeConfig::default() }).await;
    let mut bystander = Bystander::watch(&fleet).await;
    let mut reader = Peer::connect(&fleet.nodes[0], "ada").await;
    reader.subscribe("room/1").await;
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    let everybody = fleet.nodes[0].edge.connections();

    while fleet.nodes[0].edge.connections() == everybody {
        publisher.published("room/1", large()).await;
    }

    reader.closes_with(4508).await;
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn a_client_is_slow_for_a_while_before_it_is_too_slow() {
    let config = EdgeConfig {
        slow_after: Duration::from_millis(100),
        write_timeout: Duration::from_secs(2),
        ..EdgeConfig::default()
    };
    let fleet = Fleet::start(1, config).await;
    let mut reader = Peer::connect(&fleet.nodes[0], "ada").await;
    reader.subscribe("room/1").await;
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;

    let everybody = fleet.nodes[0].edge.connections();
    while metric(&fleet, "tidewire_slow_consumers ").await == 0.0 {
        publisher.published("room/1", large()).await;
    }

    assert!(metric(&fleet, "tidewire_unsent_bytes ").await > 0.0);
    while fleet.nodes[0].edge.connections() == everybody {
        publisher.published("room/2", large()).await;
    }
    reader.closes_with(4508).await;
    while metric(&fleet, "tidewire_slow_consumers ").await > 0.0 {
        publisher.published("room/2", large()).await;
    }
}

#[tokio::test]
async fn a_client_that_reads_very_slowly_is_kept_and_loses_nothing() {
    let ping_interval = Duration::from_secs(1);
    let fleet = Fleet::start(1, EdgeConfig { ping_interval, ..EdgeConfig::default() }).await;
    let is_slow = Arc::new(AtomicBool::new(true));
    let address = trickle(&fleet, Arc::clone(&is_slow)).await;
    let mut reader = Peer::connect_by(address, "ada").await;
    reader.subscribe("room/1").await;
    let mut bystander = Bystander::watch(&fleet).await;
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    let last = Cell::new(None);

    let flooding = async {
        let until = Instant::now() + 6 * ping_interval;
        let mut newest = 0;
        while Instant::now() < until {
            newest = publisher.published("room/1", large()).await.offset;
            bystander.is_undisturbed().await;
        }
        is_slow.store(false, Ordering::Relaxed);
        last.set(Some(newest));
    };
    let reading = async {
        let mut offsets = Vec::new();
        while last.get().is_none() || offsets.last() != last.get().as_ref() {
            offsets.extend(reader.publications().await.iter().map(|one| one.position.offset));
            if offsets.last() == last.get().as_ref() {
                break;
            }
        }
        offsets
    };
    let ((), offsets) = tokio::join!(flooding, reading);

    let newest = last.get().expect("it has published");
    assert!(offsets.into_iter().eq(1..=newest), "all {newest} of them, in order");
}

/// A way to the first node on which what the client is sent comes two kilobytes at a time while `is_slow`.
async fn trickle(fleet: &Fleet, is_slow: Arc<AtomicBool>) -> SocketAddr {
    let (listener, address) = listen().await;
    let node = fleet.nodes[0].address;
    fleet.spawn(async move {
        let (client, _) = listener.accept().await.expect("a client");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(8 * 1_024).expect("an option of sockets");
        let (mut from_node, mut to_node) =
            socket.connect(node).await.expect("the node").into_split();
        let (mut from_client, mut to_client) = client.into_split();
        let back = async move {
            let mut bytes = [0; 2 * 1_024];
            while let Ok(count @ 1..) = from_node.read(&mut bytes).await {
                if to_client.write_all(&bytes[..count]).await.is_err() {
                    return;
                }
                if is_slow.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        };
        tokio::join!(back, async {
            let _ = tokio::io::copy(&mut from_client, &mut to_node).await;
        });
    });
    address
}

/// What a metric without labels says.
async fn metric(fleet: &Fleet, name: &str) -> f64 {
    let metrics = fleet.nodes[0].get("/metrics").await;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or_default()
}
