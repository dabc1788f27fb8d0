//! The configuration as it is written down, before it is checked.
//!
//! The JSON Schema, the environment variables and the reference are all derived from these types;
//! the first paragraph of a doc comment is what an operator reads. `x-min` and `x-max` are the
//! bounds of a duration, which JSON Schema has no word for.

mod auth;
mod limits;
mod placement;
mod server;
mod services;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use auth::{Admin, Auth, Registry, WhenCutOff};
pub use limits::Limits;
pub use placement::{Placement, Switch};
pub use server::{Compression, Ops, Server, TenantMetrics, Tls};
pub use services::{Nats, Redis, RedisMode};
pub use tidewire_tenant::Period;
use tidewire_tenant::Secret;
pub use tidewire_tenant::document::{
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
    /// What a node does about clients that would be better off elsewhere. Any node serves any client.
    pub placement: Placement,
    /// What is logged, and how.
    pub log: Log,
    /// What is asked of every token.
    pub auth: Auth,
    /// What each tenant may have and ask, unless its own `limits` say otherwise. The same on every
    /// node.
    pub limits: Limits,
    /// The tenants that come while nodes run, kept in Redis.
    pub registry: Registry,
    /// Where tenants are changed while nodes run.
    pub admin: Admin,
    /// Who may use this cluster, each with the keys that prove it. `serve` needs at least one, or
    /// `registry.keys`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<Tenant>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Name of the node: 1 to 64 characters from `a-z`, `A-Z`, `0-9`, `_` and `-`, unique in the
    /// cluster and different in each life of the process. Drawn at start from the host's name and
    /// random digits unless set; setting it is for tests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The place in the cluster that the node takes, as long a name: tenants are placed on slots, so
    /// that a node which starts again into the same one gets the same tenants. What balancers call
    /// their servers has to be the same. The host's name unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// How much of the tenants the node takes, beside the others: one of 200 twice as many as one of
    /// 100. Balancers have to be told the same.
    #[schemars(range(min = 1, max = 256))]
    pub weight: u32,
}

impl Default for Node {
    fn default() -> Self {
        Self { id: None, slot: None, weight: 100 }
    }
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
