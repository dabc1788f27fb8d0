//! What a configuration means, once every value is known to be valid.

mod door;
mod issuers;
mod limits;
mod login;
mod placement;
mod registry;
mod tenants;
mod tls;

use std::collections::HashMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tidewire_auth::{KeyRing, SealKey, Sealer, SigningKey, Verifier};
use tidewire_edge::{DoorConfig, DrainConfig, PlacementConfig, WhenCutOff};
use tidewire_model::{
    ChannelLimits, ChannelRules, Live, NodeId, Retention, Slot, Tenant, TenantLimits,
};
use tidewire_tenant::{InvalidAddress, Origins, TenantDetails, Tenants, check_address};
use tidewire_transport::Compression;
use tracing_subscriber::EnvFilter;

use super::document::{self, Document, LogFormat, TenantMetrics};
use super::draft::Draft;
use super::problem::{ConfigError, Origin, Problem};
pub use issuers::Issuers;
pub use login::{Nats, NatsLogin, Redis, RedisLogin, RedisTopology};
pub use registry::Registry;
pub use tls::{Tls, TlsFiles};

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name, if the operator chose one; otherwise see [`generated_node_id`].
    pub node_id: Option<NodeId>,
    /// Its slot, if the operator chose one; otherwise see [`slot_of`].
    pub slot: Option<Slot>,
    /// What it takes of the tenants; 100 is an ordinary node.
    pub weight: u32,
    pub listen: Listen,
    pub tenant_metrics: bool,
    pub server: Server,
    /// How clients are talked to in TLS, if they are.
    pub tls: Option<Tls>,
    pub nats: Nats,
    pub redis: Redis,
    /// How much is kept of channels of which no rule says something else.
    pub history: Retention,
    pub session: Session,
    pub drain: Drain,
    pub placement: PlacementConfig,
    pub log: Log,
    pub auth: Auth,
    /// Who vouches for issuers, and where they may publish their keys.
    pub issuers: Issuers,
    /// Nothing if the tenants of the file are all there are.
    pub registry: Option<Registry>,
    pub channel_rules: Arc<ChannelRules>,
    /// What a tenant may have and ask that has no limits of its own.
    pub limits: TenantLimits,
    /// Of tenants that are treated otherwise than most are.
    pub tenant_details: Arc<HashMap<Tenant, TenantDetails>>,
}

/// Where the node can be reached.
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    pub clients: SocketAddr,
    pub ops: SocketAddr,
}

#[derive(Clone, Debug)]
pub struct Server {
    /// Nothing if the operator leaves it to the machine.
    pub workers: Option<NonZeroUsize>,
    pub max_connections: usize,
    pub max_message_bytes: usize,
    pub connect_timeout: Duration,
    pub message_timeout: Duration,
    pub ping_interval: Duration,
    pub slow_after: Duration,
    pub write_timeout: Duration,
    pub compression: Compression,
    pub door: DoorConfig,
    /// Nothing if the system is to say.
    pub memory_limit: Option<u64>,
    /// In lower case, as browsers send them; empty allows every one.
    pub allowed_origins: Vec<String>,
    /// Where clients reach this node and no other.
    pub advertise: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Session {
    pub resume_window: Duration,
    /// The sealing one first; empty only where nothing is served.
    pub resume_keys: Vec<SealKey>,
}

#[derive(Clone, Copy, Debug)]
pub struct Drain {
    pub announce: Duration,
    /// Clients a second.
    pub rate: u32,
    pub window: Duration,
    pub deadline: Duration,
}

#[derive(Clone, Debug)]
pub struct Log {
    /// Known to be valid directives of `tracing_subscriber::EnvFilter`.
    pub level: String,
    pub format: LogFormat,
}

#[derive(Clone, Debug)]
pub struct Auth {
    pub audience: String,
    pub max_token_lifetime: Duration,
    /// How long before its token expires a client is told.
    pub notice: Duration,
    /// How long after that it may still send another.
    pub grace: Duration,
    pub when_cut_off: WhenCutOff,
    pub ring: KeyRing,
    signing: HashMap<Tenant, SigningKey>,
}

impl Config {
    /// Whether a node can serve clients with it. Memory-only and offline commands need less.
    pub fn ready_to_serve(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        if self.session.resume_keys.is_empty() {
            problems.push(missing(
                "session.resume_keys",
                "at least one key is needed to serve",
                "the same on every node; `openssl rand -base64 32` makes one",
            ));
        }
        if self.auth.ring.tenants().next().is_none() && self.registry.is_none() {
            problems.push(missing(
                "tenants",
                "at least one tenant is needed to serve",
                "`tidewire config init` writes a file with one",
            ));
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }

    /// The tenants that are configured, as a node starts with them.
    pub fn tenants(&self) -> Tenants {
        let details = self.tenant_details.iter();
        let details = details.map(|(tenant, details)| (tenant.clone(), details.clone()));
        Tenants::new(self.auth.ring.clone(), Arc::clone(&self.channel_rules), details)
    }

    /// Verifies what the keys of `ring` have signed.
    pub fn verifier(&self, ring: impl Into<Live<KeyRing>>) -> Verifier {
        Verifier::new(ring)
            .with_audience(&self.auth.audience)
            .with_max_lifetime(self.auth.max_token_lifetime)
    }

    /// Seals resume tokens; nothing without a key.
    pub fn sealer(&self) -> Option<Sealer> {
        Sealer::new(&self.session.resume_keys).ok()
    }

    /// The tenant's first `HS256` key: the only kind that verifies and signs with the same secret.
    pub fn signing_key(&self, tenant: &Tenant) -> Option<&SigningKey> {
        self.auth.signing.get(tenant)
    }
}

fn missing(key: &str, message: &str, remedy: &str) -> Problem {
    Problem {
        key: key.into(),
        origin: Origin::Default,
        message: message.into(),
        remedy: Some(remedy.into()),
    }
}

/// Names a node after its host and random digits: no two lives of a process share a name.
pub fn generated_node_id(hostname: &str) -> NodeId {
    const MAX_HOST: usize = 48;
    let mut digits = [0; 4];
    aws_lc_rs::rand::fill(&mut digits).expect("the system has random bytes");
    let usable = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let host: String = hostname.trim().chars().filter(usable).take(MAX_HOST).collect();
    let host = if host.is_empty() { "node" } else { &host };
    NodeId::parse(&format!("{host}-{:08x}", u32::from_be_bytes(digits)))
        .expect("at most 57 allowed characters")
}

/// The slot of a node that was given none: its host's name, with `-` for what a slot cannot have.
pub fn slot_of(hostname: &str) -> Slot {
    let usable = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let name: String = hostname.trim().chars().map(usable).take(Slot::MAX_BYTES).collect();
    Slot::parse(&name).unwrap_or_else(|_| Slot::parse("node").expect("a valid slot"))
}

impl Draft {
    /// The value, or nothing and a problem about `path`.
    fn accept<T, E: Display>(&mut self, path: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.problem(path, &error.to_string(), None)).ok()
    }
}

/// Turns what was written into what it means, reporting everything that has none; only without
/// a report is the result to be used.
pub(super) fn check(document: &Document, draft: &mut Draft) -> Option<Config> {
    let node_id = check_node(&document.node, draft);
    let slot = check_slot(&document.node, draft);
    let listen = check_listen(document, draft);
    let server = check_server(&document.server, draft);
    let tls = tls::check(&document.tls, draft);
    let nats = login::check_nats(&document.nats, draft);
    let redis = login::check_redis(&document.redis, draft);
    let session = check_session(&document.session, draft);
    let drain = check_drain(&document.drain, draft);
    let log = check_log(&document.log, draft);
    let history = Retention {
        size: usize::try_from(document.history.size).unwrap_or(usize::MAX),
        ttl: document.history.ttl.duration(),
    };
    let tenants = tenants::check(&document.tenants, history, draft);
    let limits = limits::check(document, draft);
    let channels = document.limits.0.channels(ChannelLimits::default());
    let audience = check_audience(&document.auth, draft);
    let issuers = issuers::check(&document.auth, draft);
    let registry = registry::check(&document.registry, &document.admin, draft);
    let tenants = tenants?;
    Some(Config {
        node_id,
        slot,
        weight: document.node.weight,
        listen: listen?,
        tenant_metrics: document.ops.tenant_metrics == TenantMetrics::On,
        server: server?,
        tls,
        nats: nats?,
        redis: redis?,
        history,
        session: session?,
        drain: drain?,
        placement: placement::take(&document.placement),
        log: log?,
        auth: Auth {
            audience: audience?,
            max_token_lifetime: document.auth.max_token_lifetime.duration(),
            notice: document.auth.notice.duration(),
            grace: document.auth.grace.duration(),
            when_cut_off: match document.auth.when_cut_off {
                document::WhenCutOff::Refuse => WhenCutOff::Refuse,
                document::WhenCutOff::Serve => WhenCutOff::Serve,
            },
            ring: tenants.ring,
            signing: tenants.signing,
        },
        issuers: issuers?,
        registry,
        channel_rules: Arc::new(tenants.channel_rules.with_limits(channels)),
        limits: limits?,
        tenant_details: Arc::new(tenants.details),
    })
}

/// Nothing if no name was chosen, or a wrong one, which has then been reported.
fn check_node(node: &document::Node, draft: &mut Draft) -> Option<NodeId> {
    let parsed = NodeId::parse(node.id.as_ref()?)
        .map_err(|_| "a node's name has 1 to 64 characters from a-z, A-Z, 0-9, `_` and `-`");
    draft.accept("node.id", parsed)
}

/// Nothing if no slot was chosen, or a wrong one, which has then been reported.
fn check_slot(node: &document::Node, draft: &mut Draft) -> Option<Slot> {
    let parsed = Slot::parse(node.slot.as_ref()?)
        .map_err(|_| "a slot's name has 1 to 64 characters from a-z, A-Z, 0-9, `_` and `-`");
    draft.accept("node.slot", parsed)
}

fn check_listen(document: &Document, draft: &mut Draft) -> Option<Listen> {
    let mut parse = |path, text: &str| {
        let parsed = text.parse::<SocketAddr>();
        draft.accept(path, parsed.map_err(|_| "expected an IP address and a port: `0.0.0.0:8000`"))
    };
    let clients = parse("server.listen", &document.server.listen);
    let ops = parse("ops.listen", &document.ops.listen);
    let listen = Listen { clients: clients?, ops: ops? };
    if listen.clients == listen.ops && listen.ops.port() != 0 {
        draft.problem("ops.listen", "the same address as `server.listen`", None);
        return None;
    }
    Some(listen)
}

fn check_server(server: &document::Server, draft: &mut Draft) -> Option<Server> {
    let origins = draft.accept("server.allowed_origins", Origins::parse(&server.allowed_origins));
    let door = door::check(server, draft);
    let advertise = match &server.advertise {
        Some(text) => draft.accept("server.advertise", advertised(text)).map(Some),
        None => Some(None),
    };
    Some(Server {
        workers: server.workers.and_then(|count| NonZeroUsize::new(usize::try_from(count).ok()?)),
        max_connections: usize::try_from(server.max_connections).ok()?,
        max_message_bytes: usize::try_from(server.max_message_bytes).ok()?,
        connect_timeout: server.connect_timeout.duration(),
        message_timeout: server.message_timeout.duration(),
        ping_interval: server.ping_interval.duration(),
        slow_after: server.slow_after.duration(),
        write_timeout: server.write_timeout.duration(),
        compression: match server.compression {
            document::Compression::Off => Compression::Off,
            document::Compression::On => Compression::On,
        },
        door: door?,
        memory_limit: server.memory_limit,
        allowed_origins: origins?.into(),
        advertise: advertise?,
    })
}

fn advertised(text: &str) -> Result<String, InvalidAddress> {
    match check_address(text, &["ws", "wss"])? {
        "" => Ok(text.to_owned()),
        _ => Err(InvalidAddress::Path),
    }
}

fn check_session(session: &document::Session, draft: &mut Draft) -> Option<Session> {
    let path = if session.resume_keys_file.is_some() {
        "session.resume_keys_file"
    } else {
        "session.resume_keys"
    };
    let mut resume_keys = Vec::new();
    for (index, key) in session.resume_keys.iter().enumerate() {
        let parsed = SealKey::parse(key.expose());
        resume_keys.extend(draft.accept(&format!("{path}[{index}]"), parsed));
    }
    if resume_keys.len() < session.resume_keys.len() {
        return None;
    }
    if !resume_keys.is_empty() {
        draft.accept(path, Sealer::new(&resume_keys))?;
    }
    Some(Session { resume_window: session.resume_window.duration(), resume_keys })
}

fn check_drain(drain: &document::Drain, draft: &mut Draft) -> Option<Drain> {
    let drain = Drain {
        announce: drain.announce.duration(),
        rate: drain.rate,
        window: drain.window.duration(),
        deadline: drain.deadline.duration(),
    };
    if drain.announce + drain.window + DrainConfig::reserve(drain.deadline) >= drain.deadline {
        let message = "must be longer than `drain.announce`, `drain.window` and what is held back for \
                       goodbyes (a third of it, 10s at most) together";
        draft.problem("drain.deadline", message, None);
        return None;
    }
    Some(drain)
}

fn check_log(log: &document::Log, draft: &mut Draft) -> Option<Log> {
    draft.accept("log.level", EnvFilter::try_new(&log.level))?;
    Some(Log { level: log.level.clone(), format: log.format })
}

fn check_audience(auth: &document::Auth, draft: &mut Draft) -> Option<String> {
    let audience = auth.audience.clone();
    let named = if audience.is_empty() { Err("must not be empty") } else { Ok(audience) };
    draft.accept("auth.audience", named)
}

/// Names that stand at the start of subjects and keys.
fn check_prefix(path: &str, prefix: &str, draft: &mut Draft) -> Option<String> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    let valid = (1..=32).contains(&prefix.len()) && prefix.bytes().all(allowed);
    let checked = if valid { Ok(()) } else { Err("needs 1 to 32 of a-z, 0-9, `_` and `-`") };
    draft.accept(path, checked).map(|()| prefix.to_owned())
}
