//! What is asked of credentials.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Period;

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Name that the `aud` claim of every token must hold.
    pub audience: String,
    /// How far ahead a token may expire. An hour is plenty for tokens that are refreshed.
    #[schemars(extend("x-min" = "1m", "x-max" = "30d"))]
    pub max_token_lifetime: Period,
}

impl Default for Auth {
    fn default() -> Self {
        Self { audience: "tidewire".into(), max_token_lifetime: Period::from_secs(24 * 3600) }
    }
}
