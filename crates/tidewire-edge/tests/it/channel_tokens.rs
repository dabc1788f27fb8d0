//! Tokens of one channel, shown by clients whose own tokens allow nothing.

use tidewire_auth::{ChannelClaims, Claims, LEEWAY, SigningKey};
use tidewire_client::{Codec, Received, ServerEvent};
use tidewire_edge::EdgeConfig;
use tidewire_model::{
    Action, ChannelRules, Command, Connect, Filter, Permissions, RequestId, SessionKind, Since,
    UserId,
};

use crate::fleet::{
    Fleet, OTHER_TENANT, Running, TENANT, claims, key_id, now, secret, sign, tenants,
};
use crate::peer::{Bystander, Peer, channel, text};

const ROOM: &str = "room/1";
/// Enough to be judged in time on a busy machine, and not too long to wait for.
const SHORT: u64 = 6;

#[tokio::test]
async fn a_token_of_a_channel_allows_what_it_says_there_and_nothing_elsewhere() {
    let fleet = Fleet::one().await;
    let mut bystander = Bystander::watch(&fleet).await;
    for codec in [Codec::Json, Codec::Protobuf] {
        let mut ada = Peer::dial_as(&fleet.nodes[0], Some(TENANT), codec).await;
        ada.introduce(without_rights("ada")).await;
        ada.send(Command::Subscribe {
            channel: channel(ROOM),
            since: Since::Now,
            delta: None,
            token: None,
        });
        assert_eq!(ada.refused().await.1.code, 1100);

        show(&mut ada, ROOM, of_channel(ROOM, |_| {}));

        ada.subscribed().await;
        ada.publish(ROOM, text("hello"));
        assert_eq!(payloads(&ada.publications().await), [text("hello")]);
        ada.publish("room/2", text("elsewhere"));
        assert_eq!(ada.refused().await.1.code, 1100);
        ada.send(Command::Unsubscribe { channel: channel(ROOM) });
        assert!(matches!(ada.next().await, ServerEvent::Unsubscribed { .. }));
        ada.publish(ROOM, text("afterwards"));
        assert_eq!(ada.refused().await.1.code, 1100);
    }
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn one_of_another_user_tenant_or_channel_is_refused_like_one_that_is_forged() {
    let fleet = Fleet::one().await;
    let mut ada = connect(&fleet.nodes[0], "ada").await;
    let by_other_key = {
        let key = SigningKey::from_secret(Some(key_id(TENANT)), secret(OTHER_TENANT).as_bytes());
        key.expect("key").sign_for_channel(&claims_of(ROOM))
    };
    let mut foreign = claims_of(ROOM);
    foreign.claims.tenant = Some(tidewire_model::Tenant::parse(OTHER_TENANT).expect("tenant"));
    let key = SigningKey::from_secret(Some(key_id(OTHER_TENANT)), secret(OTHER_TENANT).as_bytes());
    let foreign = key.expect("key").sign_for_channel(&foreign);
    let eves = of_channel(ROOM, |of| of.claims.user = UserId::parse("eve").expect("user"));
    let long_gone = of_channel(ROOM, |of| {
        of.claims.user = UserId::parse("eve").expect("user");
        of.claims.expires_at = now() - 60;
    });
    let refused = [
        by_other_key,
        "nonsense".into(),
        foreign,
        eves,
        long_gone,
        of_channel("room/2", |_| {}),
        sign(TENANT, &claims(TENANT, "ada")),
    ];

    let mut told = Vec::new();
    for token in refused {
        show(&mut ada, ROOM, token);
        told.push(ada.refused().await.1);
    }

    assert_eq!(told[0].code, 1101);
    assert!(told.iter().all(|refusal| *refusal == told[0]), "{told:?}");
    show(&mut ada, ROOM, of_channel(ROOM, |of| of.claims.expires_at = now() - 60));
    assert_eq!(ada.refused().await.1.code, 1102, "of its own one is told that");
}

#[tokio::test]
async fn a_token_of_a_channel_lets_nobody_in() {
    let fleet = Fleet::one().await;
    let mut peer = Peer::dial(&fleet.nodes[0]).await;

    let token = Some(of_channel(ROOM, |_| {}).into());
    peer.send(Command::Connect(Connect { token, ..Connect::default() }));

    let heard = peer.closes_with(4401).await;
    assert!(matches!(&heard[0], ServerEvent::Failed { refusal, .. } if refusal.code == 1101));
    let mut ada = connect(&fleet.nodes[0], "ada").await;
    ada.send(Command::Refresh { token: of_channel(ROOM, |_| {}).into(), channel: None });
    assert_eq!(ada.refused().await.1.code, 1101);
}

#[tokio::test]
async fn what_the_token_of_the_connection_denies_a_token_of_the_channel_does_not_allow() {
    let fleet = Fleet::one().await;
    let room = Filter::parse(ROOM).expect("filter");
    let permissions = Permissions::default().deny(room, [Action::Subscribe]);
    let denied = sign(TENANT, &Claims { permissions, ..claims(TENANT, "ada") });
    let (mut ada, _) = Peer::connect_with(&fleet.nodes[0], denied).await;

    show(&mut ada, ROOM, of_channel(ROOM, |_| {}));

    assert_eq!(ada.refused().await.1.code, 1100);
}

#[tokio::test]
async fn its_end_ends_the_subscription_unless_another_was_shown_and_nothing_else() {
    let fleet = Fleet::one().await;
    let mut writer = Peer::connect(&fleet.nodes[0], "bob").await;
    let mut ada = connect(&fleet.nodes[0], "ada").await;
    for room in [ROOM, "room/2"] {
        show(&mut ada, room, of_channel(room, short));
        ada.subscribed().await;
    }

    let request = refresh(&mut ada, ROOM, of_channel(ROOM, |_| {}));

    let ServerEvent::Refreshed { request: refreshed, expires_at } = ada.next().await else {
        unreachable!("not refreshed")
    };
    assert_eq!(refreshed, request);
    assert!(expires_at > Some(now() + 3_000));
    assert_eq!(unsubscribed(&mut ada).await, ("room/2".into(), 1102));
    for room in ["room/2", ROOM] {
        writer.published(room, text(room)).await;
    }
    assert_eq!(payloads(&ada.publications().await), [text(ROOM)]);
    refresh(&mut ada, "room/2", of_channel("room/2", |_| {}));
    assert_eq!(ada.refused().await.1.code, 1201);
    ada.pinged().await;
}

#[tokio::test]
async fn a_session_that_goes_on_elsewhere_has_what_it_was_granted_until_its_end() {
    let tenants = tenants(ChannelRules::default(), SessionKind::Strict);
    let fleet = Fleet::of(2, EdgeConfig::default(), tenants).await;
    let mut writer = Peer::connect(&fleet.nodes[0], "bob").await;
    let (mut ada, connected) = Peer::connect_with(&fleet.nodes[0], without_rights("ada")).await;
    show(&mut ada, ROOM, of_channel(ROOM, |_| {}));
    ada.subscribed().await;
    show(&mut ada, "room/2", of_channel("room/2", short));
    // The store has it by then.
    ada.subscribed().await;
    drop(ada);

    let mut ada = Peer::resume(&fleet.nodes[1], connected.resume_token, Vec::new()).await;

    assert!(ada.connected().await.resumed);
    assert_eq!(unsubscribed(&mut ada).await, ("room/2".into(), 1102));
    writer.published(ROOM, text("still")).await;
    assert_eq!(payloads(&ada.publications().await), [text("still")]);
    // It goes on being allowed to do the rest as well.
    ada.published(ROOM, text("mine")).await;
}

/// The next subscription that ends by itself; confirmations that come before are dropped.
async fn unsubscribed(peer: &mut Peer) -> (String, u16) {
    loop {
        match peer.next().await {
            ServerEvent::Subscribed(_) => {}
            ServerEvent::Unsubscribed { request: None, channel, refusal: Some(refusal) } => {
                return (channel.to_string(), refusal.code);
            }
            other => unreachable!("not unsubscribed: {other:?}"),
        }
    }
}

/// Connects with a token that allows nothing.
pub(crate) async fn connect(node: &Running, user: &str) -> Peer {
    Peer::connect_with(node, without_rights(user)).await.0
}

fn without_rights(user: &str) -> String {
    sign(TENANT, &Claims { permissions: Permissions::default(), ..claims(TENANT, user) })
}

pub(crate) fn show(peer: &mut Peer, name: &str, token: String) -> RequestId {
    let (since, token) = (Since::Now, Some(token.into()));
    peer.send(Command::Subscribe { channel: channel(name), since, delta: None, token })
}

fn refresh(peer: &mut Peer, name: &str, token: String) -> RequestId {
    peer.send(Command::Refresh { token: token.into(), channel: Some(channel(name)) })
}

/// A token of `ada` to subscribe and to publish there.
pub(crate) fn of_channel(name: &str, change: impl FnOnce(&mut ChannelClaims)) -> String {
    let mut claims = claims_of(name);
    change(&mut claims);
    let key = SigningKey::from_secret(Some(key_id(TENANT)), secret(TENANT).as_bytes());
    key.expect("key").sign_for_channel(&claims)
}

fn claims_of(name: &str) -> ChannelClaims {
    let claims = Claims { permissions: Permissions::default(), ..claims(TENANT, "ada") };
    let actions = [Action::Subscribe, Action::Publish].into_iter().collect();
    ChannelClaims { claims, channel: channel(name), actions }
}

fn short(of: &mut ChannelClaims) {
    of.claims.expires_at = now() - LEEWAY.as_secs() + SHORT;
}

fn payloads(publications: &[Received]) -> Vec<tidewire_model::Payload> {
    publications.iter().map(|one| one.payload.clone()).collect()
}
