//! Sessions that outlive their connections.

use futures_util::FutureExt as _;
use tidewire_broker::{News, Notice};
use tidewire_client::{Client, Happening, Options, ServerEvent, Since};
use tidewire_edge::EdgeConfig;
use tidewire_model::{
    Command, Connect, Generation, Position, Recovery, Resume, SessionNonce, Tenant, Token,
};

use crate::fleet::{Fleet, OTHER_TENANT, Running, TENANT, soon, token};
use crate::peer::{Bystander, Peer, channel, text};

async fn two_nodes() -> Fleet {
    Fleet::start(2, EdgeConfig::default()).await
}

/// Takes the session of `resume_token` up on `node`, and expects that to work.
async fn take_up(node: &Running, resume_token: Option<Token>) -> Peer {
    let mut peer = Peer::resume(node, resume_token, Vec::new()).await;
    assert!(peer.connected().await.resumed);
    peer
}

#[tokio::test]
async fn a_session_goes_on_at_another_node_from_the_clients_positions() {
    let fleet = two_nodes().await;
    let mut bystander = Bystander::watch(&fleet).await;
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    let (mut peer, connected) = Peer::connect_with(&fleet.nodes[0], token("ada")).await;
    peer.subscribe("room/1").await;
    publisher.published("room/1", text("one")).await;
    let seen = peer.publications().await[0].position;
    drop(peer);
    for missed in ["two", "three"] {
        publisher.published("room/1", text(missed)).await;
    }

    let positions = vec![(channel("room/1"), seen)];
    let mut peer = Peer::resume(&fleet.nodes[1], connected.resume_token, positions).await;

    let resumed = peer.connected().await;
    assert!(resumed.resumed);
    assert_eq!(resumed.session, connected.session);
    assert_eq!(resumed.node.as_str(), "node-1");
    let subscribed = peer.subscribed().await;
    assert_eq!((subscribed.request, subscribed.position), (None, seen));
    assert_eq!(subscribed.recovery, Recovery::Recovered);
    let missed = peer.publications().await;
    assert_eq!(missed.iter().map(|one| one.position.offset).collect::<Vec<_>>(), [2, 3]);
    let position: Position = publisher.published("room/1", text("four")).await;
    assert_eq!(peer.publications().await[0].position, position);
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn the_older_connection_of_a_session_that_has_moved_is_told_so() {
    let fleet = two_nodes().await;
    let mut bystander = Bystander::watch(&fleet).await;
    let (first, connected) = Peer::connect_with(&fleet.nodes[0], token("ada")).await;

    let mut second = Peer::resume(&fleet.nodes[0], connected.resume_token, Vec::new()).await;
    let on_the_same_node = second.connected().await;
    first.closes_with(4408).await;

    let third = take_up(&fleet.nodes[1], on_the_same_node.resume_token).await;
    second.closes_with(4408).await;

    drop(third);
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn a_notice_moves_the_session_of_its_own_tenant_only() {
    let fleet = Fleet::one().await;
    let (mut kept, connected) = Peer::connect_with(&fleet.nodes[0], token("ada")).await;
    let (moved, also_connected) = Peer::connect_with(&fleet.nodes[0], token("bob")).await;
    let notice = |tenant: &str, session| Notice::SessionMoved {
        tenant: Tenant::parse(tenant).expect("tenant"),
        session,
        generation: Generation(u64::MAX),
    };

    fleet.notify(0, &notice(OTHER_TENANT, connected.session));
    fleet.notify(0, &notice(TENANT, also_connected.session));

    moved.closes_with(4408).await;
    kept.published("room/1", text("still here")).await;
}

#[tokio::test]
async fn news_of_another_node_wake_who_follows_just_these_once() {
    let fleet = Fleet::one().await;
    let edge = &fleet.nodes[0].edge;

    fleet.notify_all(News::Revocations);
    edge.news(News::Revocations).await;

    assert_eq!(edge.news(News::Revocations).now_or_never(), None);
    assert_eq!(edge.news(News::Tenants).now_or_never(), None);
}

#[tokio::test]
async fn a_copied_resume_token_opens_nothing_once_its_session_has_moved() {
    let fleet = two_nodes().await;
    let (_peer, connected) = Peer::connect_with(&fleet.nodes[0], token("ada")).await;
    let copied = connected.resume_token;
    let mut rightful = take_up(&fleet.nodes[1], copied.clone()).await;

    let thief = Peer::resume(&fleet.nodes[0], copied, Vec::new()).await;

    let heard = thief.closes_with(4411).await;
    assert!(matches!(&heard[0], ServerEvent::Failed { refusal, .. } if refusal.code == 1101));
    rightful.published("room/1", text("still mine")).await;
}

#[tokio::test]
async fn an_attempt_to_resume_whose_answer_was_lost_can_be_repeated() {
    let fleet = two_nodes().await;
    let (_peer, connected) = Peer::connect_with(&fleet.nodes[0], token("ada")).await;
    let nonce = SessionNonce::from_bytes([5; 16]);
    let token = connected.resume_token.expect("a session that is kept");
    let resume = Resume { token, nonce, positions: Vec::new() };

    for node in &fleet.nodes {
        let mut peer = Peer::dial(node).await;
        peer.send(Command::Connect(Connect { resume: Some(resume.clone()), ..Connect::default() }));

        assert!(peer.connected().await.resumed);
    }
}

#[tokio::test]
async fn a_resume_token_that_opens_nothing_gives_way_to_a_token() {
    let fleet = Fleet::one().await;
    let nonce = SessionNonce::from_bytes([5; 16]);
    let resume = Some(Resume { token: "AQnonsense".into(), nonce, positions: Vec::new() });
    let mut peer = Peer::dial(&fleet.nodes[0]).await;

    peer.send(Command::Connect(Connect {
        token: Some(token("ada").into()),
        resume,
        ..Connect::default()
    }));

    assert!(!peer.connected().await.resumed);
}

#[tokio::test]
async fn a_resume_token_is_good_for_its_own_tenants_path_only() {
    let fleet = Fleet::one().await;
    let (mut owner, connected) = Peer::connect_with(&fleet.nodes[0], token("ada")).await;
    let codec = tidewire_client::Codec::Json;
    let mut peer = Peer::dial_as(&fleet.nodes[0], Some(OTHER_TENANT), codec).await;
    let token = connected.resume_token.expect("a session that is kept");
    let nonce = SessionNonce::from_bytes([5; 16]);
    let resume = Some(Resume { token, nonce, positions: Vec::new() });

    peer.send(Command::Connect(Connect { resume, ..Connect::default() }));

    peer.closes_with(4411).await;
    owner.published("room/1", text("undisturbed")).await;
}

#[tokio::test]
async fn without_its_log_a_node_refuses_publications_as_retryable_and_keeps_its_clients() {
    let fleet = Fleet::one().await;
    let mut subscriber = Peer::connect(&fleet.nodes[0], "ada").await;
    subscriber.subscribe("room/1").await;
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    publisher.published("room/1", text("before")).await;
    subscriber.publications().await;

    fleet.log.switch(false);
    publisher.publish("room/1", text("meanwhile"));
    let (_, refusal) = publisher.refused().await;
    fleet.log.switch(true);

    assert_eq!(refusal.code, 2000);
    assert!(refusal.retryable);
    let position = publisher.published("room/1", text("after")).await;
    assert_eq!(subscriber.publications().await[0].position, position);
}

#[tokio::test]
async fn a_client_asks_again_for_a_channel_whose_answer_a_loss_has_swallowed() {
    let fleet = Fleet::one().await;
    let url = format!("ws://{}", fleet.nodes[0].address);
    let mut client =
        soon(Client::connect(Options::new(url, token("ada")))).await.expect("connected");
    client.subscribe(channel("room/1"), Since::Now);
    client.cut();

    let mut happenings = Vec::new();
    while !matches!(happenings.last(), Some(Happening::Subscribed(_))) {
        happenings.push(soon(client.next()).await.expect("goes on"));
    }

    let resumed =
        |happening: &Happening| matches!(happening, Happening::Connected { resumed: true, .. });
    assert!(happenings.iter().any(resumed), "{happenings:?}");
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    publisher.published("room/1", text("hello")).await;
    assert!(matches!(
        soon(client.next()).await.expect("goes on"),
        Happening::Publication { publication, .. } if publication.payload == text("hello")
    ));
}

#[tokio::test]
async fn what_a_client_asks_along_with_its_first_word_is_answered_after_it() {
    let fleet = Fleet::one().await;
    let mut peer = Peer::dial(&fleet.nodes[0]).await;

    let token = token("ada");
    peer.send_text(format!(
        r#"[{{"id":1,"connect":{{"token":"{token}"}}}},
            {{"id":2,"publish":{{"channel":"room/1","data":1}}}},
            {{"id":3,"ping":{{}}}}]"#
    ));

    peer.connected().await;
    let heard = [peer.next().await, peer.next().await];
    assert!(matches!(heard[0], ServerEvent::Pong { .. }), "{heard:?}");
    assert!(matches!(heard[1], ServerEvent::Published { .. }), "{heard:?}");
}
