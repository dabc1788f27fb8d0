//! Who is let in, how far, and for how long.

use tidewire_auth::Claims;
use tidewire_client::{Codec, ServerEvent};
use tidewire_model::{Action, Command, Connect, Filter, Permissions};
use tidewire_protocol::Frame;
use tidewire_transport::{Limits, Transport, client};

use crate::fleet::{Fleet, OTHER_TENANT, Running, TENANT, claims, now, sign, soon, token};
use crate::peer::{Bystander, Peer, text};

/// Everything a node sends to a client that sends `frame` and nothing else, to the end.
async fn answers(node: &Running, tenant: &str, frame: String) -> Vec<Frame> {
    let url = format!("ws://{}/v1/{tenant}/ws", node.address);
    let mut socket = soon(client::connect(&url, Codec::Json.subprotocol(), Limits::default()))
        .await
        .expect("upgraded");
    socket.queue(&[Frame::Text(frame.into())]).expect("connected");
    let mut answers = Vec::new();
    while let Ok(Some(frame)) = soon(socket.receive()).await {
        answers.push(frame);
    }
    answers
}

fn only(filter: &str) -> Permissions {
    Permissions::default().grant(Filter::parse(filter).expect("filter"), [Action::Subscribe])
}

#[tokio::test]
async fn an_expired_token_is_told_apart_from_a_wrong_one() {
    let fleet = Fleet::one().await;
    let mut bystander = Bystander::watch(&fleet).await;
    let expired = sign(TENANT, &Claims { expires_at: now() - 60, ..claims(TENANT, "ada") });
    let forged = sign(OTHER_TENANT, &claims(TENANT, "ada"));
    for (token, error, close) in [(expired, 1102, 4402), (forged, 1101, 4401)] {
        let mut peer = Peer::dial(&fleet.nodes[0]).await;
        peer.send(Command::Connect(Connect { token: Some(token.into()), ..Connect::default() }));

        let heard = peer.closes_with(close).await;

        assert!(matches!(&heard[0], ServerEvent::Failed { refusal, .. } if refusal.code == error));
    }
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn a_foreign_tenants_token_hears_the_same_whatever_exists() {
    let fleet = Fleet::one().await;
    let mut bystander = Bystander::watch(&fleet).await;
    let node = &fleet.nodes[0];
    let mut owner = Peer::connect(node, "ada").await;
    owner.subscribe("room/exists").await;
    owner.published("room/exists", text("secret")).await;
    let foreign = sign(OTHER_TENANT, &claims(OTHER_TENANT, "eve"));
    let frame = |channel: &str| {
        format!(
            r#"[{{"id":1,"connect":{{"token":"{foreign}"}}}},
                {{"id":2,"subscribe":{{"channel":"{channel}","last":10}}}},
                {{"id":3,"history":{{"channel":"{channel}"}}}}]"#
        )
    };

    let existing = answers(node, TENANT, frame("room/exists")).await;
    let missing = answers(node, TENANT, frame("room/missing")).await;
    let ghost = answers(node, "ghost", frame("room/exists")).await;

    assert_eq!(existing, missing, "a channel that exists and one that does not");
    assert_eq!(existing, ghost, "a tenant that exists and one that does not");
    let said = String::from_utf8_lossy(existing[0].bytes());
    assert!(said.contains(r#""code":1101"#) && said.contains(r#""code":4401"#), "{said}");
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn a_tenant_gets_nothing_of_anothers_channel_of_the_same_name() {
    let fleet = Fleet::one().await;
    let node = &fleet.nodes[0];
    let mut ours = Peer::connect(node, "ada").await;
    ours.subscribe("room/1").await;
    ours.published("room/1", text("ours")).await;
    let mut theirs = Peer::dial_as(node, None, Codec::Json).await;
    let token = Some(sign(OTHER_TENANT, &claims(OTHER_TENANT, "eve")).into());
    theirs.send(Command::Connect(Connect { token, ..Connect::default() }));
    theirs.connected().await;

    let subscribed = theirs.subscribe("room/1").await;
    ours.published("room/1", text("ours too")).await;
    theirs.publish("room/1", text("theirs"));

    assert_eq!(subscribed.position.offset, 0);
    let heard = theirs.publications().await;
    assert_eq!(heard.iter().map(|one| one.payload.clone()).collect::<Vec<_>>(), [text("theirs")]);
    assert_eq!(heard[0].position.offset, 1);
}

#[tokio::test]
async fn what_is_denied_is_denied_in_the_same_words_whether_or_not_it_exists() {
    let fleet = Fleet::one().await;
    let node = &fleet.nodes[0];
    let mut owner = Peer::connect(node, "ada").await;
    owner.subscribe("secret/exists").await;
    owner.published("secret/exists", text("secret")).await;
    let permissions = only("room/*");
    let limited = sign(TENANT, &Claims { permissions, ..claims(TENANT, "eve") });
    let (mut peer, _) = Peer::connect_with(node, limited).await;
    for command in [r#""subscribe":{"channel":"#, r#""history":{"channel":"#] {
        let mut refusals = Vec::new();
        for name in ["secret/exists", "secret/missing"] {
            peer.send_text(format!(r#"{{{command}"{name}"}}}}"#));
            refusals.push(peer.refused().await);
        }

        assert_eq!(refusals[0], refusals[1]);
        assert_eq!(refusals[0].1.code, 1100);
    }
    let published = ["secret/exists", "secret/missing"].map(|name| peer.publish(name, text("x")));
    let refusals = [peer.refused().await, peer.refused().await];
    assert_eq!(refusals[0].1, refusals[1].1);
    assert_eq!(refusals.map(|(request, _)| request), published.map(Some));
}

#[tokio::test]
async fn the_tenant_may_follow_from_the_token_alone_and_a_wrong_path_is_refused() {
    let fleet = Fleet::one().await;
    let node = &fleet.nodes[0];
    for (path, is_welcome) in [(None, true), (Some(TENANT), true), (Some(OTHER_TENANT), false)] {
        let mut peer = Peer::dial_as(node, path, Codec::Protobuf).await;
        peer.send(Command::Connect(Connect {
            token: Some(token("ada").into()),
            ..Connect::default()
        }));
        if is_welcome {
            peer.connected().await;
        } else {
            peer.closes_with(4401).await;
        }
    }
}

#[tokio::test]
async fn refreshing_takes_a_new_token_of_the_same_user_only() {
    let fleet = Fleet::one().await;
    let mut bystander = Bystander::watch(&fleet).await;
    let (mut peer, connected) = Peer::connect_with(&fleet.nodes[0], token("ada")).await;
    let later = Claims { expires_at: now() + 7_200, ..claims(TENANT, "ada") };
    let later_at = later.expires_at;

    let request = peer.send(Command::Refresh { token: sign(TENANT, &later).into(), channel: None });

    let ServerEvent::Refreshed { request: refreshed, expires_at } = peer.next().await else {
        unreachable!("not refreshed")
    };
    assert_eq!(refreshed, request);
    assert!(expires_at > connected.expires_at && expires_at >= Some(later_at));

    let expired = Claims { expires_at: now() - 60, ..claims(TENANT, "ada") };
    for (token, code) in [
        (sign(TENANT, &expired), 1102),
        (sign(OTHER_TENANT, &claims(TENANT, "ada")), 1101),
        ("nonsense".to_owned(), 1101),
    ] {
        let request = peer.send(Command::Refresh { token: token.into(), channel: None });
        let (refused, refusal) = peer.refused().await;
        assert_eq!((refused, refusal.code), (Some(request), code));
    }

    peer.send(Command::Refresh { token: token("eve").into(), channel: None });
    peer.closes_with(4401).await;
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn a_new_token_ends_the_subscriptions_it_does_not_allow() {
    let fleet = Fleet::one().await;
    let mut peer = Peer::connect(&fleet.nodes[0], "ada").await;
    peer.subscribe("room/1").await;
    peer.subscribe("other").await;
    let less = Claims { permissions: only("room/*"), ..claims(TENANT, "ada") };

    peer.send(Command::Refresh { token: sign(TENANT, &less).into(), channel: None });

    assert!(matches!(peer.next().await, ServerEvent::Refreshed { .. }));
    let ServerEvent::Unsubscribed { request: None, channel, refusal: Some(refusal) } =
        peer.next().await
    else {
        unreachable!("not unsubscribed")
    };
    assert_eq!((channel.as_str(), refusal.code), ("other", 1100));
}

#[tokio::test]
async fn what_a_new_token_denies_ends_though_it_is_granted() {
    let fleet = Fleet::one().await;
    let mut peer = Peer::connect(&fleet.nodes[0], "ada").await;
    peer.subscribe("room/1").await;
    let staff = Filter::parse("room/1").expect("filter");
    let less = Claims {
        permissions: Permissions::all().deny(staff, [Action::Subscribe, Action::Publish]),
        ..claims(TENANT, "ada")
    };

    peer.send(Command::Refresh { token: sign(TENANT, &less).into(), channel: None });

    assert!(matches!(peer.next().await, ServerEvent::Refreshed { .. }));
    let ended = peer.next().await;
    assert!(
        matches!(&ended, ServerEvent::Unsubscribed { channel, .. } if channel.as_str() == "room/1"),
        "{ended:?}"
    );
    peer.subscribe("room/2").await;
}
