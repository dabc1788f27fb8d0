use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A span of time as people write it: a whole number and a unit, such as `250ms`, `5s`, `2m`, `1h`
/// or `7d`.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period(Duration);

/// From the largest, so that a period is written with the largest unit that divides it.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Period {
    /// The format's name in the JSON Schema.
    pub const FORMAT: &str = "period";

    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Period {
    type Err = InvalidPeriod;

    fn from_str(text: &str) -> Result<Self, InvalidPeriod> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(InvalidPeriod)?;
        let (count, unit) = text.split_at(digits);
        let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(InvalidPeriod)?;
        let count: u64 = count.parse().map_err(|_| InvalidPeriod)?;
        count.checked_mul(*millis).map(|ms| Self(Duration::from_millis(ms))).ok_or(InvalidPeriod)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        let divides = |(_, unit): &&(&str, u64)| millis.is_multiple_of(u128::from(*unit));
        let (name, unit) = UNITS.iter().find(divides).expect("a millisecond divides every period");
        write!(f, "{}{name}", millis / u128::from(*unit))
    }
}

impl TryFrom<String> for Period {
    type Error = InvalidPeriod;

    fn try_from(text: String) -> Result<Self, InvalidPeriod> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

impl JsonSchema for Period {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": Self::FORMAT,
            "pattern": "^[0-9]+(ms|s|m|h|d)$",
        })
    }
}

/// A text is not a period.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a duration such as \"250ms\", \"5s\", \"2m\", \"1h\" or \"7d\"")]
pub struct InvalidPeriod;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_a_number_and_a_unit() {
        for (text, millis) in [("250ms", 250), ("5s", 5000), ("2m", 120_000), ("0s", 0)] {
            let period: Period = text.parse().expect(text);

            assert_eq!(period.duration(), Duration::from_millis(millis));
            assert_eq!(period.to_string(), text);
        }
        assert_eq!("120s".parse::<Period>().map(|period| period.to_string()), Ok("2m".into()));
    }

    #[test]
    fn anything_else_is_none() {
        for text in ["", "5", "s", "5 s", "-5s", "1.5s", "5sec", "1h30m", "99999999999999999d"] {
            assert_eq!(text.parse::<Period>(), Err(InvalidPeriod), "{text:?}");
        }
    }
}
