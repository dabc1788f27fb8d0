//! The listeners, for clients and for operators.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Period, Secret};

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
    /// Connections a second with which each worker shakes hands, and twice as many at once. Those beyond
    /// it wait with the kernel, so that a fleet that comes back leaves something of each core to those
    /// who are there.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub handshake_rate: u32,
    /// Connections a second of one address (of IPv6: of 64 bits), and four times as many at once; more are
    /// refused with 503, or in TLS closed. A token that is not valid costs ten. Addresses that are not of
    /// the public Internet count only if a proxy names them.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub address_rate: u32,
    /// Balancers in front of the nodes, each as an address or as a block such as `10.1.0.0/16`: what they
    /// say in `X-Forwarded-For` is believed, in logs and for `address_rate`. Nobody else's is.
    pub trusted_proxies: Vec<String>,
    /// Bytes of memory for the node. From 75 % of it channels remember less, from 85 % nobody new is let
    /// in, from 92 % nobody at all, and who reads slowly is disconnected. What the container, or else the
    /// machine, has unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16_777_216, max = 1_000_000_000_000_000_i64))]
    pub memory_limit: Option<u64>,
    /// Longest message a client may send, in bytes; a longer one ends its connection. A payload may
    /// have half of it, over HTTP too; a longer one is refused.
    #[schemars(range(min = 16_384, max = 1_048_576))]
    pub max_message_bytes: u32,
    /// Time from the end of the HTTP handshake to the client's first frame.
    #[schemars(extend("x-min" = "100ms", "x-max" = "1m"))]
    pub connect_timeout: Period,
    /// How long a client has for the rest of a message that it has begun, once it is connected; then its
    /// connection ends.
    #[schemars(extend("x-min" = "1s", "x-max" = "5m"))]
    pub message_timeout: Period,
    /// How often a client is pinged; silence of twice this long ends its connection. Keep it well
    /// below the idle timeout of every proxy in between.
    #[schemars(extend("x-min" = "1s", "x-max" = "5m"))]
    pub ping_interval: Period,
    /// How long a client may leave 128 KiB or more unread, or half of `limits.unsent_bytes` if that is
    /// less, until it is taken for slow: no publications are held for it any more, they are counted.
    #[schemars(extend("x-min" = "1s", "x-max" = "5m"))]
    pub slow_after: Period,
    /// How long it may do so until its connection is ended.
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
            handshake_rate: 4_000,
            address_rate: 500,
            trusted_proxies: Vec::new(),
            memory_limit: None,
            max_message_bytes: 131_072,
            connect_timeout: Period::from_secs(5),
            message_timeout: Period::from_secs(30),
            ping_interval: Period::from_secs(25),
            slow_after: Period::from_secs(10),
            write_timeout: Period::from_secs(60),
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
    /// to `wss://`, in TLS 1.2 or 1.3, and a client without TLS is turned away. If both are in files,
    /// a node that runs takes what replaces them within 5 seconds.
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
