//! A running node: started, watched, drained.

pub(crate) mod adapters;
pub(crate) mod administration;
mod breakdown;
pub(crate) mod certificates;
pub(crate) mod descriptors;
pub(crate) mod dev;
pub(crate) mod inspection;
pub(crate) mod issuers;
pub(crate) mod listen;
mod load;
mod memory;
mod signals;
pub(crate) mod state_file;
pub(crate) mod telemetry;
pub(crate) mod threads;
mod watch;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
use axum::Router;
use parking_lot::Mutex;
use tidewire_auth::{Sealer, Vault, Verifier};
use tidewire_edge::{Edge, EdgeConfig, Fetch, JwksPace, Parts, Render, drain_router, ops_router};
use tidewire_model::{NodeId, Slot};
use tidewire_node::{LeaseReport, Node, NodeConfig, Ports, Tasks};
use tidewire_protocol_native::{JSON, PROTOBUF};
use tidewire_store::{NodeLease, NodeState, QuotaStore, RevocationStore, TicketStore};
use tidewire_tenant::Tenants;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use breakdown::Breakdowns;
use load::Meter;
use signals::Signals;
use threads::Threads;

/// Everything a node is made of, chosen and checked.
pub(crate) struct Plan {
    pub(crate) node: NodeConfig,
    pub(crate) edge: EdgeConfig,
    pub(crate) ports: Ports,
    pub(crate) quotas: Arc<dyn QuotaStore>,
    pub(crate) tenants: Tenants,
    pub(crate) verifier: Verifier,
    pub(crate) sealer: Sealer,
    pub(crate) revocations: Arc<dyn RevocationStore>,
    pub(crate) tickets: (Arc<dyn TicketStore>, Vault),
    pub(crate) render: Render,
    /// How the keys of issuers are fetched.
    pub(crate) fetch: Fetch,
    pub(crate) place: Place,
    /// Bytes it may use; nothing if the system is to say.
    pub(crate) memory_limit: Option<u64>,
}

/// Where a node stands among the others, as its lease says.
pub(crate) struct Place {
    pub(crate) slot: Slot,
    /// What it takes of the tenants; 100 is an ordinary node.
    pub(crate) weight: u32,
    /// Where clients of other nodes may be sent.
    pub(crate) advertise: Option<String>,
}

/// What a node has taken from the machine before it serves anybody: clients that connect wait.
pub(crate) struct Bound {
    listeners: Vec<TcpListener>,
    ops_listener: Option<TcpListener>,
    threads: Threads,
}

impl Bound {
    /// Starts `workers` threads that will serve clients, each with its share of them and of the
    /// channels, and takes the addresses where `clients` connect and operators do; without `ops`,
    /// their routes will be beside the clients'.
    ///
    /// # Errors
    ///
    /// When an address is taken, or the system has no more threads or descriptors.
    pub(crate) fn to(
        clients: SocketAddr,
        ops: Option<SocketAddr>,
        workers: NonZeroUsize,
    ) -> anyhow::Result<Self> {
        let threads = Threads::start(workers)?;
        let listeners = listen::on_each(clients, threads.runtimes())?;
        let ops_listener = ops.map(listen::on).transpose()?;
        Ok(Self { listeners, ops_listener, threads })
    }
}

/// How long tasks may take to end once the node has drained, if its deadline is not nearer; and at
/// least, because most end at once.
const LAST_TASKS: Duration = Duration::from_secs(5);
const LEAST_FOR_TASKS: Duration = Duration::from_millis(500);
/// How long a node may take to disconnect everybody when a part of it is gone: somewhat more than the
/// drain gives to goodbyes and to what follows them.
const BROKEN_DRAIN: Duration = Duration::from_secs(10);

/// A node that takes clients.
pub(crate) struct Server {
    /// Where clients reach it, with the port it really has.
    pub(crate) address: SocketAddr,
    /// Where operators reach it.
    pub(crate) ops_address: SocketAddr,
    node: Node,
    edge: Edge,
    ports: Ports,
    threads: Threads,
    breakdowns: Breakdowns,
    signals: Signals,
    tracker: TaskTracker,
    /// How long it may take to leave.
    deadline: Duration,
    /// Ends accepting connections.
    closing: CancellationToken,
    /// Ends everything else.
    stop: CancellationToken,
}

impl Server {
    /// Starts and serves where it is bound: clients on threads of its own, everything else on the
    /// current runtime. `extra` is served beside the clients' routes.
    ///
    /// From then on a panic anywhere in the process ends the node.
    pub(crate) fn start(bound: Bound, plan: Plan, extra: Router) -> anyhow::Result<Self> {
        let Plan { node, edge, ports, tenants, verifier, sealer, revocations, .. } = plan;
        let Plan { tickets, render, fetch, quotas, place, memory_limit, .. } = plan;
        let Bound { listeners, ops_listener, threads } = bound;
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let breakdowns = Breakdowns::listen();
        // Whoever sees that it serves may tell it to leave, before it has come to wait for that.
        let signals = Signals::listen()?;
        let address = listeners[0].local_addr()?;
        let ops_address = ops_listener.as_ref().map_or(Ok(address), TcpListener::local_addr)?;

        let running: Arc<OnceLock<Edge>> = Arc::default();
        let report = lease_report(node.id.clone(), place, Arc::clone(&running));
        let tasks = Tasks { runtimes: threads.runtimes(), tracker: &tracker, stop: &stop };
        let rules = tenants.rules().clone();
        let node = NodeConfig { shards: threads.runtimes().len(), rules, ..node };
        let (node, notices) = Node::start(node, ports.clone(), report, tasks);
        let parts = Parts {
            node: node.clone(),
            tenants,
            verifier: Arc::new(verifier),
            sealer: Arc::new(sealer),
            revocations,
            tickets,
            protocols: vec![JSON, PROTOBUF],
            tracker: tracker.clone(),
        };
        let deadline = edge.drain.deadline;
        let edge = Edge::new(edge, parts);
        drop(running.set(edge.clone()));
        let (follower, token) = (edge.clone(), stop.clone());
        tracker.spawn(async move { follower.follow_notices(notices, token).await });
        let (follower, token) = (edge.clone(), stop.clone());
        tracker.spawn(async move { follower.follow_revocations(token).await });
        let (keeper, token) = (edge.clone(), stop.clone());
        let pace = JwksPace::default();
        tracker.spawn(async move { keeper.keep_issuers(fetch, pace, token).await });
        tracker.spawn(watch::run(node.clone(), stop.clone()));
        let (keeper, token) = (edge.clone(), stop.clone());
        tracker.spawn(async move { keeper.keep_quotas(quotas, token).await });
        tracker.spawn(memory::watch(edge.clone(), memory_limit, stop.clone()));

        let closing = stop.child_token();
        let server = Self {
            address,
            ops_address,
            node,
            edge,
            ports,
            threads,
            breakdowns,
            signals,
            tracker,
            deadline,
            closing,
            stop,
        };
        server.serve(listeners, ops_listener, (extra, render));
        telemetry::set_state("ready");
        Ok(server)
    }

    /// Serves clients on every thread, and operators on the current runtime or beside the clients.
    fn serve(
        &self,
        listeners: Vec<TcpListener>,
        ops_listener: Option<TcpListener>,
        (extra, render): (Router, Render),
    ) {
        let (edge, stop) = (self.edge.clone(), self.stop.clone());
        self.tracker.spawn(async move { edge.rebalance(stop).await });
        let ops_routes = ops_router(self.edge.clone(), render);
        let mut routes = self.edge.router().merge(extra);
        match ops_listener {
            None => routes = routes.merge(ops_routes),
            Some(listener) => {
                // Beside the clients' routes anybody could make the node leave.
                let ops_routes = ops_routes.merge(drain_router(self.edge.clone()));
                let (edge, stop) = (self.edge.clone(), self.stop.clone());
                let serving = async move { edge.serve_http(listener, ops_routes, stop).await };
                self.tracker.spawn(serving);
            }
        }
        for (runtime, listener) in self.threads.runtimes().iter().zip(listeners) {
            let (edge, reporter) = (self.edge.clone(), self.breakdowns.reporter());
            let (routes, closing) = (routes.clone(), self.closing.clone());
            let serving = async move {
                if let Err(error) = edge.serve(listener, routes, closing).await {
                    reporter.report(format!("a worker cannot start: {error}; {}", threads::REMEDY));
                }
            };
            self.tracker.spawn_on(serving, runtime);
        }
    }

    pub(crate) fn node_id(&self) -> &NodeId {
        self.node.id()
    }

    /// Threads that serve clients.
    pub(crate) fn workers(&self) -> usize {
        self.threads.runtimes().len()
    }

    /// Serves until the first signal, or until an operator asks it to leave, then drains. A second signal
    /// skips to disconnecting whoever is left; the first one of a node that an operator has asked, which is
    /// how Kubernetes ends a pod after its hook, does not.
    ///
    /// # Errors
    ///
    /// When a part of the node broke down, before or during the drain. Whoever is left has then been
    /// disconnected at once.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let served = tokio::select! {
            signal = self.signals.next() => {
                tracing::info!(signal, "leaving");
                Ok(Asked::BySignal)
            }
            () = self.edge.asked_to_leave() => {
                tracing::info!("leaving: an operator has asked for it");
                Ok(Asked::ByOperator)
            }
            breakdown = self.breakdowns.next() => Err(breakdown),
        };
        telemetry::set_state("draining");
        let gone_by = Instant::now() + self.deadline;
        let left = match served {
            Ok(asked) => self.drain(asked).await,
            Err(breakdown) => Err(breakdown),
        };
        if let Err(breakdown) = &left {
            tracing::error!(breakdown, "disconnecting everybody: a part of the node is gone");
            self.disconnect_everybody().await;
        }
        self.stop(gone_by).await;
        left.map_err(|breakdown| anyhow!(breakdown))
    }

    /// Drains. Yields what broke down meanwhile, and is not through with it then.
    async fn drain(&mut self, mut asked: Asked) -> Result<(), String> {
        let hurry = CancellationToken::new();
        let drain = self.edge.drain(&hurry);
        tokio::pin!(drain);
        loop {
            tokio::select! {
                () = &mut drain => return Ok(()),
                signal = self.signals.next() => match asked {
                    Asked::ByOperator => {
                        tracing::info!(signal, "leaving already; the next disconnects everybody");
                        asked = Asked::BySignal;
                    }
                    Asked::BySignal => {
                        tracing::warn!(signal, "second signal: disconnecting everybody now");
                        hurry.cancel();
                    }
                },
                breakdown = self.breakdowns.next() => return Err(breakdown),
            }
        }
    }

    async fn disconnect_everybody(&self) {
        let hurry = CancellationToken::new();
        hurry.cancel();
        if tokio::time::timeout(BROKEN_DRAIN, self.edge.drain(&hurry)).await.is_err() {
            tracing::warn!("some clients were not disconnected in time");
        }
    }

    /// Ends every task, takes leave of the broker, so that what they published is sent, and ends the
    /// threads.
    async fn stop(self, gone_by: Instant) {
        self.closing.cancel();
        self.stop.cancel();
        self.tracker.close();
        let patience = (gone_by - Instant::now()).clamp(LEAST_FOR_TASKS, LAST_TASKS);
        if tokio::time::timeout(patience, self.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = self.tracker.len(), "some tasks did not end in time");
        }
        self.ports.broker.close().await;
        self.threads.end().await;
        telemetry::set_state("stopped");
        tracing::info!("gone");
    }
}

/// Who has told a node to leave so far.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Asked {
    ByOperator,
    BySignal,
}

/// What the node's lease says, once there is an edge to ask.
fn lease_report(node: NodeId, place: Place, edge: Arc<OnceLock<Edge>>) -> LeaseReport {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let started_at_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
    let meter = Mutex::new(Meter::new(Instant::now()));
    Box::new(move || {
        let edge = edge.get();
        let seen = edge.map(Edge::take_load).unwrap_or_default();
        let load = meter.lock().look(Instant::now(), seen);
        let is_draining = edge.is_some_and(Edge::is_draining);
        NodeLease {
            node: node.clone(),
            slot: Some(place.slot.clone()),
            state: if is_draining { NodeState::Draining } else { NodeState::Ready },
            weight: place.weight,
            connections: edge.map_or(0, |edge| edge.connections() as u64),
            started_at_ms,
            beats: false,
            load,
            url: place.advertise.clone(),
        }
    })
}
