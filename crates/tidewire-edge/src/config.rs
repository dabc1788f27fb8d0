use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tidewire_hub::QueueLimits;
use tidewire_model::TenantLimits;
use tidewire_transport::Compression;

use crate::DoorConfig;

/// How an edge treats its clients.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    /// Connections at once; more are refused with 503.
    pub max_connections: usize,
    /// Bytes of one message from a client; a larger one ends its connection. A payload may have half
    /// as many, over HTTP too: what surrounds it, and base64, always fit beside one that may pass, and
    /// one that is somewhat too large is refused by itself.
    pub max_message_bytes: usize,
    /// From the end of the HTTP handshake to the client's first frame. What the store takes to
    /// answer it is not the client's, and has a limit of its own.
    pub connect_timeout: Duration,
    /// How long a client that is connected has for the rest of a message, from its first byte.
    pub message_timeout: Duration,
    /// How often the server pings. Silence of twice this long ends the connection.
    pub ping_interval: Duration,
    /// How long a client may be behind with reading before it is taken for slow, and no publications
    /// are held for it any more.
    pub slow_after: Duration,
    /// How long it may be so before it is disconnected.
    pub write_timeout: Duration,
    /// How long before its credential expires a client is told: this, or half of what was left when it
    /// came with it if that is less.
    pub expiry_notice: Duration,
    /// How long a client may be there without a credential that holds, without being handed anything.
    pub expiry_grace: Duration,
    /// What is done about clients that would be better off elsewhere.
    pub placement: PlacementConfig,
    /// Values of `Origin` that may connect; empty allows all. The credential is in the first frame
    /// and never in a cookie, so a foreign page has nothing to ride on.
    pub allowed_origins: Vec<String>,
    /// Who comes in, and how fast.
    pub door: DoorConfig,
    /// What may wait for one worker, from the shards.
    pub queue: QueueLimits,
    /// What a tenant may have and ask that has no limits of its own.
    pub limits: TenantLimits,
    /// Clients are talked to in TLS with this, which may choose another certificate for each
    /// handshake; without, in plain text, as operators always are.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether clients that offer permessage-deflate get it.
    pub compression: Compression,
    /// What becomes of who comes while something may be revoked that the node cannot read.
    pub when_cut_off: WhenCutOff,
    /// Whether metrics are also kept per tenant.
    pub tenant_metrics: bool,
    pub drain: DrainConfig,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            max_connections: 100_000,
            max_message_bytes: 128 * 1_024,
            connect_timeout: Duration::from_secs(5),
            message_timeout: Duration::from_secs(30),
            ping_interval: Duration::from_secs(25),
            slow_after: Duration::from_secs(10),
            write_timeout: Duration::from_mins(1),
            expiry_notice: Duration::from_mins(1),
            expiry_grace: Duration::from_secs(25),
            placement: PlacementConfig::default(),
            allowed_origins: Vec::new(),
            door: DoorConfig::OPEN,
            queue: QueueLimits::default(),
            limits: TenantLimits::GENEROUS,
            tls: None,
            compression: Compression::On,
            when_cut_off: WhenCutOff::Refuse,
            tenant_metrics: false,
            drain: DrainConfig::default(),
        }
    }
}

impl EdgeConfig {
    /// Connections of one listener that are plain HTTP, at once.
    pub(crate) fn max_http_connections(&self) -> usize {
        (self.max_connections / 10).max(64)
    }

    /// Bytes of a payload that always fit into a message beside what surrounds them.
    pub(crate) fn max_payload_bytes(&self) -> usize {
        self.max_message_bytes / 2
    }
}

/// What a node does that may not know of something revoked: it was told of it and cannot read it, or has
/// neither read nor heard anything for a minute, or never.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WhenCutOff {
    /// It lets nobody in, and lets nobody stay for longer by another token.
    Refuse,
    /// It goes on with what it knows.
    Serve,
}

/// What a node does about clients that would be better off elsewhere: nothing, by default. Any node serves
/// any client.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlacementConfig {
    /// Whether a new client of a tenant that is not at home here is asked, once, to move there.
    pub redirects: bool,
    /// How the node sheds what it has above its share; nothing if it keeps everybody.
    pub rebalance: Option<RebalanceConfig>,
}

/// How a node sheds clients to others that have fewer.
#[derive(Clone, Copy, Debug)]
pub struct RebalanceConfig {
    /// Thousandths of its own clients that are asked to go in a minute, at most; one in a second at least.
    pub permille: u32,
    /// How long it has to have too many before it begins, and twice that to be there at all.
    pub patience: Duration,
}

/// How a node leaves.
#[derive(Clone, Copy, Debug)]
pub struct DrainConfig {
    /// How long the node goes on taking connections after it has said that it is not ready, because
    /// balancers lag.
    pub announce: Duration,
    /// Clients asked to move per second, at most. A whole node takes two seconds at least.
    pub rate: u32,
    /// How long a client that was asked to move is still served here.
    pub window: Duration,
    /// When the node is gone, counted from the beginning. Whoever is left is disconnected a
    /// [reserve](Self::reserve) earlier.
    pub deadline: Duration,
}

impl DrainConfig {
    /// What of a deadline is held back for disconnecting whoever is left, and for what the process
    /// does after that: a third, ten seconds at most.
    pub fn reserve(deadline: Duration) -> Duration {
        const MOST: Duration = Duration::from_secs(10);
        MOST.min(deadline / 3)
    }
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self {
            announce: Duration::from_secs(5),
            rate: 2_000,
            window: Duration::from_secs(15),
            deadline: Duration::from_mins(2),
        }
    }
}
