//! Clients that do not read what is sent to them.

use std::time::Duration;

use tidewire_edge::EdgeConfig;
use tidewire_model::{Payload, TenantLimits};

use crate::fleet::Fleet;
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
