//! What nodes share: NATS and Redis.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;

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
    /// the primary: all of those, by default one, that may become the primary. With 0, for a Redis
    /// that has none, a `durable` channel promises no more than a `recoverable` one.
    #[schemars(range(min = 0, max = 5))]
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
