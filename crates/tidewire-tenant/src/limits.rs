use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_model::{Pace, Quotas, Rates, TenantLimits};

/// What of the limits is otherwise for one tenant.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct OwnLimits {
    /// Instead of `limits.connection_publish_rate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connection_publish_rate: Option<u32>,
    /// Instead of `limits.connection_publish_burst`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connection_publish_burst: Option<u32>,
    /// Instead of `limits.connection_publish_bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_024, max = 1_000_000_000))]
    pub connection_publish_bytes: Option<u32>,
    /// Instead of `limits.connection_command_rate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connection_command_rate: Option<u32>,
    /// Instead of `limits.connection_command_burst`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connection_command_burst: Option<u32>,
    /// Instead of `limits.connection_subscriptions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub connection_subscriptions: Option<u32>,
    /// Instead of `limits.payload_bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_024, max = 524_288))]
    pub payload_bytes: Option<u32>,
    /// Instead of `limits.unsent_bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16_384, max = 4_194_304))]
    pub unsent_bytes: Option<u32>,
    /// Instead of `limits.tenant_connections`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub tenant_connections: Option<u32>,
    /// Instead of `limits.tenant_publish_rate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub tenant_publish_rate: Option<u32>,
    /// Instead of `limits.tenant_bytes_in`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_024, max = 4_000_000_000_u32))]
    pub tenant_bytes_in: Option<u32>,
    /// Instead of `limits.tenant_bytes_out`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_024, max = 4_000_000_000_u32))]
    pub tenant_bytes_out: Option<u32>,
}

impl OwnLimits {
    /// Whether nothing is otherwise.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// All limits of the tenant, where `rest` is what holds for the others.
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
