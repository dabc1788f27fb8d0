//! Lines between services which can fall silent or be turned elsewhere, and two NATS servers that are
//! one cluster over such a line.

use std::net::SocketAddr;

use tidewire_testkit::services::{NatsServer, free_port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Servers of one cluster, `far` connected to `near` by a line of its own.
pub(crate) async fn bridged() -> (NatsServer, NatsServer, Line) {
    let [near_port, far_port] = [free_port(), free_port()];
    let near = server(near_port, None).await;
    let line = Line::to(([127, 0, 0, 1], near_port).into()).await;
    let far = server(far_port, Some(line.address)).await;
    (near, far, line)
}

async fn server(port: u16, route: Option<SocketAddr>) -> NatsServer {
    let cluster = format!("nats://127.0.0.1:{port}");
    let routes = route.map(|address| format!("nats://{address}"));
    // Nodes are to know only the server they were given.
    let mut arguments = vec!["--cluster_name", "test", "--cluster", &cluster, "--no_advertise"];
    arguments.extend(routes.iter().flat_map(|routes| ["--routes", routes]));
    NatsServer::with_arguments(&arguments).await
}

/// A line to one address, which carries bytes in both directions until it is silenced.
pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    target: watch::Sender<SocketAddr>,
    state: watch::Sender<State>,
    _accepting: JoinSet<()>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    Open,
    /// What is sent is taken and goes nowhere; connections stay.
    Silent,
}

impl Line {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (state, target) = (watch::Sender::new(State::Open), watch::Sender::new(target));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, target.subscribe(), state.clone()));
        Self { address, target, state, _accepting: accepting }
    }

    /// Connections that are made from now on lead there.
    pub(crate) fn turn_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    pub(crate) fn silence(&self) {
        self.state.send_replace(State::Silent);
    }

    /// Ends the connections that have missed something, and carries what is made anew.
    pub(crate) fn mend(&self) {
        self.state.send_replace(State::Open);
    }
}

async fn accept(
    listener: TcpListener,
    target: watch::Receiver<SocketAddr>,
    state: watch::Sender<State>,
) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let target = *target.borrow();
        let Ok(far) = TcpStream::connect(target).await else { continue };
        let (from_near, to_near) = near.into_split();
        let (from_far, to_far) = far.into_split();
        let states = [state.subscribe(), state.subscribe()];
        let [out, back] = states;
        connections.spawn(async move {
            // When one direction ends, the connection has ended.
            tokio::select! {
                () = carry(from_near, to_far, out) => {}
                () = carry(from_far, to_near, back) => {}
            }
        });
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut bytes = vec![0; 16 * 1_024];
    let mut was_silent = *state.borrow_and_update() == State::Silent;
    loop {
        tokio::select! {
            changed = state.changed() => {
                let is_silent = *state.borrow_and_update() == State::Silent;
                if changed.is_err() || (was_silent && !is_silent) {
                    return;
                }
                was_silent = is_silent;
            }
            read = from.read(&mut bytes) => {
                let Ok(count @ 1..) = read else { return };
                if !was_silent && to.write_all(&bytes[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}
