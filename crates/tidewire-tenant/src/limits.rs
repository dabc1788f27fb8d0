use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_model::{ChannelLimits, Pace, Quotas, Rates, TenantLimits};

/// Limits as somebody writes them down: of one tenant, where those of all are otherwise, or of all.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct OwnLimits {
    /// Publications a second of one connection; more are refused with 2005 until a time that is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connection_publish_rate: Option<u32>,
    /// Publications of one connection at once, after a rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connection_publish_burst: Option<u32>,
    /// Bytes of payload a second that one connection publishes, and twice as many at once; what of a
    /// message is neither payload nor a command counts as well, after decompression.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_024, max = 1_000_000_000))]
    pub connection_publish_bytes: Option<u32>,
    /// Commands a second of one connection, publications not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connection_command_rate: Option<u32>,
    /// Commands of one connection at once, after a rest: who comes back subscribes to everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connection_command_burst: Option<u32>,
    /// Publications a second of one channel on one node, and twice as many at once, whoever publishes
    /// them; more are refused with 2005. A rule may say otherwise (`publish_rate`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub channel_publish_rate: Option<u32>,
    /// Channels of a tenant that are followed at once, on one node: those with subscribers there, and
    /// for half a minute those that had some. Whoever subscribes to one more is refused with 2006; who
    /// resumes is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub tenant_channels: Option<u32>,
    /// Bytes that are kept of the publications of all channels of a tenant, each 128 more than its payload;
    /// more are refused with 2006 until something has run out. Nothing is kept of ephemeral ones. In a
    /// cluster of Redis, where it is counted every 5 s, it may be exceeded by what comes meanwhile. Not
    /// bounded unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 65_536, max = 1_000_000_000_000_000_u64))]
    pub tenant_history_bytes: Option<u64>,
    /// Subscriptions of one connection at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub connection_subscriptions: Option<u32>,
    /// Bytes of one payload, at most half of `server.max_message_bytes`, which it is unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_024, max = 524_288))]
    pub payload_bytes: Option<u32>,
    /// Bytes on their way to one client above which it is handed no publications: it falls behind, and
    /// catches up from what its channels keep once it has read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16_384, max = 4_194_304))]
    pub unsent_bytes: Option<u32>,
    /// New connections of a tenant a second on one node, and twice as many at once; more are refused with
    /// 2005, and then closed with 1013. Whoever resumes gets in regardless.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub tenant_connect_rate: Option<u32>,
    /// Connections of a tenant at once, over all nodes; more are refused with 2006. Whoever resumes gets
    /// in regardless. Not bounded unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub tenant_connections: Option<u32>,
    /// Publications a second of a tenant, over all nodes, from its clients and its servers; more are
    /// refused with 2005. Not bounded unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub tenant_publish_rate: Option<u32>,
    /// Bytes of payload a second that a tenant publishes, over all nodes; more are refused with 2005. Not
    /// bounded unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_024, max = 4_000_000_000_u32))]
    pub tenant_bytes_in: Option<u32>,
    /// Bytes a second that a tenant's clients are sent, over all nodes, before compression. Beyond it
    /// publications wait, and channels that have to wait for long are caught up from what they keep.
    /// Not bounded unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_024, max = 4_000_000_000_u32))]
    pub tenant_bytes_out: Option<u32>,
}

impl OwnLimits {
    /// What holds for all tenants unless an operator says otherwise.
    pub const ORDINARY: Self = Self {
        connection_publish_rate: Some(50),
        connection_publish_burst: Some(100),
        connection_publish_bytes: Some(262_144),
        connection_command_rate: Some(100),
        connection_command_burst: Some(1_200),
        channel_publish_rate: Some(1_000),
        tenant_channels: Some(1_000_000),
        tenant_history_bytes: None,
        connection_subscriptions: Some(512),
        payload_bytes: None,
        unsent_bytes: Some(262_144),
        tenant_connect_rate: Some(500),
        tenant_connections: None,
        tenant_publish_rate: None,
        tenant_bytes_in: None,
        tenant_bytes_out: None,
    };

    /// Whether nothing is otherwise.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These, and those of `rest` that are not among them.
    #[must_use]
    pub fn or(self, rest: Self) -> Self {
        let either = Option::or;
        Self {
            connection_publish_rate: either(
                self.connection_publish_rate,
                rest.connection_publish_rate,
            ),
            connection_publish_burst: either(
                self.connection_publish_burst,
                rest.connection_publish_burst,
            ),
            connection_publish_bytes: either(
                self.connection_publish_bytes,
                rest.connection_publish_bytes,
            ),
            connection_command_rate: either(
                self.connection_command_rate,
                rest.connection_command_rate,
            ),
            connection_command_burst: either(
                self.connection_command_burst,
                rest.connection_command_burst,
            ),
            channel_publish_rate: either(self.channel_publish_rate, rest.channel_publish_rate),
            tenant_channels: either(self.tenant_channels, rest.tenant_channels),
            tenant_history_bytes: self.tenant_history_bytes.or(rest.tenant_history_bytes),
            connection_subscriptions: either(
                self.connection_subscriptions,
                rest.connection_subscriptions,
            ),
            payload_bytes: either(self.payload_bytes, rest.payload_bytes),
            unsent_bytes: either(self.unsent_bytes, rest.unsent_bytes),
            tenant_connect_rate: either(self.tenant_connect_rate, rest.tenant_connect_rate),
            tenant_connections: either(self.tenant_connections, rest.tenant_connections),
            tenant_publish_rate: either(self.tenant_publish_rate, rest.tenant_publish_rate),
            tenant_bytes_in: either(self.tenant_bytes_in, rest.tenant_bytes_in),
            tenant_bytes_out: either(self.tenant_bytes_out, rest.tenant_bytes_out),
        }
    }

    /// What its channels may have, where `rest` is what holds for those of others.
    pub fn channels(&self, rest: ChannelLimits) -> ChannelLimits {
        ChannelLimits {
            publish: self.channel_publish_rate.map(Pace::doubled).or(rest.publish),
            followed: self.tenant_channels.or(rest.followed),
            kept_bytes: self.tenant_history_bytes.or(rest.kept_bytes),
        }
    }

    /// All other limits of the tenant, where `rest` is what holds for the others.
    pub fn over(&self, rest: TenantLimits) -> TenantLimits {
        let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let pace = |rate: Option<u32>, burst: Option<u32>, rest: Pace| Pace {
            per_second: rate.unwrap_or(rest.per_second),
            burst: burst.unwrap_or(rest.burst),
        };
        let payload_bytes = self.payload_bytes.map_or(rest.payload_bytes, size);
        let bytes = self.connection_publish_bytes;
        TenantLimits {
            connection_publish: pace(
                self.connection_publish_rate,
                self.connection_publish_burst,
                rest.connection_publish,
            ),
            connection_publish_bytes: bytes.map_or(rest.connection_publish_bytes, |bytes| {
                TenantLimits::bytes_pace(bytes, payload_bytes)
            }),
            connection_commands: pace(
                self.connection_command_rate,
                self.connection_command_burst,
                rest.connection_commands,
            ),
            connection_subscriptions: self
                .connection_subscriptions
                .map_or(rest.connection_subscriptions, size),
            payload_bytes,
            unsent_bytes: self.unsent_bytes.map_or(rest.unsent_bytes, size),
            tenant_connects: self.tenant_connect_rate.map_or(rest.tenant_connects, Pace::doubled),
            quotas: self.quotas(rest.quotas),
        }
    }

    fn quotas(&self, rest: Quotas) -> Quotas {
        let own = [self.tenant_publish_rate, self.tenant_bytes_in, self.tenant_bytes_out];
        Quotas {
            connections: self.tenant_connections.or(rest.connections),
            rates: Rates::from(own).with(rest.rates).map(|(own, rest)| own.or(rest)),
        }
    }
}
