/// A limit that somebody sets, by the name of its key in the configuration.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Limit {
    /// Publications a second of one connection.
    ConnectionPublishRate,
    /// Bytes of payload a second of one connection.
    ConnectionPublishBytes,
    /// Commands a second of one connection, other than publications.
    ConnectionCommandRate,
    /// Subscriptions of one connection at once.
    ConnectionSubscriptions,
    /// Bytes of one payload.
    PayloadBytes,
    /// Publications a second of one channel.
    ChannelPublishRate,
    /// Connections of a node at once.
    MaxConnections,
    /// New connections of an address a second.
    AddressRate,
    /// Connections of a tenant at once.
    TenantConnections,
    /// New connections of a tenant a second.
    TenantConnectRate,
    /// Publications a second of a tenant.
    TenantPublishRate,
    /// Bytes of payload a second that a tenant publishes.
    TenantBytesIn,
    /// Bytes a second that a tenant's clients are sent.
    TenantBytesOut,
    /// Channels of a tenant that have subscribers.
    TenantChannels,
    /// Bytes of publications that a tenant keeps.
    TenantHistoryBytes,
    /// Bytes of memory of the node.
    NodeMemory,
}

impl Limit {
    /// Every limit there is.
    pub const ALL: [Self; 16] = [
        Self::ConnectionPublishRate,
        Self::ConnectionPublishBytes,
        Self::ConnectionCommandRate,
        Self::ConnectionSubscriptions,
        Self::PayloadBytes,
        Self::ChannelPublishRate,
        Self::MaxConnections,
        Self::AddressRate,
        Self::TenantConnections,
        Self::TenantConnectRate,
        Self::TenantPublishRate,
        Self::TenantBytesIn,
        Self::TenantBytesOut,
        Self::TenantChannels,
        Self::TenantHistoryBytes,
        Self::NodeMemory,
    ];

    /// The name in the configuration and in the protocol, to match on.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionPublishRate => "connection_publish_rate",
            Self::ConnectionPublishBytes => "connection_publish_bytes",
            Self::ConnectionCommandRate => "connection_command_rate",
            Self::ConnectionSubscriptions => "connection_subscriptions",
            Self::PayloadBytes => "payload_bytes",
            Self::ChannelPublishRate => "channel_publish_rate",
            Self::MaxConnections => "max_connections",
            Self::AddressRate => "address_rate",
            Self::TenantConnections => "tenant_connections",
            Self::TenantConnectRate => "tenant_connect_rate",
            Self::TenantPublishRate => "tenant_publish_rate",
            Self::TenantBytesIn => "tenant_bytes_in",
            Self::TenantBytesOut => "tenant_bytes_out",
            Self::TenantChannels => "tenant_channels",
            Self::TenantHistoryBytes => "tenant_history_bytes",
            Self::NodeMemory => "node_memory",
        }
    }
}

/// The limit that a refused command would have exceeded, and what it is set to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Exceeded {
    pub limit: Limit,
    /// In the unit of the limit: a number, bytes, or either a second.
    pub value: u64,
}
