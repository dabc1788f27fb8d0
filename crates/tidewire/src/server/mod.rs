//! A running node: started, watched, drained.

pub(crate) mod adapters;
pub(crate) mod dev;
mod signals;
pub(crate) mod telemetry;
mod watch;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use axum::Router;
use tidewire_auth::{Sealer, Verifier};
use tidewire_edge::{Edge, EdgeConfig, Parts, Render, ops_router};
use tidewire_model::NodeId;
use tidewire_node::{LeaseReport, Node, NodeConfig, Ports};
use tidewire_protocol_native::{JSON, PROTOBUF};
use tidewire_store::{NodeLease, NodeState};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Everything a node is made of, chosen and checked.
pub(crate) struct Plan {
    pub(crate) node: NodeConfig,
    pub(crate) edge: EdgeConfig,
    pub(crate) ports: Ports,
    pub(crate) verifier: Verifier,
    pub(crate) sealer: Sealer,
    pub(crate) render: Render,
    /// Where clients connect.
    pub(crate) listen: SocketAddr,
    /// Where operators connect; `None` puts their routes beside the clients'.
    pub(crate) ops: Option<SocketAddr>,
}

/// How long tasks may take to end once the node has drained. With the drain's own goodbyes and the
/// broker's leave it stays within the margin that the chart and the compose file add to the deadline.
const LAST_TASKS: Duration = Duration::from_secs(5);

/// A node that takes clients.
pub(crate) struct Server {
    /// Where clients reach it, with the port it really has.
    pub(crate) address: SocketAddr,
    /// Where operators reach it.
    pub(crate) ops_address: SocketAddr,
    node: Node,
    edge: Edge,
    ports: Ports,
    tracker: TaskTracker,
    /// Ends accepting connections.
    closing: CancellationToken,
    /// Ends everything else.
    stop: CancellationToken,
}

impl Server {
    /// Binds, starts and serves, on the current runtime. `extra` is served beside the clients' routes.
    pub(crate) fn start(plan: Plan, extra: Router) -> anyhow::Result<Self> {
        let Plan { node, edge, ports, verifier, sealer, render, listen, ops } = plan;
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let closing = stop.child_token();
        let listener = bind(listen)?;
        let ops_listener = match ops {
            Some(ops) => Some(bind(ops)?),
            None => None,
        };
        let address = listener.local_addr()?;
        let ops_address = ops_listener.as_ref().map_or(Ok(address), TcpListener::local_addr)?;

        let running: Arc<OnceLock<Edge>> = Arc::default();
        let report = lease_report(node.id.clone(), Arc::clone(&running));
        let (node, notices) = Node::start(node, ports.clone(), report, &tracker, &stop);
        let edge = Edge::new(
            edge,
            Parts {
                node: node.clone(),
                verifier: Arc::new(verifier),
                sealer: Arc::new(sealer),
                protocols: vec![JSON, PROTOBUF],
                tracker: tracker.clone(),
            },
        );
        drop(running.set(edge.clone()));

        let ops_routes = ops_router(edge.clone(), render);
        let mut routes = edge.router().merge(extra);
        match ops_listener {
            None => routes = routes.merge(ops_routes),
            Some(listener) => {
                let (edge, stop) = (edge.clone(), stop.clone());
                tracker.spawn(async move { edge.serve(listener, ops_routes, stop).await });
            }
        }
        let (clients, token) = (edge.clone(), closing.clone());
        tracker.spawn(async move { clients.serve(listener, routes, token).await });
        let (follower, token) = (edge.clone(), stop.clone());
        tracker.spawn(async move { follower.follow_notices(notices, token).await });
        tracker.spawn(watch::run(node.clone(), stop.clone()));
        telemetry::set_state("ready");
        Ok(Self { address, ops_address, node, edge, ports, tracker, closing, stop })
    }

    pub(crate) fn node_id(&self) -> &NodeId {
        self.node.id()
    }

    /// Serves until the first signal, then drains. A second signal skips to disconnecting whoever
    /// is left.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut signals = signals::Signals::listen()?;
        let signal = signals.next().await;
        tracing::info!(signal, "leaving");
        telemetry::set_state("draining");
        let hurry = CancellationToken::new();
        {
            let drain = self.edge.drain(&hurry);
            tokio::pin!(drain);
            loop {
                tokio::select! {
                    () = &mut drain => break,
                    signal = signals.next() => {
                        tracing::warn!(signal, "second signal: disconnecting everybody now");
                        hurry.cancel();
                    }
                }
            }
        }
        self.stop().await;
        Ok(())
    }

    /// Ends every task, then takes leave of the broker, so that what they published is sent.
    async fn stop(self) {
        self.closing.cancel();
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(LAST_TASKS, self.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = self.tracker.len(), "some tasks did not end in time");
        }
        self.ports.broker.close().await;
        telemetry::set_state("stopped");
        tracing::info!("gone");
    }
}

/// Connections the kernel holds for us until we accept them. When a whole fleet comes back at once, one
/// that does not fit waits a second for the kernel's next try.
const BACKLOG: u32 = 4_096;

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        // A node that starts again must not wait for the connections of its last life to be over.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().with_context(|| format!("cannot listen on {address}"))
}

/// What the node's lease says, once there is an edge to ask.
fn lease_report(node: NodeId, edge: Arc<OnceLock<Edge>>) -> LeaseReport {
    const ORDINARY: u32 = 100;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let started_at_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
    Box::new(move || {
        let is_draining = edge.get().is_some_and(Edge::is_draining);
        NodeLease {
            node: node.clone(),
            state: if is_draining { NodeState::Draining } else { NodeState::Ready },
            weight: ORDINARY,
            connections: edge.get().map_or(0, |edge| edge.connections() as u64),
            started_at_ms,
        }
    })
}
