//! Leaving without losing anyone.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tidewire_client::{Client, Happening, Options, ServerEvent, Since};
use tidewire_edge::{DrainConfig, EdgeConfig};
use tidewire_model::{Command, Connect, Token};
use tidewire_transport::http::request;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fleet::{API_KEY, Fleet, settle, soon, token, until};
use crate::peer::{Bystander, Peer, channel, text};

const DRAIN: DrainConfig = DrainConfig {
    // As long as it takes a busy machine to do what is to be done in each.
    announce: Duration::from_secs(4),
    rate: 2_000,
    window: Duration::from_secs(4),
    deadline: Duration::from_mins(1),
};

/// Nodes that ask their clients to move as soon as they drain, and have all the time for handshakes.
async fn two_quick_nodes() -> Fleet {
    let drain = DrainConfig { announce: Duration::ZERO, ..DRAIN };
    let connect_timeout = Duration::from_mins(1);
    Fleet::start(2, EdgeConfig { drain, connect_timeout, ..EdgeConfig::default() }).await
}

async fn two_nodes() -> Fleet {
    Fleet::start(2, EdgeConfig { drain: DRAIN, ..EdgeConfig::default() }).await
}

/// Begins to drain the first node; what it gives back hears of the end.
fn drain(fleet: &Fleet, hurry: &CancellationToken) -> oneshot::Receiver<()> {
    let (done, is_done) = oneshot::channel();
    let (edge, hurry) = (fleet.nodes[0].edge.clone(), hurry.clone());
    fleet.spawn(async move {
        edge.drain(&hurry).await;
        // A test that does not wait for the end has no use for it.
        let _ = done.send(());
    });
    is_done
}

#[tokio::test]
async fn a_node_that_leaves_says_so_asks_its_clients_to_move_and_then_closes() {
    let fleet = two_nodes().await;
    let mut bystander = Bystander::watch_at(&fleet.nodes[1]).await;
    let mut mover = Peer::connect(&fleet.nodes[0], "ada").await;
    mover.subscribe("room/1").await;
    let mut stayer = Peer::connect(&fleet.nodes[0], "bob").await;
    assert_eq!(fleet.nodes[0].get("/readyz").await.status, 200);

    let is_done = drain(&fleet, &CancellationToken::new());

    let not_ready = soon(async {
        loop {
            let answer = fleet.nodes[0].get("/readyz").await;
            if answer.status == 503 {
                return answer;
            }
        }
    });
    let body = String::from_utf8_lossy(&not_ready.await.body).into_owned();
    assert_eq!(body, r#"{"ready":false,"reasons":["the node is draining"]}"#);
    assert_eq!(fleet.nodes[0].get("/healthz").await.status, 200);
    let mut late = Peer::connect(&fleet.nodes[0], "late").await;
    late.published("room/1", text("balancers lag")).await;
    mover.publications().await;

    for peer in [&mut stayer, &mut late] {
        assert!(matches!(peer.next().await, ServerEvent::Reconnect { .. }));
    }
    let ServerEvent::Reconnect { after, window, token, endpoints } = mover.next().await else {
        unreachable!("no hint")
    };
    assert!(after < DRAIN.window, "{after:?}");
    assert_eq!(window, DRAIN.window);
    assert_eq!(endpoints, [format!("ws://{}", fleet.nodes[1].address)]);
    let mut again = Peer::resume(&fleet.nodes[1], token, Vec::new()).await;
    assert!(again.connected().await.resumed);
    stayer.published("room/1", text("served in the window")).await;
    hears(&mut mover, "served in the window").await;

    let url = format!("http://{}/v1/ws", fleet.nodes[0].address);
    let refused = request(Method::GET, &url, &[], Bytes::new()).await.expect("an answer");
    assert_eq!(refused.status, 503);
    assert!(refused.headers.contains_key("retry-after"));
    let body: serde_json::Value = serde_json::from_slice(&refused.body).expect("json");
    assert_eq!(body["endpoints"], serde_json::json!(endpoints));

    for peer in [stayer, late] {
        peer.closes_with(1012).await;
    }
    mover.closes_with(4408).await;
    soon(is_done).await.expect("drained");
    assert_eq!(fleet.nodes[0].edge.connections(), 0);
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn a_node_in_a_hurry_disconnects_everybody_at_once() {
    let fleet = two_nodes().await;
    let mut bystander = Bystander::watch_at(&fleet.nodes[1]).await;
    let peer = Peer::connect(&fleet.nodes[0], "ada").await;
    let hurry = CancellationToken::new();
    hurry.cancel();

    let is_done = drain(&fleet, &hurry);

    let heard = peer.closes_with(1012).await;
    assert!(matches!(&heard[..], [ServerEvent::Closing(closing)] if closing.reconnect));
    soon(is_done).await.expect("drained");
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn a_client_that_takes_the_hint_misses_nothing() {
    const MANY: u64 = 300;
    let fleet = two_nodes().await;
    let urls = fleet.nodes.iter().map(|node| format!("ws://{}", node.address)).collect();
    let options = Options { urls, ..Options::new("", token("ada")) };
    let mut client = soon(Client::connect(options)).await.expect("connected");
    client.subscribe(channel("room/1"), Since::Now);
    while !matches!(soon(client.next()).await.expect("goes on"), Happening::Subscribed(_)) {}

    let is_done = drain(&fleet, &CancellationToken::new());
    let (mut offsets, mut homes) = (Vec::new(), Vec::new());
    let publishing = async {
        for n in 0..MANY {
            let (body, path) =
                (format!(r#"{{"data":{n}}}"#), "/v1/acme/channels/room%2F1/publications");
            let (status, _) = fleet.nodes[1].post(path, API_KEY, body).await;
            assert_eq!(status, 200);
        }
    };
    let listening = async {
        while offsets.len() < usize::try_from(MANY).expect("small") || homes.is_empty() {
            match client.next().await.expect("goes on") {
                Happening::Publication { publication, .. } => {
                    offsets.push(publication.position.offset);
                }
                Happening::Connected { node, resumed, .. } => homes.push((node, resumed)),
                Happening::Subscribed(_) | Happening::Asked { .. } | Happening::Left => {}
                other => unreachable!("{other:?}"),
            }
        }
    };
    soon(Box::pin(async { tokio::join!(publishing, listening) })).await;

    assert!(offsets.into_iter().eq(1..=MANY));
    assert_eq!(homes, [("node-1".to_owned(), true)]);
    soon(is_done).await.expect("drained");
}

#[tokio::test]
async fn a_client_in_the_middle_of_its_handshake_is_sent_elsewhere() {
    let fleet = two_quick_nodes().await;
    let silent = Peer::dial(&fleet.nodes[0]).await;
    let mut claiming = Peer::dial(&fleet.nodes[0]).await;
    fleet.sessions.silence(true);
    claiming
        .send(Command::Connect(Connect { token: Some(token("ada").into()), ..Connect::default() }));
    claiming.flush().await;
    until(|| fleet.sessions.ignored() == 1).await;

    let mut is_done = drain(&fleet, &CancellationToken::new());

    silent.closes_with(1012).await;
    assert!(is_done.try_recv().is_err(), "a handshake is under way");
    claiming.closes_with(1012).await;
    soon(is_done).await.expect("drained");
    fleet.sessions.silence(false);
    Peer::connect(&fleet.nodes[1], "ada").await;
}

#[tokio::test]
async fn a_drain_is_over_when_the_last_goodbye_has_been_said() {
    let fleet = two_nodes().await;
    let peer = Peer::connect(&fleet.nodes[0], "ada").await;
    let hurry = CancellationToken::new();
    hurry.cancel();

    let mut is_done = drain(&fleet, &hurry);

    until(|| fleet.nodes[0].edge.connections() == 0).await;
    settle().await;
    assert!(is_done.try_recv().is_err(), "a goodbye is under way");
    peer.closes_with(1012).await;
    soon(is_done).await.expect("drained");
}

/// A node that gives its clients all the time to move, one of them that was asked to, and has.
async fn moved() -> (Fleet, Peer, Peer) {
    let (announce, window) = (Duration::ZERO, Duration::from_mins(1));
    let deadline = 3 * window;
    let drain_config = DrainConfig { announce, window, deadline, ..DRAIN };
    let fleet = Fleet::start(2, EdgeConfig { drain: drain_config, ..EdgeConfig::default() }).await;
    let mut old = Peer::connect(&fleet.nodes[0], "ada").await;
    old.subscribe("room/1").await;
    let _is_done = drain(&fleet, &CancellationToken::new());
    let token = hint(&mut old).await;
    let mut new = Peer::resume(&fleet.nodes[1], token, Vec::new()).await;
    assert!(new.connected().await.resumed);
    new.subscribed().await;
    (fleet, old, new)
}

#[tokio::test]
async fn a_client_that_has_moved_is_served_over_both_connections() {
    let (fleet, mut old, mut new) = moved().await;

    new.published("room/1", text("to both")).await;
    hears(&mut old, "to both").await;
    old.published("room/1", text("in flight")).await;
    hears(&mut new, "in flight").await;

    assert_eq!(until_refused(&mut old).await, 2004);
    new.published("room/1", text("still to both")).await;
    hears(&mut old, "still to both").await;
    assert_eq!(fleet.nodes[0].edge.connections(), 1);
}

#[tokio::test]
async fn a_client_that_has_moved_may_leave_by_itself_and_counts_as_moved() {
    let (fleet, mut old, _new) = moved().await;
    until_refused(&mut old).await;
    let before = count_moved(&fleet).await;

    old.close().await;

    until(|| fleet.nodes[0].edge.connections() == 0).await;
    assert!(count_moved(&fleet).await > before);
}

/// Reads on until `payload` comes.
async fn hears(peer: &mut Peer, payload: &str) {
    loop {
        if let ServerEvent::Publications { publications, .. } = peer.next().await
            && publications.iter().any(|one| one.payload == text(payload))
        {
            return;
        }
    }
}

/// Subscribes until the node knows that the session has moved; gives the code of its refusal.
async fn until_refused(peer: &mut Peer) -> u16 {
    for number in 0.. {
        let channel = channel(&format!("more/{number}"));
        peer.send(Command::Subscribe { channel, since: Since::Now, delta: None, token: None });
        loop {
            match peer.next().await {
                ServerEvent::Failed { refusal, .. } => return refusal.code,
                ServerEvent::Subscribed(_) => break,
                _ => {}
            }
        }
    }
    unreachable!("it is refused at last")
}

async fn count_moved(fleet: &Fleet) -> u64 {
    let metrics = fleet.nodes[0].get("/metrics").await.body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    let line = r#"tidewire_drain_connections_total{outcome="moved"} "#;
    let count = metrics.lines().find_map(|one| one.strip_prefix(line));
    count.map_or(0, |count| count.parse().expect("a number"))
}

async fn hint(peer: &mut Peer) -> Token {
    match peer.next().await {
        ServerEvent::Reconnect { token, .. } => token.expect("a session that is kept"),
        other => unreachable!("no hint: {other:?}"),
    }
}

#[tokio::test]
async fn the_next_node_begins_from_what_a_client_did_last() {
    let fleet = two_quick_nodes().await;
    let mut mover = Peer::connect(&fleet.nodes[0], "ada").await;
    mover.subscribe("room/1").await;

    let _is_done = drain(&fleet, &CancellationToken::new());

    let token = hint(&mut mover).await;
    let mut again = Peer::resume(&fleet.nodes[1], token, Vec::new()).await;
    assert!(again.connected().await.resumed);
    assert_eq!(again.subscribed().await.channel, channel("room/1"));
}

#[tokio::test]
async fn the_next_node_begins_from_what_a_client_did_in_its_window() {
    let fleet = two_quick_nodes().await;
    let mut mover = Peer::connect(&fleet.nodes[0], "ada").await;
    mover.subscribe("room/1").await;
    mover.subscribe("room/2").await;

    let _is_done = drain(&fleet, &CancellationToken::new());

    let token = hint(&mut mover).await;
    mover.send(Command::Unsubscribe { channel: channel("room/2") });
    assert!(matches!(mover.next().await, ServerEvent::Unsubscribed { .. }));

    let mut again = Peer::resume(&fleet.nodes[1], token, Vec::new()).await;
    assert!(again.connected().await.resumed);
    assert_eq!(again.subscribed().await.channel, channel("room/1"));
    assert!(again.subscribe("room/2").await.request.is_some(), "it was subscribed still");
}

#[tokio::test]
async fn a_drain_is_held_while_sessions_are_out_of_reach() {
    let fleet = two_quick_nodes().await;
    let mut peer = Peer::connect(&fleet.nodes[0], "ada").await;
    fleet.sessions.silence(true);

    let is_done = drain(&fleet, &CancellationToken::new());

    until(|| fleet.sessions.ignored() >= 2).await;
    peer.published("room/1", text("served meanwhile, and not asked to move")).await;
    fleet.sessions.silence(false);
    let token = hint(&mut peer).await;
    let mut again = Peer::resume(&fleet.nodes[1], token, Vec::new()).await;
    assert!(again.connected().await.resumed);
    soon(is_done).await.expect("drained");
}

#[tokio::test]
async fn clients_with_little_to_resume_are_asked_first() {
    let fleet = two_quick_nodes().await;
    let mut heavy = Peer::connect(&fleet.nodes[0], "heavy").await;
    for number in 0..17 {
        heavy.subscribe(&format!("room/{number}")).await;
    }
    let mut light = Peer::connect(&fleet.nodes[0], "light").await;
    light.subscribe("room/1").await;
    light.subscribe("room/2").await;
    let mut idle = Peer::connect(&fleet.nodes[0], "idle").await;

    let _is_done = drain(&fleet, &CancellationToken::new());

    let mut asked = Vec::new();
    while asked.len() < 3 {
        let (who, event) = tokio::select! {
            event = heavy.next() => ("heavy", event),
            event = light.next() => ("light", event),
            event = idle.next() => ("idle", event),
        };
        assert!(matches!(event, ServerEvent::Reconnect { .. }), "{event:?}");
        asked.push(who);
    }
    assert_eq!(asked, ["idle", "light", "heavy"]);
}

#[tokio::test]
async fn a_node_is_gone_before_its_deadline_however_long_the_window() {
    // A third of it is held back, of which it needs next to nothing.
    let deadline = Duration::from_secs(9);
    let drain_config =
        DrainConfig { announce: Duration::ZERO, window: Duration::from_mins(1), deadline, ..DRAIN };
    let config = EdgeConfig { drain: drain_config, ..EdgeConfig::default() };
    let fleet = Fleet::start(2, config).await;
    let mut stayer = Peer::connect(&fleet.nodes[0], "ada").await;
    let started = Instant::now();

    let is_done = drain(&fleet, &CancellationToken::new());

    hint(&mut stayer).await;
    stayer.closes_with(1012).await;
    soon(is_done).await.expect("drained");
    let took = started.elapsed();
    assert!(took < deadline, "{took:?}");
    assert!(took >= deadline * 2 / 3, "it had that long to move: {took:?}");
}

#[tokio::test]
async fn a_window_does_not_end_while_sessions_are_out_of_reach() {
    let drain_config = DrainConfig { announce: Duration::ZERO, ..DRAIN };
    let config = EdgeConfig { drain: drain_config, ..EdgeConfig::default() };
    let fleet = Fleet::start(2, config).await;
    let mut peer = Peer::connect(&fleet.nodes[0], "ada").await;
    let is_done = drain(&fleet, &CancellationToken::new());
    hint(&mut peer).await;

    fleet.sessions.silence(true);
    // The store is asked every two seconds, so that the window has passed by the fourth time.
    until(|| fleet.sessions.ignored() >= 4).await;
    peer.published("room/1", text("served long after its window")).await;
    fleet.sessions.silence(false);

    peer.closes_with(1012).await;
    soon(is_done).await.expect("drained");
}
