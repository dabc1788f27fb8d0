//! The configuration as it is written down, before it is checked.
//!
//! The JSON Schema, the environment variables and the reference are all derived from these types;
//! the first paragraph of a doc comment is what an operator reads. `x-min` and `x-max` are the
//! bounds of a duration, which JSON Schema has no word for.

mod tenant;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::period::Period;
use super::secret::Secret;
pub use tenant::{
    ActionName, AlgorithmName, ApiKey, ChannelRule, ClassName, DeltaName, LatestName, PresetName,
    Tenant, TokenKey,
};

/// The configuration of a Tidewire node.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Document {
    /// Who this node is.
    pub node: Node,
    /// Where clients connect and what one connection may use.
    pub server: Server,
    /// How clients' connections are encrypted. They are not without a certificate, which is right
    /// behind a balancer that does it; operators' never are.
    pub tls: Tls,
    /// Where operators look: `/metrics`, `/healthz`, `/readyz` and `/placement/{tenant}`.
    pub ops: Ops,
    /// The NATS servers that carry publications between nodes.
    pub nats: Nats,
    /// The Redis that orders and remembers publications and keeps sessions.
    pub redis: Redis,
    /// How much of a channel is kept for those who come late or come back.
    pub history: History,
    /// What outlives a connection.
    pub session: Session,
    /// How a node leaves without losing anyone.
    pub drain: Drain,
    /// What is logged, and how.
    pub log: Log,
    /// What is asked of every token.
    pub auth: Auth,
    /// Who may use this cluster, each with the keys that prove it. `serve` needs at least one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<Tenant>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Name of the node: 1 to 64 characters from `a-z`, `A-Z`, `0-9`, `_` and `-`, unique in the
    /// cluster and different in each life of the process. Drawn at start from the host's name and
    /// random digits unless set; setting it is for tests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// IP address and port on which clients connect; `[::]:8000` for every interface.
    pub listen: String,
    /// Threads that serve clients, each with a core's worth of them and of the channels. As many as
    /// there are cores for this process unless set, at most 64: in a container its CPU limit, rounded
    /// down, so set it where a node has no limit and is to leave room for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub workers: Option<u32>,
    /// Most connections at once; further ones are refused with 503 until some leave. The process
    /// needs 1024 file descriptors more than that, and takes what the hard limit allows.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_connections: u32,
    /// Longest message a client may send, in bytes; a longer one ends its connection. A payload may
    /// have half of it, over HTTP too; a longer one is refused.
    #[schemars(range(min = 16_384, max = 1_048_576))]
    pub max_message_bytes: u32,
    /// Time from the end of the HTTP handshake to the client's first frame.
    #[schemars(extend("x-min" = "100ms", "x-max" = "1m"))]
    pub connect_timeout: Period,
    /// How often a client is pinged; silence of twice this long ends its connection. Keep it well
    /// below the idle timeout of every proxy in between.
    #[schemars(extend("x-min" = "1s", "x-max" = "5m"))]
    pub ping_interval: Period,
    /// Time within which a client must take what is written to it, or its connection is ended.
    #[schemars(extend("x-min" = "1s", "x-max" = "5m"))]
    pub write_timeout: Period,
    /// Whether messages are compressed for clients that offer it (permessage-deflate). A publication
    /// is compressed once for all of them, and no connection keeps memory for it.
    pub compression: Compression,
    /// Origins whose pages may connect, each as `scheme://host` or `scheme://host:port`. Empty
    /// means any: the credential travels in the first frame and not in a cookie, so a foreign page
    /// has nothing to ride on.
    pub allowed_origins: Vec<String>,
    /// Where clients reach this node and no other, as `wss://host` or `wss://host:port`. While another
    /// node leaves, its clients are told of it and come here at once. Only for nodes that clients can
    /// reach one by one; unset, a balancer chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8000".into(),
            workers: None,
            max_connections: 100_000,
            max_message_bytes: 131_072,
            connect_timeout: Period::from_secs(5),
            ping_interval: Period::from_secs(25),
            write_timeout: Period::from_secs(15),
            compression: Compression::On,
            allowed_origins: Vec::new(),
            advertise: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    Off,
    On,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain in PEM, the node's own certificate first; needs `key`. Clients then connect
    /// to `wss://`, in TLS 1.2 or 1.3, and a client without TLS is turned away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// File that holds `certificate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    /// Private key of `certificate` in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret>,
    /// File that holds `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ops {
    /// IP address and port of the operators' listener. It has no authentication: keep it away from
    /// clients.
    pub listen: String,
    /// Whether connections and messages are also counted per tenant, in the metrics
    /// `tidewire_tenant_*`. Tenants beyond the first 500 share one series.
    pub tenant_metrics: TenantMetrics,
}

impl Default for Ops {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8001".into(), tenant_metrics: TenantMetrics::Off }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TenantMetrics {
    Off,
    On,
}

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nats {
    /// Servers to connect to, as `nats://host:port` or `tls://host:port`. One is chosen; the others
    /// are for when it is lost.
    #[schemars(length(min = 1))]
    pub servers: Vec<String>,
    /// First token of every subject: 1 to 32 characters from `a-z`, `0-9`, `_` and `-`. Clusters
    /// that share NATS need different ones.
    pub prefix: String,
    /// User to log in as; needs `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Password of `user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// File that holds `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Token to log in with, instead of a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// File that holds `token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// File with a user JWT and its seed (`.creds`), instead of a user or a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".into()],
            prefix: "tw".into(),
            user: None,
            password: None,
            password_file: None,
            token: None,
            token_file: None,
            credentials_file: None,
        }
    }
}

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// What the addresses are: one server, the Sentinels that know it, or nodes of a Redis Cluster.
    pub mode: RedisMode,
    /// Addresses, as `redis://host:port` or `rediss://host:port` (TLS). Exactly one in mode
    /// `single`, where `/n` may choose a database.
    #[schemars(length(min = 1))]
    pub addresses: Vec<String>,
    /// Name under which the Sentinels know the primary; for mode `sentinel` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_name: Option<String>,
    /// User to log in as; needs `password`. Without it the password is the default user's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password to log in with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// File that holds `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Start of every key: 1 to 32 characters from `a-z`, `0-9`, `_` and `-`. Clusters that share a
    /// Redis need different ones.
    pub prefix: String,
    /// Replicas that must have a publication of a `durable` channel before it is acknowledged, beside
    /// the primary: all of those, by default one, that may become the primary.
    #[schemars(range(min = 1, max = 5))]
    pub durable_copies: u32,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            mode: RedisMode::Single,
            addresses: vec!["redis://127.0.0.1:6379".into()],
            master_name: None,
            username: None,
            password: None,
            password_file: None,
            prefix: "tw".into(),
            durable_copies: 1,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RedisMode {
    Single,
    Sentinel,
    Cluster,
}

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// Newest publications kept in each channel. Redis may keep a few more.
    #[schemars(range(min = 1, max = 100_000))]
    pub size: u32,
    /// How long a channel's publications are kept after its last one.
    #[schemars(extend("x-min" = "1s", "x-max" = "7d"))]
    pub ttl: Period,
}

impl Default for History {
    fn default() -> Self {
        Self { size: 1000, ttl: Period::from_secs(300) }
    }
}

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Session {
    /// How long after its connection is lost a session can be resumed, on any node.
    #[schemars(extend("x-min" = "5s", "x-max" = "1h"))]
    pub resume_window: Period,
    /// Keys that seal resume tokens, the same on every node: each 32 random bytes in base64, or a
    /// secret of at least 32 bytes. The first seals, all of them open; at most 8. `serve` needs one.
    #[schemars(length(max = 8))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resume_keys: Vec<Secret>,
    /// File that holds `resume_keys`, one a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume_keys_file: Option<PathBuf>,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            resume_window: Period::from_secs(120),
            resume_keys: Vec::new(),
            resume_keys_file: None,
        }
    }
}

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// How long a node that is no longer ready goes on taking connections before it asks the first
    /// client to leave, because load balancers lag.
    #[schemars(extend("x-min" = "0s", "x-max" = "5m"))]
    pub announce: Period,
    /// Clients asked to leave each second, at most: fewer if the nodes that stay have little to
    /// spare, and more if it takes that to keep the deadline.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rate: u32,
    /// How long a client that was asked to leave is still served here, so that it can connect
    /// elsewhere first.
    #[schemars(extend("x-min" = "0s", "x-max" = "10m"))]
    pub window: Period,
    /// When the process has ended, counted from the signal. Whoever is left is cut ten seconds before
    /// that, or a third of it if that is less. Kubernetes' grace period must be longer.
    #[schemars(extend("x-min" = "1s", "x-max" = "1h"))]
    pub deadline: Period,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            announce: Period::from_secs(5),
            rate: 2000,
            window: Period::from_secs(15),
            deadline: Period::from_secs(120),
        }
    }
}

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// What to log: a level (`error`, `warn`, `info`, `debug`, `trace`) or directives such as
    /// `info,tidewire_edge=debug`.
    pub level: String,
    /// How to write it: `human`, `json`, or `auto` for human on a terminal and JSON otherwise.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Auto }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Auto,
    Human,
    Json,
}

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Name that the `aud` claim of every token must hold.
    pub audience: String,
    /// How far ahead a token may expire. An hour is plenty for tokens that are refreshed.
    #[schemars(extend("x-min" = "1m", "x-max" = "30d"))]
    pub max_token_lifetime: Period,
}

impl Default for Auth {
    fn default() -> Self {
        Self { audience: "tidewire".into(), max_token_lifetime: Period::from_secs(24 * 3600) }
    }
}
