//! Nodes that have more than their share of the clients.

use std::net::SocketAddr;
use std::time::Duration;

use tidewire_client::{Client, Happening, Options, ServerEvent, Since};
use tidewire_edge::{DrainConfig, EdgeConfig, PlacementConfig, RebalanceConfig};
use tidewire_model::Command;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::fleet::{API_KEY, Fleet, Running, soon, token};
use crate::peer::{Bystander, Peer, channel};

/// In a second up to half of what the node has, as soon as it has too many.
const HASTY: RebalanceConfig =
    RebalanceConfig { permille: 30_000, patience: Duration::from_millis(100) };
/// How long who was asked to go may take for it.
const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(500);
/// It is looked once a second, and a second is long on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

async fn two_nodes(window: Duration) -> Fleet {
    let placement = PlacementConfig { rebalance: Some(HASTY), ..PlacementConfig::default() };
    let drain = DrainConfig { window, ..DrainConfig::default() };
    Fleet::start(2, EdgeConfig { placement, drain, ..EdgeConfig::default() }).await
}

/// A client that has come to where too many are.
async fn subscriber(node: &Running) -> Client {
    let urls = vec![format!("ws://{}", node.address)];
    let options = Options { urls, ..Options::new("", token("ada")) };
    let mut client = soon(Client::connect(options)).await.expect("connected");
    client.subscribe(channel("room/1"), Since::Now);
    while !matches!(soon(client.next()).await.expect("goes on"), Happening::Subscribed(_)) {}
    client
}

/// Listens until it has heard as many publications as there were; what it heard, and how often it moved.
async fn listen(mut client: Client, mut last: watch::Receiver<Option<usize>>) -> (Vec<u64>, usize) {
    let (mut offsets, mut moves) = (Vec::new(), 0);
    while *last.borrow() != Some(offsets.len()) {
        tokio::select! {
            happening = client.next() => match happening.expect("goes on") {
                Happening::Publication { publication, .. } => {
                    offsets.push(publication.position.offset);
                }
                Happening::Connected { node, resumed, .. } => {
                    assert_eq!((node.as_str(), resumed), ("node-1", true));
                    moves += 1;
                }
                Happening::Subscribed(_) | Happening::Asked { .. } | Happening::Left => {}
                other => unreachable!("{other:?}"),
            },
            known = last.changed() => known.expect("said in the end"),
        }
    }
    (offsets, moves)
}

#[tokio::test]
async fn a_node_sheds_what_it_has_above_its_share_and_nobody_misses_anything() {
    const CLIENTS: usize = 100;
    /// Half of them, and what is tolerated above that.
    const SHARE: usize = 50;
    const TOLERATED: usize = 10;
    let fleet = two_nodes(LONG).await;
    let [full, empty] = &fleet.nodes[..] else { unreachable!("two nodes") };
    let mut bystander = Bystander::watch_at(empty).await;
    let (said, last) = watch::channel(None);
    let mut listeners = JoinSet::new();
    let mut gathered = Vec::new();
    for _ in 0..CLIENTS {
        gathered.push(subscriber(full).await);
    }
    for client in gathered {
        listeners.spawn(listen(client, last.clone()));
    }

    let (mut published, mut moments) = (0, interval(Duration::from_millis(50)));
    let publishing = async {
        while full.edge.connections() > SHARE + TOLERATED {
            moments.tick().await;
            let path = "/v1/acme/channels/room%2F1/publications";
            let (status, _) = empty.post(path, API_KEY, r#"{"data":1}"#).await;
            assert_eq!(status, 200);
            published += 1;
        }
    };
    timeout(PATIENCE, publishing).await.expect("its share comes");
    said.send(Some(published)).expect("they listen");

    let mut in_all = 0;
    while let Some(listener) = soon(listeners.join_next()).await {
        let (offsets, moves) = listener.expect("no listener panics");
        assert!(offsets.into_iter().eq(1..=published as u64));
        assert!(moves <= 1, "{moves} moves");
        in_all += moves;
    }
    let fair = CLIENTS - SHARE - TOLERATED..=CLIENTS - SHARE + TOLERATED;
    assert!(fair.contains(&in_all), "{in_all} of {CLIENTS} moved");
    bystander.is_undisturbed().await;
}

/// One test, because both make a node rest, and who rests is counted for all nodes together.
#[tokio::test]
async fn shedding_rests_where_clients_come_back_or_stay_and_those_are_served_on() {
    const CLIENTS: usize = 90;
    let fleet = two_nodes(LONG).await;
    let full = &fleet.nodes[0];
    let mut returning = JoinSet::new();
    for _ in 0..CLIENTS {
        returning.spawn(come_back(Peer::connect(full, "ada").await, full.address));
    }

    until_resting(full, 1.0).await;

    assert_eq!(fleet.nodes[1].edge.connections(), 0);
    Bystander::watch_at(full).await.is_undisturbed().await;

    let fleet = two_nodes(SHORT).await;
    let full = &fleet.nodes[0];
    let mut staying = Vec::new();
    for _ in 0..CLIENTS {
        staying.push(Peer::connect(full, "bob").await);
    }

    until_resting(full, 2.0).await;

    let mut asked = 0;
    for peer in &mut staying {
        let hints = hints(peer).await;
        assert!(hints <= 1, "one was asked {hints} times");
        asked += hints;
    }
    assert!(asked >= 20, "{asked} were asked");
}

/// How often it was asked to go, as it hears who is served still.
async fn hints(peer: &mut Peer) -> usize {
    let mut hints = 0;
    peer.send(Command::Ping);
    loop {
        match peer.next().await {
            ServerEvent::Reconnect { .. } => hints += 1,
            ServerEvent::Pong { .. } => return hints,
            other => unreachable!("{other:?}"),
        }
    }
}

/// Reads on, and resumes where it came from whenever it is asked to go.
async fn come_back(mut peer: Peer, full: SocketAddr) {
    loop {
        let event = peer.0.next().await.expect("served");
        if let ServerEvent::Reconnect { token, .. } = event {
            let again = Peer::resume_at(full, token, Vec::new()).await;
            std::mem::replace(&mut peer, again).close().await;
        }
    }
}

/// Waits until so many nodes rest.
async fn until_resting(node: &Running, count: f64) {
    let rests = async {
        loop {
            let metrics = node.get("/metrics").await.body;
            let metrics = String::from_utf8_lossy(&metrics).into_owned();
            let line = "tidewire_rebalance_resting ";
            let value = metrics.lines().find_map(|one| one.strip_prefix(line));
            if value.is_some_and(|value| value.parse::<f64>().expect("a number") >= count) {
                return;
            }
        }
    };
    timeout(PATIENCE, rests).await.expect("it rests");
}
