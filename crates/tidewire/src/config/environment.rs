//! The environment variables that stand for keys: `TIDEWIRE_SECTION__KEY`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize as _;
use toml::de::{DeValue, ValueDeserializer};
use toml::{Spanned, Value};

use super::check::Findings;
use super::problem::{Origin, Problem};
use super::schema::{Shape, root};
use super::suggestion::nearest;

const PREFIX: &str = "TIDEWIRE_";

/// Variables that belong to options of the command line.
pub const COMMAND_LINE: [&str; 6] = [
    "TIDEWIRE_ADMIN",
    "TIDEWIRE_ADMIN_TOKEN_FILE",
    "TIDEWIRE_CONFIG",
    "TIDEWIRE_TENANT",
    "TIDEWIRE_TOKEN",
    "TIDEWIRE_URL",
];

/// A value for the key at `path`.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) path: String,
    pub(crate) value: Value,
}

/// A key that has a variable.
#[derive(Debug)]
pub(crate) struct Variable {
    pub(crate) path: String,
    pub(crate) shape: &'static Shape,
}

/// All variables, by name.
pub(crate) fn variables() -> &'static BTreeMap<String, Variable> {
    static VARIABLES: OnceLock<BTreeMap<String, Variable>> = OnceLock::new();
    VARIABLES.get_or_init(|| {
        let mut variables = BTreeMap::new();
        for (section, key) in root() {
            let Shape::Table(keys) = &key.shape else {
                let variable = Variable { path: section.clone(), shape: &key.shape };
                variables.insert(format!("{PREFIX}{}", section.to_uppercase()), variable);
                continue;
            };
            for (name, key) in keys {
                let path = format!("{section}.{name}");
                variables.insert(name_of(&path), Variable { path, shape: &key.shape });
            }
        }
        variables
    })
}

/// The variable of the key at `path`.
pub(crate) fn name_of(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_uppercase())
}

/// What the variable `name` sets; nothing if it is not ours or empty, as an unset one often is in
/// compose files.
pub(crate) fn read(name: &str, text: &str) -> Result<Option<Setting>, Problem> {
    if !name.starts_with(PREFIX) || COMMAND_LINE.contains(&name) || is_service_link(name) {
        return Ok(None);
    }
    let Some(variable) = variables().get(name) else {
        let known = variables().keys().map(String::as_str).chain(COMMAND_LINE);
        let remedy = nearest(name, known).map(|meant| format!("did you mean `{meant}`?"));
        return Err(problem(name, "", "unknown environment variable".into(), remedy));
    };
    if text.is_empty() {
        return Ok(None);
    }
    let value = read_value(name, text, variable)?;
    Ok(Some(Setting { path: variable.path.clone(), value }))
}

fn read_value(name: &str, text: &str, variable: &Variable) -> Result<Value, Problem> {
    let path = variable.path.as_str();
    let value = match variable.shape {
        Shape::Text { .. } | Shape::Period { .. } => string(text),
        Shape::List { of, .. } if matches!(**of, Shape::Text { .. }) && !is_list(text) => {
            let items = text.split(',').map(str::trim).map(string).collect();
            Spanned::new(0..text.len(), DeValue::Array(items))
        }
        shape => DeValue::parse(text).map_err(|error| {
            let expected = shape.describe();
            let message = format!("expected {expected} in TOML: {}", error.message());
            problem(name, path, message, None)
        })?,
    };
    let mut findings = Findings::default();
    findings.check_value(&value, variable.shape, path);
    if let Some(mistake) = findings.mistakes.into_iter().next() {
        let message = match mistake.path.strip_prefix(path) {
            Some("") | None => mistake.message,
            Some(below) => format!("{}: {}", below.trim_start_matches('.'), mistake.message),
        };
        return Err(problem(name, path, message, mistake.remedy));
    }
    Ok(Value::deserialize(ValueDeserializer::from(value))
        .expect("a value without a syntax error can be held"))
}

fn is_list(text: &str) -> bool {
    text.trim_start().starts_with('[')
}

fn string(text: &str) -> Spanned<DeValue<'static>> {
    Spanned::new(0..text.len(), DeValue::String(text.to_owned().into()))
}

fn problem(name: &str, path: &str, message: String, remedy: Option<String>) -> Problem {
    let origin = Origin::Environment(name.to_owned());
    Problem { key: path.to_owned(), origin, message, remedy }
}

/// Kubernetes gives every pod the addresses of the services in its namespace, so that one called
/// `tidewire` or `tidewire-redis` looks like a setting of ours (`TIDEWIRE_PORT_8000_TCP_ADDR`).
fn is_service_link(name: &str) -> bool {
    if name.contains("__") {
        return false;
    }
    let is_numbered = |rest: &str| {
        rest.strip_prefix('_').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let is_port =
        name.rsplit_once("_PORT").is_some_and(|(_, rest)| rest.is_empty() || is_numbered(rest));
    is_port
        || name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_TCP_PORT")
        || name.contains("_UDP_PORT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_injects_for_a_service_of_our_name_is_not_ours() {
        for name in [
            "TIDEWIRE_SERVICE_HOST",
            "TIDEWIRE_SERVICE_PORT",
            "TIDEWIRE_SERVICE_PORT_HTTP",
            "TIDEWIRE_PORT",
            "TIDEWIRE_PORT_8000_TCP",
            "TIDEWIRE_PORT_8000_TCP_PROTO",
            "TIDEWIRE_PORT_8000_TCP_PORT",
            "TIDEWIRE_PORT_8000_TCP_ADDR",
            "TIDEWIRE_REDIS_PORT_6379_TCP_ADDR",
        ] {
            assert!(matches!(read(name, "10.0.0.1"), Ok(None)), "{name}");
        }
    }

    #[test]
    fn a_variable_that_is_nearly_right_is_named() {
        for (name, meant) in [
            ("TIDEWIRE_SERVER_LISTEN", "TIDEWIRE_SERVER__LISTEN"),
            ("TIDEWIRE_SERVER__LISEN", "TIDEWIRE_SERVER__LISTEN"),
            ("TIDEWIRE_TOKN", "TIDEWIRE_TOKEN"),
        ] {
            let problem = read(name, "x").expect_err(name);

            assert_eq!(problem.remedy, Some(format!("did you mean `{meant}`?")));
        }
    }
}
