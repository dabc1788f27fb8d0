use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Placement {
    /// Whether a new client of a tenant that is not at home on this node is told of nodes where it is, if
    /// those say where they are reached (`server.advertise`). It is served here if it does not go there,
    /// and nobody is told twice.
    pub redirect: Switch,
}

impl Default for Placement {
    fn default() -> Self {
        Self { redirect: Switch::Off }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    Off,
    On,
}
