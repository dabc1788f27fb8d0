//! Which keys there are, read off the JSON Schema of [`Document`].

use std::collections::BTreeMap;
use std::sync::OnceLock;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::document::Document;
use tidewire_tenant::Period;

/// What may stand at a place in the configuration.
#[derive(Debug)]
pub(crate) enum Shape {
    /// A table with known keys.
    Table(BTreeMap<String, Key>),
    /// A table whose keys the operator chooses.
    Map(Box<Self>),
    List {
        of: Box<Self>,
        min: u64,
        max: u64,
    },
    Text {
        choices: Vec<String>,
    },
    Period {
        min: Period,
        max: Period,
    },
    Integer {
        min: i64,
        max: i64,
    },
}

#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) doc: String,
    pub(crate) required: bool,
    /// Whether the value is, or holds nothing but, what must not be shown.
    pub(crate) secret: bool,
    pub(crate) shape: Shape,
}

/// The JSON Schema of the configuration file, for editors and charts.
pub fn json_schema() -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Document>().into()
}

/// The keys of the whole file.
pub(crate) fn root() -> &'static BTreeMap<String, Key> {
    static ROOT: OnceLock<BTreeMap<String, Key>> = OnceLock::new();
    ROOT.get_or_init(|| read_keys(&json_schema()))
}

fn read_keys(schema: &Value) -> BTreeMap<String, Key> {
    let required = texts(&schema["required"]);
    let properties = schema["properties"].as_object().expect("a table has properties");
    properties
        .iter()
        .map(|(name, schema)| {
            let key = Key {
                doc: schema["description"].as_str().unwrap_or_default().replace('\n', " "),
                required: required.contains(name),
                secret: is_secret(schema),
                shape: read_shape(schema),
            };
            (name.clone(), key)
        })
        .collect()
}

fn is_secret(schema: &Value) -> bool {
    schema["writeOnly"] == true || schema["items"]["writeOnly"] == true
}

fn read_shape(schema: &Value) -> Shape {
    if let Some(inner) = schema["anyOf"].as_array().and_then(|options| options.first()) {
        return read_shape(inner);
    }
    match type_name(schema) {
        "object" if schema["properties"].is_object() => Shape::Table(read_keys(schema)),
        "object" => Shape::Map(Box::new(read_shape(&schema["additionalProperties"]))),
        "array" => Shape::List {
            of: Box::new(read_shape(&schema["items"])),
            min: schema["minItems"].as_u64().unwrap_or(0),
            max: schema["maxItems"].as_u64().unwrap_or(u64::MAX),
        },
        "integer" => Shape::Integer {
            min: schema["minimum"].as_i64().unwrap_or(0),
            max: schema["maximum"].as_i64().unwrap_or(i64::MAX),
        },
        "string" if schema["format"] == Period::FORMAT => {
            Shape::Period { min: bound(&schema["x-min"]), max: bound(&schema["x-max"]) }
        }
        "string" => Shape::Text { choices: texts(&schema["enum"]) },
        other => unreachable!("no key is of type {other:?}; the schema has a test"),
    }
}

/// The type, leaving out the `null` of a key that may be absent: TOML cannot write it.
fn type_name(schema: &Value) -> &str {
    match &schema["type"] {
        Value::Array(names) => names.first().and_then(Value::as_str).unwrap_or_default(),
        name => name.as_str().unwrap_or_default(),
    }
}

fn bound(text: &Value) -> Period {
    let text = text.as_str().expect("every period has bounds");
    text.parse().expect("a bound is a period")
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

impl Shape {
    /// What to call a value of this shape in a message.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Table(_) | Self::Map(_) => "a table".into(),
            Self::List { of, .. } => match of.as_ref() {
                Self::Table(_) => "a list of tables".into(),
                _ => "a list of strings".into(),
            },
            Self::Text { choices } if !choices.is_empty() => {
                let quoted: Vec<_> = choices.iter().map(|choice| format!("\"{choice}\"")).collect();
                format!("one of {}", quoted.join(", "))
            }
            Self::Text { .. } => "a string".into(),
            Self::Period { min, max } => format!("a duration from \"{min}\" to \"{max}\""),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_can_be_read_off_the_schema_and_is_documented() {
        walk(root(), &mut |name, key, _| {
            assert!(key.doc.ends_with('.'), "{name} has no doc comment");
        });
    }

    #[test]
    fn every_secret_can_also_be_given_as_a_file() {
        walk(root(), &mut |name, key, siblings| {
            assert!(!key.secret || siblings.contains_key(&format!("{name}_file")), "{name}");
        });
    }

    fn walk(
        keys: &BTreeMap<String, Key>,
        visit: &mut impl FnMut(&str, &Key, &BTreeMap<String, Key>),
    ) {
        for (name, key) in keys {
            visit(name, key, keys);
            let below = match &key.shape {
                Shape::List { of, .. } => of.as_ref(),
                shape => shape,
            };
            if let Shape::Table(keys) = below {
                walk(keys, visit);
            }
        }
    }
}
