use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_tenant::OwnLimits;

/// The limits of every tenant that has none of its own: what is not written down is as it is ordinarily.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(from = "OwnLimits", into = "OwnLimits")]
#[schemars(with = "OwnLimits")]
pub struct Limits(pub OwnLimits);

impl From<OwnLimits> for Limits {
    fn from(written: OwnLimits) -> Self {
        Self(written.or(OwnLimits::ORDINARY))
    }
}

impl From<Limits> for OwnLimits {
    fn from(limits: Limits) -> Self {
        limits.0
    }
}

impl Default for Limits {
    fn default() -> Self {
        OwnLimits::default().into()
    }
}
