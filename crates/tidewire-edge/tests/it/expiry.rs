//! Tokens that run out under live connections.

use std::time::Duration;

use tidewire_auth::Claims;
use tidewire_client::ServerEvent;
use tidewire_edge::EdgeConfig;
use tidewire_model::{Command, Since};

use crate::fleet::{Fleet, OTHER_TENANT, TENANT, claims, now, settle, sign, token};
use crate::peer::{Bystander, Peer, channel, text};

/// What a token is good for after its expiry.
const LEEWAY: u64 = 30;
/// Long enough to be told things in.
const GRACE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_token_that_runs_out_is_announced_and_ends_the_connection_when_the_grace_is_over() {
    let config = EdgeConfig { expiry_grace: GRACE, ..EdgeConfig::default() };
    let fleet = Fleet::start(1, config).await;
    let mut bystander = Bystander::watch(&fleet).await;
    let token = sign(TENANT, &good_for(4));
    let (mut peer, connected) = Peer::connect_with(&fleet.nodes[0], token).await;

    let expiring = peer.next().await;

    let at = connected.expires_at.expect("tokens expire");
    assert_eq!(expiring, ServerEvent::Expiring { at, closes_at: at + GRACE.as_secs() });
    peer.published("room/1", text("still good")).await;
    let (None, refusal) = peer.refused().await else { unreachable!("nothing was asked") };
    assert_eq!(refusal.code, 1102);
    // What is no better changes nothing.
    peer.send(Command::Refresh {
        token: sign(OTHER_TENANT, &claims(TENANT, "ada")).into(),
        channel: None,
    });
    assert_eq!(peer.refused().await.1.code, 1101);
    peer.closes_with(4402).await;
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn without_grace_a_token_that_has_run_out_ends_the_connection_at_once() {
    let config = EdgeConfig { expiry_grace: Duration::ZERO, ..EdgeConfig::default() };
    let fleet = Fleet::start(1, config).await;
    let token = sign(TENANT, &good_for(3));
    let (peer, _) = Peer::connect_with(&fleet.nodes[0], token).await;

    let heard = peer.closes_with(4402).await;

    assert!(matches!(heard[0], ServerEvent::Expiring { at, closes_at } if at == closes_at));
}

#[tokio::test]
async fn between_a_token_and_the_next_nothing_is_delivered_and_afterwards_nothing_is_missing() {
    const CHANNELS: usize = 100;
    let fleet = Fleet::one().await;
    let mut bystander = Bystander::watch(&fleet).await;
    let mut writer = Peer::connect(&fleet.nodes[0], "bob").await;
    let mut reader = Peer::connect(&fleet.nodes[0], "ada").await;
    let names: Vec<_> = (0..CHANNELS).map(|number| format!("room/{number:03}")).collect();
    for name in &names {
        reader.subscribe(name).await;
    }
    expire(&mut reader).await;

    for name in &names {
        writer.published(name, text("missed")).await;
    }
    settle().await;
    reader.publish("room/000", text("too late"));
    reader.send(Command::Subscribe {
        channel: channel("other"),
        since: Since::Now,
        delta: None,
        token: None,
    });
    for _ in 0..2 {
        assert_eq!(reader.refused().await.1.code, 1102);
    }
    reader.send(Command::Ping);
    let heard = reader.next().await;
    assert!(matches!(heard, ServerEvent::Pong { .. }), "{heard:?}");

    reader.send(Command::Refresh { token: token("ada").into(), channel: None });

    let heard = reader.next().await;
    assert!(matches!(heard, ServerEvent::Refreshed { .. }), "{heard:?}");
    let mut missed = Vec::new();
    while missed.len() < CHANNELS {
        let ServerEvent::Publications { channel, publications } = reader.next().await else {
            unreachable!("something else than publications")
        };
        assert_eq!(publications.len(), 1, "{channel}");
        missed.push(channel.to_string());
    }
    missed.sort();
    assert_eq!(missed, names);
    writer.published("room/042", text("live")).await;
    assert_eq!(reader.publications().await[0].payload, text("live"));
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn a_subscription_that_was_under_way_when_the_token_ran_out_is_refused() {
    let fleet = Fleet::one().await;
    let mut writer = Peer::connect(&fleet.nodes[0], "bob").await;
    writer.published("room/1", text("one")).await;
    let mut reader = Peer::connect(&fleet.nodes[0], "ada").await;
    fleet.log.hold_reads(true);
    reader.send(Command::Subscribe {
        channel: channel("room/1"),
        since: Since::Last(1),
        delta: None,
        token: None,
    });
    expire(&mut reader).await;

    fleet.log.hold_reads(false);

    assert_eq!(reader.refused().await.1.code, 1102);
    reader.send(Command::Refresh { token: token("ada").into(), channel: None });
    assert!(matches!(reader.next().await, ServerEvent::Refreshed { .. }));
    reader.subscribe("room/1").await;
}

/// Gives the peer a token that runs out, and waits until it has.
async fn expire(peer: &mut Peer) {
    peer.send(Command::Refresh { token: sign(TENANT, &good_for(3)).into(), channel: None });
    assert!(matches!(peer.next().await, ServerEvent::Refreshed { .. }));
    assert!(matches!(peer.next().await, ServerEvent::Expiring { .. }));
    let (None, refusal) = peer.refused().await else { unreachable!("nothing was asked") };
    assert_eq!(refusal.code, 1102);
}

/// Claims that will have run out in as many seconds, or up to one less: two is the least in which a busy
/// machine is sure to present them.
fn good_for(seconds: u64) -> Claims {
    Claims { expires_at: now() - LEEWAY + seconds, ..claims(TENANT, "ada") }
}
