//! Sessions that are not kept, and those that are kept strictly.

use std::time::Duration;

use tidewire_client::{Came, Client, Happening, Options, ServerEvent, Since};
use tidewire_edge::{DrainConfig, EdgeConfig};
use tidewire_model::{ChannelRules, Command, Connect, Recovery, Resume, SessionKind, SessionNonce};
use tokio_util::sync::CancellationToken;

use crate::fleet::{Fleet, settle, soon, tenants, token, until};
use crate::peer::{Peer, channel, text};
use crate::switched_store::Asked;

/// Nodes that keep the tenant's sessions as `kind` says.
async fn fleet(nodes: usize, kind: SessionKind) -> Fleet {
    let config = EdgeConfig {
        // Nobody is heard of for being pinged in time.
        ping_interval: Duration::from_hours(1),
        drain: DrainConfig {
            announce: Duration::ZERO,
            rate: 1_000,
            window: Duration::from_secs(5),
            deadline: Duration::from_mins(1),
        },
        ..EdgeConfig::default()
    };
    Fleet::of(nodes, config, tenants(ChannelRules::default(), kind)).await
}

async fn client_of(fleet: &Fleet) -> Client {
    let urls = fleet.nodes.iter().map(|node| format!("ws://{}", node.address)).collect();
    let options = Options { urls, ..Options::new("", token("ada")) };
    soon(Client::connect(options)).await.expect("connected")
}

/// What happens to `client` up to the first that is as `wanted`.
async fn until_happened(
    client: &mut Client,
    wanted: impl Fn(&Happening) -> bool,
) -> Vec<Happening> {
    let mut happenings = Vec::new();
    while !happenings.last().is_some_and(&wanted) {
        happenings.push(soon(client.next()).await.expect("goes on"));
    }
    happenings
}

fn subscribe_to(name: &str) -> Command {
    Command::Subscribe { channel: channel(name), since: Since::Now, delta: None, token: None }
}

#[tokio::test]
async fn of_a_session_that_is_not_kept_the_store_never_hears() {
    let fleet = fleet(1, SessionKind::None).await;
    fleet.sessions.silence(true);

    let (mut peer, connected) = Peer::connect_with(&fleet.nodes[0], token("ada")).await;
    peer.subscribe("room/1").await;
    peer.published("room/1", text("hello")).await;
    peer.close().await;
    until(|| fleet.nodes[0].edge.connections() == 0).await;
    settle().await;

    assert_eq!((connected.resume_token, connected.resume_window), (None, Duration::ZERO));
    assert_eq!(fleet.sessions.asked(), []);
}

#[tokio::test]
async fn a_client_whose_session_is_not_kept_goes_on_from_its_positions_after_a_loss() {
    let fleet = fleet(1, SessionKind::None).await;
    let mut publisher = Peer::connect(&fleet.nodes[0], "bob").await;
    let mut client = client_of(&fleet).await;
    client.subscribe(channel("room/1"), Since::Now);
    until_happened(&mut client, |one| matches!(one, Happening::Subscribed(_))).await;
    client.cut();
    publisher.published("room/1", text("missed")).await;

    let is_heard = |one: &Happening| matches!(one, Happening::Publication { .. });
    let happenings = until_happened(&mut client, is_heard).await;

    let is_anew = |one: &Happening| {
        matches!(one, Happening::Connected { resumed: false, came: Came::Back, .. })
    };
    assert!(happenings.iter().any(is_anew), "{happenings:?}");
    let has_recovered = |one: &Happening| matches!(one, Happening::Subscribed(one) if one.recovery == Recovery::Recovered);
    assert!(happenings.iter().any(has_recovered), "{happenings:?}");
}

#[tokio::test]
async fn a_client_whose_session_is_not_kept_misses_nothing_of_a_drain() {
    let fleet = fleet(2, SessionKind::None).await;
    let mut publisher = Peer::connect(&fleet.nodes[1], "bob").await;
    let mut client = client_of(&fleet).await;
    client.subscribe(channel("room/1"), Since::Now);
    until_happened(&mut client, |one| matches!(one, Happening::Subscribed(_))).await;

    let leaver = fleet.nodes[0].edge.clone();
    fleet.spawn(async move { leaver.drain(&CancellationToken::new()).await });
    let is_asked = |one: &Happening| matches!(one, Happening::Asked { .. });
    let mut happenings = until_happened(&mut client, is_asked).await;
    publisher.published("room/1", text("one")).await;
    let has_left = |one: &Happening| matches!(one, Happening::Left);
    happenings.extend(until_happened(&mut client, has_left).await);
    publisher.published("room/1", text("two")).await;
    let two = text("two");
    let is_last = |one: &Happening| matches!(one, Happening::Publication { publication, .. } if publication.payload == two);
    happenings.extend(until_happened(&mut client, is_last).await);

    let heard = happenings.iter().filter(|one| matches!(one, Happening::Publication { .. }));
    assert_eq!(heard.count(), 2, "{happenings:?}");
    assert!(!happenings.iter().any(|one| matches!(one, Happening::Lost { .. })), "{happenings:?}");
    let has_asked_for_a_session =
        fleet.sessions.asked().iter().any(|asked| *asked != Asked::Health);
    assert!(!has_asked_for_a_session, "{:?}", fleet.sessions.asked());
}

#[tokio::test]
async fn a_token_from_before_sessions_were_not_kept_gives_way_to_a_new_session() {
    let kept = Fleet::one().await;
    let (_peer, connected) = Peer::connect_with(&kept.nodes[0], token("ada")).await;
    let fleet = fleet(1, SessionKind::None).await;

    let nonce = SessionNonce::from_bytes([5; 16]);
    let resume = Resume {
        token: connected.resume_token.expect("a session that is kept"),
        nonce,
        positions: Vec::new(),
    };
    let mut peer = Peer::dial(&fleet.nodes[0]).await;
    let connect =
        Connect { token: Some(token("ada").into()), resume: Some(resume), ..Connect::default() };
    peer.send(Command::Connect(connect));

    assert!(!peer.connected().await.resumed);
    assert_eq!(fleet.sessions.asked(), []);
}

#[tokio::test]
async fn a_strict_subscription_is_answered_once_the_store_has_it_and_a_lazy_one_before() {
    let (strict, lazy) = (fleet(1, SessionKind::Strict).await, fleet(1, SessionKind::Lazy).await);
    let mut waiting = Peer::connect(&strict.nodes[0], "ada").await;
    let mut served = Peer::connect(&lazy.nodes[0], "ada").await;
    for fleet in [&strict, &lazy] {
        fleet.sessions.hold(true);
    }

    served.subscribe("room/1").await;
    waiting.send(subscribe_to("room/1"));
    waiting.flush().await;
    until(|| strict.sessions.asked().len() == 2).await;
    let asked = waiting.send(Command::Ping);
    let heard = waiting.next().await;
    assert!(matches!(heard, ServerEvent::Pong { request } if request == asked), "{heard:?}");

    strict.sessions.hold(false);
    let subscribed = waiting.subscribed().await;
    let position = waiting.published("room/1", text("hello")).await;

    assert_eq!(position.offset, subscribed.position.offset + 1);
}

#[tokio::test]
async fn who_resumes_a_strict_session_without_positions_misses_nothing_that_it_was_confirmed() {
    let fleet = fleet(2, SessionKind::Strict).await;
    let mut publisher = Peer::connect(&fleet.nodes[1], "bob").await;
    let (mut peer, connected) = Peer::connect_with(&fleet.nodes[0], token("ada")).await;
    let began = peer.subscribe("room/1").await.position;

    // Nothing is written after the answer, as when the node dies at once.
    fleet.sessions.silence(true);
    drop(peer);
    until(|| fleet.sessions.ignored() == 1).await;
    fleet.sessions.silence(false);
    publisher.published("room/1", text("missed")).await;
    let mut back = Peer::resume(&fleet.nodes[1], connected.resume_token, Vec::new()).await;

    assert!(back.connected().await.resumed);
    let subscribed = back.subscribed().await;
    assert_eq!((subscribed.position, subscribed.recovery), (began, Recovery::Recovered));
    assert_eq!(back.publications().await[0].payload, text("missed"));
}

#[tokio::test]
async fn what_is_asked_along_with_a_strict_session_is_answered_without_another_word() {
    let fleet = fleet(1, SessionKind::Strict).await;
    let (peer, connected) = Peer::connect_with(&fleet.nodes[0], token("ada")).await;
    peer.close().await;

    let nonce = SessionNonce::from_bytes([5; 16]);
    let token = connected.resume_token.expect("a session that is kept");
    let resume = Some(Resume { token, nonce, positions: Vec::new() });
    let mut back = Peer::dial(&fleet.nodes[0]).await;
    back.send(Command::Connect(Connect { resume, ..Connect::default() }));
    back.send(subscribe_to("room/1"));

    assert!(back.connected().await.resumed);
    back.subscribed().await;
}
