use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Period;

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Placement {
    /// Whether a new client of a tenant that is not at home on this node is told of nodes where it is, if
    /// those say where they are reached (`server.advertise`). It is served here if it does not go there,
    /// and nobody is told twice.
    pub redirect: Switch,
    /// Whether a node that has 15 % more clients than its share asks some to go to nodes that have fewer,
    /// until it has 5 % more (of few clients: 30 and 10). Nobody is disconnected, and nothing is asked while
    /// a node drains, Redis cannot be reached or another node has nothing to spare.
    pub rebalance: Switch,
    /// Thousandths of a node's clients that it asks to go in a minute, at most; one in a second at least.
    #[schemars(range(min = 1, max = 10_000))]
    pub rebalance_rate: u32,
    /// How long a node has to have too many clients before it begins; and twice that to be up.
    #[schemars(extend("x-min" = "1s", "x-max" = "1h"))]
    pub rebalance_after: Period,
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            redirect: Switch::Off,
            rebalance: Switch::Off,
            rebalance_rate: 10,
            rebalance_after: Period::from_secs(60),
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    Off,
    On,
}
