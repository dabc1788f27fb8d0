use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::http::HeaderMap;
use tidewire_auth::{Refusal, ResumeClaims, Sealer, Vault, Verifier};
use tidewire_broker::{News, Notice};
use tidewire_model::{
    ChannelGrant, ErrorCode, Failure, Identity, Limit, SessionKind, Tenant, TenantLimits, Token,
};
use tidewire_node::{Node, OwnedSession};
use tidewire_protocol::Descriptor;
use tidewire_session::Wish;
use tidewire_store::{RevocationStore, TicketStore};
use tidewire_tenant::Tenants;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::door::{Door, Peer};
use crate::drain::{Phase, Progress};
use crate::jwks::{Fetch, Jwks, JwksPace, Keeper};
use crate::load::Arrivals;
use crate::metrics::Metrics;
use crate::news::NewsDesk;
use crate::pressure::Memory;
use crate::rebalance::Moves;
use crate::registry::{Registry, WorkerHandle};
use crate::revocations::RevocationList;
use crate::tenancy::{Allowance, Allowances};
use crate::tickets::Tickets;
use crate::worker::Worker;
use crate::{EdgeConfig, WhenCutOff, handshake, listener, metrics, router};

/// When whoever was refused for it may try here again.
const WHEN_CUT_OFF: Duration = Duration::from_secs(5);

/// The network face of a node: a cheap handle on its connections.
#[derive(Clone)]
pub struct Edge(pub(crate) Arc<Shared>);

/// What an edge is built from.
pub struct Parts {
    pub node: Node,
    /// Whose clients may come; the verifier has its keys from there, and the node its rules.
    pub tenants: Tenants,
    pub verifier: Arc<Verifier>,
    pub sealer: Arc<Sealer>,
    /// What was revoked, for all nodes; what is read there holds for the verifier.
    pub revocations: Arc<dyn RevocationStore>,
    /// One-time tickets, for all nodes, and what seals what they stand for.
    pub tickets: (Arc<dyn TicketStore>, Vault),
    /// The protocols on offer; a client that asks for none gets the first.
    pub protocols: Vec<Descriptor>,
    /// Every connection runs on it; whoever made it waits for it.
    pub tracker: TaskTracker,
}

pub(crate) struct Shared {
    pub(crate) config: EdgeConfig,
    pub(crate) node: Node,
    pub(crate) tenants: Tenants,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) protocols: Vec<Descriptor>,
    pub(crate) tracker: TaskTracker,
    pub(crate) registry: Registry,
    pub(crate) phase: tokio::sync::watch::Sender<Phase>,
    pub(crate) progress: Progress,
    /// The node has been asked to leave.
    pub(crate) leave: CancellationToken,
    /// One permit per connection that may still come. Whoever has one, from its upgrade to the end
    /// of its goodbye, is still here.
    pub(crate) room: Arc<Semaphore>,
    most_connections: u32,
    pub(crate) metrics: Metrics,
    /// Connections with a session, over all workers.
    pub(crate) connections: AtomicUsize,
    pub(crate) allowances: Allowances,
    pub(crate) arrivals: Arrivals,
    pub(crate) revocations: RevocationList,
    pub(crate) tickets: Tickets,
    /// Everybody counts time from here who shares something that is earned with time.
    pub(crate) began: Instant,
    pub(crate) news: NewsDesk,
    pub(crate) jwks: Jwks,
    pub(crate) door: Door,
    pub(crate) memory: Memory,
    pub(crate) moves: Moves,
}

/// How long a resume token can be used. The session itself ends earlier: a while after its
/// connection.
const RESUME_TOKEN_SECONDS: u64 = 7 * 24 * 60 * 60;

impl Edge {
    pub fn new(config: EdgeConfig, parts: Parts) -> Self {
        let Parts { node, tenants, verifier, sealer, revocations, .. } = parts;
        let Parts { tickets: (tickets, vault), protocols, tracker, .. } = parts;
        let revocations = RevocationList::new(revocations, verifier.revocations().clone());
        let most_connections = u32::try_from(config.max_connections).unwrap_or(u32::MAX);
        let room = Arc::new(Semaphore::new(most_connections as usize));
        let metrics = Metrics::new(config.tenant_metrics);
        let door = Door::new(&config.door);
        Self(Arc::new(Shared {
            config,
            node,
            tenants,
            verifier,
            sealer,
            protocols,
            tracker,
            registry: Registry::default(),
            phase: tokio::sync::watch::Sender::new(Phase::Serving),
            progress: Progress::default(),
            leave: CancellationToken::new(),
            room,
            most_connections,
            metrics,
            connections: AtomicUsize::new(0),
            allowances: Allowances::default(),
            arrivals: Arrivals::default(),
            revocations,
            tickets: Tickets::new(tickets, vault),
            began: Instant::now(),
            news: NewsDesk::default(),
            jwks: Jwks::default(),
            door,
            memory: Memory::default(),
            moves: Moves::default(),
        }))
    }

    /// The routes for clients and for servers with an API key.
    pub fn router(&self) -> Router {
        router::router(self.clone())
    }

    /// Accepts connections for `router` until `stop`, and serves clients with a worker of this
    /// listener's own, on the current runtime: for a node of several threads, one call on each.
    ///
    /// A tenth of [`EdgeConfig::max_connections`], and 64 at least, may be plain HTTP at once; a
    /// WebSocket does not count. Further ones take the place of one that has asked nothing for a
    /// second, or wait two seconds for another and are then closed; those beyond as many wait in the
    /// kernel's backlog. Each listener counts for itself, so that clients do not keep
    /// operators out. After `stop` it goes on serving until everybody has left.
    ///
    /// # Errors
    ///
    /// When the system has no descriptors for the worker, and if the worker fails: its clients are
    /// gone then, and the process is to end.
    pub async fn serve(
        &self,
        listener: TcpListener,
        router: Router,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let (worker, handle) = Worker::new(Arc::clone(&self.0))?;
        let mut worker = self.0.tracker.spawn(worker.run(stop.clone()));
        let ended = tokio::select! {
            () = self.accept(listener, router, (Some(handle), stop)) => worker.await,
            ended = &mut worker => ended,
        };
        ended.map_err(io::Error::other)
    }

    /// Accepts plain HTTP for `router` until `stop`: for operators.
    pub async fn serve_http(&self, listener: TcpListener, router: Router, stop: CancellationToken) {
        self.accept(listener, router, (None, stop)).await;
    }

    async fn accept(
        &self,
        listener: TcpListener,
        router: Router,
        (worker, stop): (Option<WorkerHandle>, CancellationToken),
    ) {
        let most = self.0.config.max_http_connections();
        // Operators are on a network of their own.
        let tls = worker.as_ref().and(self.0.config.tls.clone());
        let served = (router, worker.map(|worker| (self.clone(), worker)));
        listener::serve(&self.0.tracker, (listener, most), served, tls, stop).await;
    }

    /// Does what other nodes say, until `stop`: lets go of sessions that have moved elsewhere, and
    /// [asks to leave](Self::asked_to_leave), and passes [news](Self::news) on.
    pub async fn follow_notices(
        &self,
        mut notices: mpsc::Receiver<Notice>,
        stop: CancellationToken,
    ) {
        loop {
            let notice = tokio::select! {
                () = stop.cancelled() => return,
                notice = notices.recv() => notice,
            };
            match notice {
                Some(Notice::SessionMoved { tenant, session, generation }) => {
                    self.0.registry.let_go(&tenant, session, generation).await;
                }
                Some(Notice::Drain) => self.ask_to_leave(),
                Some(Notice::News(news)) => self.0.news.tell(news),
                None => return,
            }
        }
    }

    /// Waits until another node has told of news since the last time this was waited for: for one who
    /// reads them. Some are told twice and some never, so that who reads them also looks from time to
    /// time. Cancel-safe.
    pub async fn news(&self, of: News) {
        self.0.news.told(of).await;
    }

    /// Fetches what issuers of tokens publish, again and again until `stop`. Once for each edge: a second
    /// call does nothing.
    pub async fn keep_issuers(&self, fetch: Fetch, pace: JwksPace, stop: CancellationToken) {
        let tenants = self.0.tenants.clone();
        if let Some(keeper) = Keeper::new(&self.0.jwks, tenants, (fetch, pace)) {
            keeper.run(stop).await;
        }
    }

    /// Connections with a session, now.
    pub fn connections(&self) -> usize {
        self.0.connections.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Waits until every handshake and every connection has ended, goodbyes included.
    ///
    /// Takes the room of those who might come meanwhile: for a node that takes nobody any more.
    pub(crate) async fn emptied(&self) {
        let room = self.room.acquire_many(self.most_connections).await;
        drop(room.expect("the semaphore is never closed"));
    }

    /// How long the edge has been there, at `now`.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// What a tenant may have and ask now.
    pub(crate) fn limits_of(&self, tenant: &Tenant) -> TenantLimits {
        let details = self.tenants.details(tenant).unwrap_or_default();
        details.limits.over(self.config.limits)
    }

    /// Nodes there are, as far as is known: at least this one.
    pub(crate) fn nodes(&self) -> u32 {
        u32::try_from(self.node.members().len()).unwrap_or(u32::MAX).max(1)
    }

    /// Judges who has just connected.
    ///
    /// # Errors
    ///
    /// If its address has come too often, which is counted.
    pub(crate) fn knock(&self, peer: Peer) -> Result<(), Failure> {
        let verdict = self.door.knock(peer, self.age(Instant::now()));
        verdict.inspect_err(|_| came_too_often())
    }

    /// Says for whom a proxy that is believed asks, and judges that.
    ///
    /// # Errors
    ///
    /// If its address has come too often, which is counted.
    pub(crate) fn hear(&self, peer: Peer, headers: &HeaderMap) -> Result<Peer, Failure> {
        let peer = self.door.named(peer, headers);
        let verdict = self.door.judge(peer, self.age(Instant::now()));
        verdict.inspect_err(|_| came_too_often()).map(|()| peer)
    }

    pub(crate) fn allowance(&self, tenant: &Tenant) -> Arc<Allowance> {
        self.allowances.of(tenant, self)
    }

    /// Whether who was let in with this identity may not be here any more: it was revoked, or the
    /// tenant is gone.
    pub(crate) fn is_void(&self, identity: &Identity) -> bool {
        let is_gone = !self.tenants.contains(&identity.tenant) && !self.tenants.is_incomplete();
        is_gone || self.verifier.revocations().voids(identity)
    }

    /// Says who bears a token. If it names a key that its issuer may have published meanwhile, waits for
    /// that to be looked at, three seconds at most.
    pub(crate) async fn examine(&self, token: &Token) -> Result<Identity, Refusal> {
        let verdict = self.verifier.examine(token.as_str(), unix_seconds());
        if verdict != Err(Refusal::UnknownIssuedKey) {
            return verdict;
        }
        let Some(tenant) = self.verifier.issued_for(token.as_str()) else { return verdict };
        if !self.jwks.ask(tenant).await {
            return verdict;
        }
        self.verifier.examine(token.as_str(), unix_seconds())
    }

    /// Says what a token of one channel allows its bearer, with the keys that are known.
    pub(crate) fn examine_grant_now(
        &self,
        wish: &Wish,
        bearer: &Identity,
    ) -> Result<ChannelGrant, Refusal> {
        let (token, whom) = (wish.token.as_str(), (bearer, &wish.channel));
        let verdict = self.verifier.examine_grant(token, whom, unix_seconds());
        // That another's issuer may have the key is nothing that its bearer is to learn.
        let is_theirs = || self.verifier.issued_for(token).as_ref() == Some(&bearer.tenant);
        if verdict == Err(Refusal::UnknownIssuedKey) && !is_theirs() {
            return Err(Refusal::NotTheirs);
        }
        verdict
    }

    /// The same, and as in [`examine`](Self::examine) a key that is unknown is waited for.
    pub(crate) async fn examine_grant(
        &self,
        wish: &Wish,
        bearer: &Identity,
    ) -> Result<ChannelGrant, Refusal> {
        let verdict = self.examine_grant_now(wish, bearer);
        let is_unknown = verdict == Err(Refusal::UnknownIssuedKey);
        if !is_unknown || !self.jwks.ask(bearer.tenant.clone()).await {
            return verdict;
        }
        self.examine_grant_now(wish, bearer)
    }

    /// Why nobody may come in with a credential that this node cannot judge, if that is so.
    pub(crate) fn cut_off(&self) -> Option<Failure> {
        let is_cut_off = || self.revocations.is_cut_off();
        (self.config.when_cut_off == WhenCutOff::Refuse && is_cut_off()).then(|| {
            let failure = Failure::new(ErrorCode::Unavailable, handshake::CUT_OFF);
            failure.retry_after(WHEN_CUT_OFF)
        })
    }

    /// Seals a token that opens `session` again, if it is kept.
    pub(crate) fn resume_token(&self, session: &OwnedSession, kind: SessionKind) -> Option<Token> {
        if kind == SessionKind::None {
            return None;
        }
        let issued_at = unix_seconds();
        let claims = ResumeClaims {
            tenant: session.key.tenant.clone(),
            session: session.key.session,
            incarnation: self.tenants.incarnation(&session.key.tenant).number(),
            generation: session.generation,
            issued_at,
            expires_at: issued_at + RESUME_TOKEN_SECONDS,
        };
        Some(self.sealer.seal(&claims).into())
    }
}

fn came_too_often() {
    metrics::rejected("address_rate");
    metrics::limited(Limit::AddressRate, None);
}

/// Seconds since the Unix epoch, for judging credentials.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whom a request came from, and whose it will be if it becomes a WebSocket.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) peer: Peer,
    /// It has come too often, and is to be told.
    pub(crate) refused: Option<Box<Failure>>,
    /// None where only plain HTTP is served.
    pub(crate) worker: Option<WorkerHandle>,
}

/// The tenant a path names, if it names one.
pub(crate) type PathTenant = Option<Tenant>;
