//! Tenants that come, go and are treated otherwise while clients are there.

use std::collections::HashMap;

use tidewire_auth::KeyRing;
use tidewire_edge::EdgeConfig;
use tidewire_model::{
    ChannelRule, ChannelRules, Command, DeltaFormat, Filter, SessionKind, Since, Tenant,
};

use crate::fleet::{Fleet, TENANT, tenants, token};
use crate::peer::{Peer, channel, text};

#[tokio::test]
async fn a_session_of_a_tenant_that_is_gone_is_not_resumed() {
    let fleet = Fleet::one().await;
    let (_peer, connected) = Peer::connect_with(&fleet.nodes[0], token("ada")).await;

    fleet.tenants.ring().replace(KeyRing::default());
    let returning = Peer::resume(&fleet.nodes[0], connected.resume_token, Vec::new()).await;

    returning.closes_with(4411).await;
}

#[tokio::test]
async fn a_tenant_that_has_come_may_connect_and_one_that_is_gone_may_not() {
    let fleet = Fleet::one().await;
    let ring = fleet.tenants.ring();
    let keys = ring.load();

    ring.replace(KeyRing::default());
    let mut stranger = Peer::dial(&fleet.nodes[0]).await;
    stranger.send(Command::Connect(tidewire_model::Connect {
        token: Some(token("ada").into()),
        ..tidewire_model::Connect::default()
    }));
    stranger.closes_with(4401).await;
    ring.replace((*keys).clone());

    Peer::connect(&fleet.nodes[0], "ada").await.published("room/1", text("here")).await;
}

#[tokio::test]
async fn a_rule_that_has_come_holds_for_who_subscribes_from_then_on() {
    let fleet =
        Fleet::of(1, EdgeConfig::default(), tenants(ChannelRules::default(), SessionKind::Lazy))
            .await;
    let mut peer = Peer::connect(&fleet.nodes[0], "ada").await;
    let wish = |name: &str| Command::Subscribe {
        channel: channel(name),
        since: Since::Now,
        delta: Some(DeltaFormat::Fossil),
        token: None,
    };
    peer.send(wish("state/1"));
    assert_eq!(peer.subscribed().await.delta, None);

    let rule = ChannelRule {
        delta: Some(DeltaFormat::Fossil),
        ..ChannelRule::new(Filter::parse("state/*").expect("filter"))
    };
    let tenant = Tenant::parse(TENANT).expect("tenant");
    fleet.tenants.rules().replace(ChannelRules::new(HashMap::from([(tenant, vec![rule])])));

    peer.send(wish("state/2"));
    assert_eq!(peer.subscribed().await.delta, Some(DeltaFormat::Fossil));
}
