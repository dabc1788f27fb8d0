use bytes::Bytes;
use serde::de::IgnoredAny;

/// What a publisher wants delivered. Opaque: nothing in the cluster looks inside.
///
/// The two kinds exist only because a JSON client can carry JSON as it stands and must wrap
/// anything else.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Payload {
    /// One JSON value, byte for byte as the publisher wrote it.
    Json(JsonText),
    /// Anything else.
    Binary(Bytes),
}

impl Payload {
    /// The most arrays and objects of a JSON value that may lie in one another. Subscribers parse
    /// what publishers wrote, many of them recursively.
    pub const MAX_DEPTH: usize = 32;

    /// Checks once that `text` is one JSON value (RFC 8259) in UTF-8 and not nested too deeply, so
    /// that it can be embedded in a JSON frame without being looked at again.
    pub fn json(text: Bytes) -> Result<Self, InvalidPayload> {
        serde_json::from_slice::<IgnoredAny>(&text).map_err(|_| InvalidPayload::NotJson)?;
        // IgnoredAny skips over the inside of strings without checking their encoding.
        std::str::from_utf8(&text).map_err(|_| InvalidPayload::NotJson)?;
        Self::json_value(text)
    }

    /// Takes bytes that have just been parsed as one JSON value, and checks what parsing does not.
    pub fn json_value(text: Bytes) -> Result<Self, InvalidPayload> {
        if is_too_deep(&text) {
            return Err(InvalidPayload::TooDeep);
        }
        Ok(Self::Json(JsonText(text)))
    }

    /// Takes bytes that a node has already checked: those read back from the log or the broker.
    pub fn checked_json(text: Bytes) -> Self {
        Self::Json(JsonText(text))
    }

    pub fn binary(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }

    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Json(JsonText(bytes)) | Self::Binary(bytes) => bytes,
        }
    }

    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    pub fn is_json(&self) -> bool {
        matches!(self, Self::Json(_))
    }
}

/// The bytes of one JSON value; only [`Payload`] makes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JsonText(Bytes);

impl JsonText {
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

/// Why bytes cannot be a JSON payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidPayload {
    #[error("payload is not one valid JSON value")]
    NotJson,
    #[error("payload is nested too deeply, at most {} levels are allowed", Payload::MAX_DEPTH)]
    TooDeep,
}

/// Looks at each byte of a JSON value twice at the most, and without recursion.
fn is_too_deep(text: &[u8]) -> bool {
    opening_brackets(text) > Payload::MAX_DEPTH && is_nested_too_deeply(text)
}

/// How many there are, those in strings too: what has few cannot be deep, and they are counted many
/// at once.
fn opening_brackets(text: &[u8]) -> usize {
    // `{` is `[` with one bit set.
    let is_bracket = |byte: &u8| u8::from(byte | 0x20 == b'{');
    let counts = text.chunks(u8::MAX.into()).map(|chunk| chunk.iter().map(is_bracket).sum::<u8>());
    counts.map(usize::from).sum()
}

fn is_nested_too_deeply(text: &[u8]) -> bool {
    let (mut depth, mut is_in_string) = (0_usize, false);
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => is_in_string = !is_in_string,
            // Whatever is escaped does not end the string. A backslash stands nowhere else.
            b'\\' => {
                bytes.next();
            }
            b'[' | b'{' if !is_in_string => depth += 1,
            b']' | b'}' if !is_in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > Payload::MAX_DEPTH {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn json_is_kept_byte_for_byte() {
        let text = Bytes::from_static(b" {\"a\" : 1.50e0,\n\"b\":\"\\u00e9\"} ");

        let payload = Payload::json(text.clone()).expect("valid");

        assert_eq!(payload.bytes(), &text);
    }

    #[test]
    fn what_could_break_out_of_a_json_frame_is_refused() {
        let bad: [&[u8]; 7] =
            [b"", b"1,2", b"{\"a\":1}]", b"\"\xff\"", b"nul", b"\"\x01\"", b"{} {}"];
        for text in bad {
            assert_eq!(
                Payload::json(Bytes::from_static(text)),
                Err(InvalidPayload::NotJson),
                "{text:?}"
            );
        }
    }

    fn nested(open: &str, close: &str, depth: usize) -> Bytes {
        format!("{}1{}", open.repeat(depth), close.repeat(depth)).into()
    }

    #[test]
    fn json_may_be_nested_up_to_a_bound() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), (" [\"]\\\"]\", ", "]")] {
            let deepest = nested(open, close, Payload::MAX_DEPTH);
            assert!(Payload::json(deepest).is_ok(), "{open}");

            let deeper = nested(open, close, Payload::MAX_DEPTH + 1);
            assert_eq!(Payload::json(deeper), Err(InvalidPayload::TooDeep), "{open}");
        }
    }

    #[test]
    fn width_is_not_depth_and_neither_are_brackets_in_strings() {
        let wide = format!("[{}[]]", "[],{},".repeat(1_000));
        let quoted = format!("\"{}\\\"{}\"", "[{".repeat(1_000), "[".repeat(1_000));

        for text in [wide, quoted] {
            assert!(Payload::json(text.into()).is_ok());
        }
    }

    /// By the definition, on a parsed value.
    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            "[\\[\\]{}\"\\\\a]{0,6}".prop_map(Value::from),
        ];
        // Wrapping a value brings it near the bound, which branching at random would never reach.
        let wraps = proptest::collection::vec(any::<bool>(), 0..40);
        let branching = leaf.prop_recursive(8, 32, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map("[\\[{\"\\\\]{0,3}", inner, 0..3)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        });
        (branching, wraps).prop_map(|(value, wraps)| {
            wraps.into_iter().fold(value, |value, is_array| {
                if is_array { Value::from(vec![value]) } else { serde_json::json!({ "[": value }) }
            })
        })
    }

    proptest! {
        #[test]
        fn exactly_what_is_deeper_than_the_bound_is_refused(value in values()) {
            let verdict = Payload::json(value.to_string().into());

            prop_assert_eq!(verdict.is_ok(), depth(&value) <= Payload::MAX_DEPTH);
        }
    }
}
