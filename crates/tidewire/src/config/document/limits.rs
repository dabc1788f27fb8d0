use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What every tenant may have and ask, unless its own `limits` say otherwise.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Publications a second of one connection; more are refused with 2005 until a time that is told.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connection_publish_rate: u32,
    /// Publications of one connection at once, after a rest.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connection_publish_burst: u32,
    /// Bytes of payload a second that one connection publishes, and twice as many at once; what of a
    /// message is neither payload nor a command counts as well, after decompression.
    #[schemars(range(min = 1_024, max = 1_000_000_000))]
    pub connection_publish_bytes: u32,
    /// Commands a second of one connection, publications not counted.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connection_command_rate: u32,
    /// Commands of one connection at once, after a rest: who comes back subscribes to everything.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connection_command_burst: u32,
    /// Subscriptions of one connection at once.
    #[schemars(range(min = 1, max = 65_535))]
    pub connection_subscriptions: u32,
    /// Bytes of one payload, at most half of `server.max_message_bytes`, which it is unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_024, max = 524_288))]
    pub payload_bytes: Option<u32>,
    /// Bytes on their way to one client above which it is handed no publications: it falls behind, and
    /// catches up from what its channels keep once it has read.
    #[schemars(range(min = 16_384, max = 4_194_304))]
    pub unsent_bytes: u32,
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

impl Default for Limits {
    fn default() -> Self {
        Self {
            connection_publish_rate: 50,
            connection_publish_burst: 100,
            connection_publish_bytes: 262_144,
            connection_command_rate: 100,
            connection_command_burst: 1_200,
            connection_subscriptions: 512,
            payload_bytes: None,
            unsent_bytes: 262_144,
            tenant_connections: None,
            tenant_publish_rate: None,
            tenant_bytes_in: None,
            tenant_bytes_out: None,
        }
    }
}
