//! N nodes that share a log, a network and a store, each with a listener for clients and one for
//! operators.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Method, StatusCode};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tidewire_auth::{
    ApiKey, ApiKeyId, Claims, KeyId, KeyRing, SealKey, Sealer, SigningKey, TenantKeys, Vault,
    VerificationKey, Verifier,
};
use tidewire_broker::{Broker, Log, MemoryBroker, MemoryNetwork, News, Notice};
use tidewire_edge::{Edge, EdgeConfig, Parts, drain_router, ops_router};
use tidewire_model::{
    Action, ChannelRules, Filter, LiveRules, NodeId, Permissions, SessionKind, Tenant, UserId,
};
use tidewire_node::{LeaseReport, Node, NodeConfig, Ports, Tasks};
use tidewire_protocol_native::{JSON, PROTOBUF};
use tidewire_store::{
    MemoryMembership, MemoryPresence, MemoryQuotaStore, MemoryRevocationStore, NodeLease, NodeLoad,
    NodeState,
};
use tidewire_tenant::{TenantDetails, Tenants};
use tidewire_testkit::SwitchedLog;
use tidewire_transport::http::{Response, request};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::switched_store::SwitchedStore;
use crate::tickets::SwitchedTickets;

/// The tenants there are.
pub(crate) const TENANT: &str = "acme";
pub(crate) const OTHER_TENANT: &str = "umbrella";
/// May publish to `room/*` and to names of one level.
pub(crate) const API_KEY: &str = "acme-key.0123456789abcdef0123456789abcdef";
pub(crate) const OTHER_API_KEY: &str = "umbrella-key.fedcba9876543210fedcba9876543210";
/// Nothing in these tests takes longer than a moment; this is when to give up.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Fleet {
    pub(crate) nodes: Vec<Running>,
    pub(crate) log: Arc<SwitchedLog>,
    pub(crate) sessions: Arc<SwitchedStore>,
    pub(crate) presence: Arc<MemoryPresence>,
    quotas: Arc<MemoryQuotaStore>,
    network: MemoryNetwork,
    rules: LiveRules,
    pub(crate) revocations: Arc<MemoryRevocationStore>,
    pub(crate) tickets: Arc<SwitchedTickets>,
    /// Of all nodes.
    pub(crate) tenants: Tenants,
    /// Where the shards of each node run.
    runtimes: Vec<Handle>,
    tracker: TaskTracker,
    stop: CancellationToken,
    _stop: DropGuard,
}

/// A node that takes clients.
pub(crate) struct Running {
    pub(crate) edge: Edge,
    pub(crate) address: SocketAddr,
    pub(crate) ops: SocketAddr,
    pub(crate) tenants: Tenants,
}

impl Fleet {
    /// One node as it comes.
    pub(crate) async fn one() -> Self {
        Self::start(1, EdgeConfig::default()).await
    }

    pub(crate) async fn start(nodes: usize, config: EdgeConfig) -> Self {
        Self::of(nodes, config, tenants(ChannelRules::default(), SessionKind::Lazy)).await
    }

    /// Nodes that treat their tenants in some way.
    pub(crate) async fn of(nodes: usize, config: EdgeConfig, tenants: Tenants) -> Self {
        Self::ruled(nodes, LiveRules::default(), (config, tenants)).await
    }

    /// As [`of`](Self::of), where the engine goes by rules too.
    pub(crate) async fn ruled(
        nodes: usize,
        rules: LiveRules,
        (config, tenants): (EdgeConfig, Tenants),
    ) -> Self {
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut fleet = Self {
            nodes: Vec::new(),
            log: Arc::new(SwitchedLog::new(10_000).with_rules(rules.clone())),
            sessions: Arc::default(),
            presence: Arc::default(),
            quotas: Arc::default(),
            network: MemoryNetwork::default(),
            rules,
            revocations: Arc::default(),
            tickets: Arc::default(),
            tenants,
            runtimes: vec![Handle::current()],
            tracker,
            _stop: stop.clone().drop_guard(),
            stop,
        };
        let membership = Arc::new(MemoryMembership::default());
        for index in 0..nodes {
            let id = node_id(index);
            let ports = fleet.ports(&id, &membership);
            let tenants = fleet.tenants.clone();
            let running = fleet.run(id, ports, (config.clone(), tenants)).await;
            fleet.nodes.push(running);
        }
        fleet
    }

    /// Tells a node what another node would.
    pub(crate) fn notify(&self, index: usize, notice: &Notice) {
        let stranger = MemoryBroker::new(self.network.clone(), node_id(99));
        stranger.notify(&node_id(index), notice);
    }

    /// Tells all nodes what another node would.
    pub(crate) fn notify_all(&self, news: News) {
        let stranger = MemoryBroker::new(self.network.clone(), node_id(99));
        stranger.notify_all(news);
    }

    fn ports(&self, id: &NodeId, membership: &Arc<MemoryMembership>) -> Ports {
        Ports {
            log: Arc::clone(&self.log) as Arc<dyn Log>,
            broker: Arc::new(MemoryBroker::new(self.network.clone(), id.clone())),
            sessions: Arc::clone(&self.sessions) as _,
            membership: Arc::clone(membership) as _,
            presence: Arc::clone(&self.presence) as _,
        }
    }

    /// Nodes that know their tenants each by itself, none at first.
    pub(crate) async fn of_strangers(nodes: usize) -> Self {
        let mut fleet = Self::of(0, EdgeConfig::default(), Tenants::default()).await;
        let membership = Arc::new(MemoryMembership::default());
        for index in 0..nodes {
            let id = node_id(index);
            let ports = fleet.ports(&id, &membership);
            let alone = (EdgeConfig::default(), Tenants::default());
            let running = fleet.run(id, ports, alone).await;
            fleet.nodes.push(running);
        }
        fleet
    }

    /// A node of two shards, of which the first runs on `runtime`.
    pub(crate) async fn with_first_shard_on(runtime: Handle) -> Self {
        let mut fleet = Self::of(0, EdgeConfig::default(), Tenants::default()).await;
        fleet.runtimes.insert(0, runtime);
        fleet.tenants = tenants(ChannelRules::default(), SessionKind::Lazy);
        let id = node_id(0);
        let ports = fleet.ports(&id, &Arc::new(MemoryMembership::default()));
        let with = (EdgeConfig::default(), fleet.tenants.clone());
        let running = fleet.run(id, ports, with).await;
        fleet.nodes.push(running);
        fleet
    }

    async fn run(
        &self,
        id: NodeId,
        ports: Ports,
        (config, tenants): (EdgeConfig, Tenants),
    ) -> Running {
        let rules = self.rules.clone();
        let shards = self.runtimes.len();
        let node_config = NodeConfig { shards, rules, ..NodeConfig::new(id.clone()) };
        let (tracker, stop) = (&self.tracker, &self.stop);
        let (listener, address) = listen().await;
        let metrics = metrics();
        let running: Arc<OnceLock<Edge>> = Arc::default();
        let (node, notices) = Node::start(
            node_config,
            ports,
            report(id, address, Arc::clone(&running)),
            Tasks { runtimes: &self.runtimes, tracker, stop },
        );
        let built_on = Parts {
            node,
            tenants: tenants.clone(),
            verifier: Arc::new(Verifier::new(tenants.ring().clone())),
            sealer: Arc::new(Sealer::new(&[SealKey::from_bytes([7; 32])]).expect("sealer")),
            revocations: Arc::clone(&self.revocations) as _,
            tickets: (Arc::clone(&self.tickets) as _, vault()),
            protocols: vec![JSON, PROTOBUF],
            tracker: tracker.clone(),
        };
        let edge = Edge::new(config, built_on);
        drop(running.set(edge.clone()));
        let (ops_listener, ops) = listen().await;
        let ops_routes = ops_router(edge.clone(), Arc::new(move || metrics.render()));
        let ops_routes = ops_routes.merge(drain_router(edge.clone()));
        let (operators, token) = (edge.clone(), stop.clone());
        tracker.spawn(async move { operators.serve_http(ops_listener, ops_routes, token).await });
        let (clients, routes, token) = (edge.clone(), edge.router(), stop.clone());
        tracker.spawn(async move {
            clients.serve(listener, routes, token).await.expect("descriptors for a worker");
        });
        let (follower, token) = (edge.clone(), stop.clone());
        tracker.spawn(async move { follower.follow_notices(notices, token).await });
        let (keeper, quotas, token) = (edge.clone(), Arc::clone(&self.quotas), stop.clone());
        tracker.spawn(async move { keeper.keep_quotas(quotas, token).await });
        let (follower, token) = (edge.clone(), stop.clone());
        tracker.spawn(async move { follower.follow_revocations(token).await });
        let (shedder, stop) = (edge.clone(), stop.clone());
        tracker.spawn(async move { shedder.rebalance(stop).await });
        Running { edge, address, ops, tenants }
    }

    /// Runs something beside the test.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }
}

impl Running {
    pub(crate) async fn get(&self, path: &str) -> Response {
        let url = format!("http://{}{path}", self.ops);
        request(Method::GET, &url, &[], Bytes::new()).await.expect("an answer")
    }

    /// Sends what a server sends, and reads the answer as a status and JSON.
    pub(crate) async fn post(
        &self,
        path: &str,
        key: &str,
        body: impl Into<Bytes>,
    ) -> (StatusCode, serde_json::Value) {
        let url = format!("http://{}{path}", self.address);
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let answer = request(Method::POST, &url, &headers, body).await.expect("an answer");
        (answer.status, serde_json::from_slice(&answer.body).expect("json"))
    }
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    // As those of `tidewire serve` do.
    let socket = socket2::SockRef::from(&listener);
    socket.set_tcp_notsent_lowat(128 * 1_024).expect("an option of sockets");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

fn vault() -> Vault {
    Vault::new(&[SealKey::from_bytes([7; 32])]).expect("vault")
}

/// There can be one recorder in a process, so the tests share it.
fn metrics() -> PrometheusHandle {
    static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
    METRICS
        .get_or_init(|| PrometheusBuilder::new().install_recorder().expect("the first recorder"))
        .clone()
}

fn report(node: NodeId, address: SocketAddr, edge: Arc<OnceLock<Edge>>) -> LeaseReport {
    Box::new(move || NodeLease {
        node: node.clone(),
        slot: None,
        state: NodeState::Ready,
        weight: 100,
        connections: edge.get().map_or(0, |edge| edge.connections() as u64),
        started_at_ms: 0,
        beats: false,
        load: NodeLoad::default(),
        url: Some(format!("ws://{address}")),
    })
}

/// The tenants there are, of which the first has these rules and keeps its sessions so.
pub(crate) fn tenants(rules: ChannelRules, sessions: SessionKind) -> Tenants {
    tenants_with(rules, TenantDetails { sessions, ..TenantDetails::default() })
}

/// The tenants there are, of which the first has these rules and details.
pub(crate) fn tenants_with(rules: ChannelRules, details: TenantDetails) -> Tenants {
    let keys = [(TENANT, API_KEY), (OTHER_TENANT, OTHER_API_KEY)].map(|(tenant, api_key)| {
        let key = VerificationKey::from_secret(key_id(tenant), secret(tenant).as_bytes());
        let (id, secret) = api_key.split_once('.').expect("id.secret");
        let id = ApiKeyId::parse(id).expect("id");
        let filters = ["room/*", "*"].map(|filter| Filter::parse(filter).expect("filter"));
        let permissions = filters.into_iter().fold(Permissions::default(), |granted, filter| {
            granted.grant(filter, [Action::Publish, Action::Presence])
        });
        TenantKeys {
            tenant: Tenant::parse(tenant).expect("tenant"),
            keys: vec![key.expect("key")],
            api_keys: vec![ApiKey::from_secret(id, secret, permissions).expect("api key")],
            issuer: None,
        }
    });
    let first = Tenant::parse(TENANT).expect("tenant");
    Tenants::new(KeyRing::new(keys).expect("ring"), rules, [(first, details)])
}

pub(crate) fn key_id(tenant: &str) -> KeyId {
    KeyId::parse(tenant).expect("key id")
}

pub(crate) fn secret(tenant: &str) -> String {
    format!("{tenant:_<32}")
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after the epoch").as_secs()
}

/// A token of `user` in [`TENANT`] that may do everything for an hour.
pub(crate) fn token(user: &str) -> String {
    sign(TENANT, &claims(TENANT, user))
}

pub(crate) fn claims(tenant: &str, user: &str) -> Claims {
    Claims {
        tenant: Some(Tenant::parse(tenant).expect("tenant")),
        user: UserId::parse(user).expect("user"),
        audience: vec![Verifier::DEFAULT_AUDIENCE.into()],
        expires_at: now() + 3_600,
        not_before: None,
        issued_at: None,
        token_id: None,
        permissions: Permissions::all(),
    }
}

/// Signs with the key of `tenant`, whatever the claims say.
pub(crate) fn sign(tenant: &str, claims: &Claims) -> String {
    let key = SigningKey::from_secret(Some(key_id(tenant)), secret(tenant).as_bytes());
    key.expect("key").sign(claims)
}

/// Waits until something outside of the test's connections has come about.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    soon(async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Lets everything happen that can happen now: all tasks of a test take turns on its one thread.
pub(crate) async fn settle() {
    for _ in 0..2_000 {
        tokio::task::yield_now().await;
    }
}

/// Waits for what must happen soon.
#[track_caller]
pub(crate) fn soon<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        match timeout(PATIENCE, future).await {
            Ok(value) => value,
            Err(_) => unreachable!("nothing happened at {caller}"),
        }
    }
}

fn node_id(index: usize) -> NodeId {
    NodeId::parse(&format!("node-{index}")).expect("node")
}
