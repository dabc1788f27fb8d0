//! What tells one value of a channel from another.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use tidewire_model::Payload;

/// A longer value is none: it is compared with those of all publications that are held.
const MOST_BYTES: usize = 128;

/// The value of a member of the object that `payload` is, as it is written there.
pub(super) fn member(payload: &Payload, name: &str) -> Option<Box<str>> {
    let mut input = serde_json::Deserializer::from_slice(payload.bytes());
    let value = payload.is_json().then(|| Member(name).deserialize(&mut input))?.ok()??;
    (value.get().len() <= MOST_BYTES).then(|| value.get().into())
}

struct Member<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    /// Of several of the same name it is the last, as for most who read the object.
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = members.next_key::<Cow<'de, str>>()? {
            if name == self.0 {
                found = Some(members.next_value()?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_a_member_is_found_whatever_is_around_it() {
        for (text, expected) in [
            (r#"{"symbol":"ABC","price":3}"#, Some(r#""ABC""#)),
            (r#"{"price":{"symbol":"no"},"symbol":7}"#, Some("7")),
            (r#"{"symbol":1,"symbol":2}"#, Some("2")),
            (r#"{"sym\u0062ol":1}"#, Some("1")),
            (r#"{"price":3}"#, None),
            (r#"["symbol"]"#, None),
            ("7", None),
        ] {
            let payload = Payload::json(text.into()).expect("json");

            assert_eq!(member(&payload, "symbol").as_deref(), expected, "{text}");
        }
        assert_eq!(member(&Payload::binary("{\"symbol\":1}".into()), "symbol"), None);
        let long = format!(r#"{{"symbol":"{}"}}"#, "x".repeat(MOST_BYTES));
        assert_eq!(member(&Payload::json(long.into()).expect("json"), "symbol"), None);
    }
}
