//! What is asked of credentials, and who else may change that.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Period, Secret};

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Name that the `aud` claim of every token must hold.
    pub audience: String,
    /// How far ahead a token may expire. An hour is plenty for tokens that are refreshed.
    #[schemars(extend("x-min" = "1m", "x-max" = "30d"))]
    pub max_token_lifetime: Period,
    /// How long before its token expires a client is told; never sooner than half of what is left of the
    /// token.
    #[schemars(extend("x-min" = "1s", "x-max" = "10m"))]
    pub notice: Period,
    /// How long a client whose token has expired may still send another. Meanwhile nothing is delivered to
    /// it and nothing taken from it; what it misses in channels that keep history it gets then.
    #[schemars(extend("x-min" = "0s", "x-max" = "1m"))]
    pub grace: Period,
    /// What becomes of clients who come, or send another token, while something may be revoked that the node
    /// cannot learn: another node has told of it and it could not be read for ten seconds, or neither Redis
    /// nor another node was reached for a minute, or Redis never. `refuse` sends them to another node;
    /// `serve` goes on with what is known.
    pub when_cut_off: WhenCutOff,
    /// Certificates of the authorities, in PEM, that vouch for the servers where issuers publish their keys
    /// (`tenants.issuer`); those that the system trusts unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_ca: Option<String>,
    /// File that holds `jwks_ca`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_ca_file: Option<PathBuf>,
    /// Blocks of addresses, such as `10.1.0.0/16`, where issuers may publish their keys beside the public
    /// Internet. Whoever may change tenants can have nodes connect there.
    #[schemars(length(max = 64))]
    pub jwks_networks: Vec<String>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            audience: "tidewire".into(),
            max_token_lifetime: Period::from_secs(24 * 3600),
            notice: Period::from_secs(60),
            grace: Period::from_secs(25),
            when_cut_off: WhenCutOff::Refuse,
            jwks_ca: None,
            jwks_ca_file: None,
            jwks_networks: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenCutOff {
    Refuse,
    Serve,
}

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    /// Keys that seal what Redis keeps of tenants, the same on every node: each 32 random bytes in
    /// base64, or a secret of at least 32 bytes. The first seals, all of them open; at most 8. Without
    /// one there is no registry, and only the tenants of this file may use the cluster.
    #[schemars(length(max = 8))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Secret>,
    /// File that holds `keys`, one a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys_file: Option<PathBuf>,
    /// Most tenants in the registry; every node has all of them in memory, a few kilobytes each.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_tenants: u32,
}

impl Default for Registry {
    fn default() -> Self {
        Self { keys: Vec::new(), keys_file: None, max_tenants: 10_000 }
    }
}

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// IP address and port where tenants are added, changed and removed while nodes run, if there are
    /// `registry.keys`. Whoever may use it owns the cluster: without `tokens` it has to be a loopback
    /// address.
    pub listen: String,
    /// What an operator sends as `Authorization: Bearer`, each at least 32 bytes, any of them; at most
    /// 8.
    #[schemars(length(max = 8))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Secret>,
    /// File that holds `tokens`, one a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_file: Option<PathBuf>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8002".into(), tokens: Vec::new(), tokens_file: None }
    }
}
