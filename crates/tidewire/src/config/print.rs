//! Showing a configuration as TOML or as environment variables, without its secrets.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use toml::{Table, Value};

use super::document::Document;
use super::environment::{name_of, variables};
use super::schema::{Key, Shape, root};
use super::{Loaded, Origin};

/// Columns of a comment.
const WIDTH: usize = 98;

/// A file with every key, its meaning and its default.
pub fn defaults() -> String {
    let table = to_table(&Document::default());
    let mut text = String::new();
    for (section, keys) in sections() {
        comment(&mut text, &root()[section].doc);
        line(&mut text, format_args!("[{section}]"));
        for (name, key) in keys {
            comment(&mut text, &key.doc);
            match table.get(section).and_then(|values| values.get(name)) {
                Some(value) => line(&mut text, format_args!("{name} = {value}")),
                None => line(&mut text, format_args!("# {name} =")),
            }
        }
        text.push('\n');
    }
    text
}

/// What is in effect, as a file; with the origin of each value if asked for.
pub fn effective(loaded: &Loaded, with_origin: bool) -> String {
    let table = to_table(&loaded.document);
    let mut text = String::new();
    for (section, keys) in sections() {
        line(&mut text, format_args!("[{section}]"));
        for name in keys.keys() {
            let Some(value) = table.get(section).and_then(|values| values.get(name)) else {
                continue;
            };
            let origin = loaded.origin(&format!("{section}.{name}"));
            assign(&mut text, name, value, with_origin.then_some(origin));
        }
        text.push('\n');
    }
    let tenants = table.get("tenants").and_then(Value::as_array).map(Vec::as_slice);
    for (index, tenant) in tenants.unwrap_or_default().iter().enumerate() {
        if with_origin {
            line(&mut text, format_args!("# {}", loaded.origin(&format!("tenants[{index}]"))));
        }
        let wrapped = Table::from_iter([("tenants".to_owned(), vec![tenant.clone()].into())]);
        line(&mut text, format_args!("{wrapped}"));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Every variable with what is in effect; those without a value as a comment.
pub fn environment_of(loaded: &Loaded) -> String {
    let table = to_table(&loaded.document);
    let mut text = String::new();
    for (name, variable) in variables() {
        let value = match variable.path.split_once('.') {
            Some((section, key)) => table.get(section).and_then(|values| values.get(key)),
            None => table.get(&variable.path),
        };
        match value {
            Some(Value::String(value)) => line(&mut text, format_args!("{name}={value}")),
            Some(value) => line(&mut text, format_args!("{name}={value}")),
            None => line(&mut text, format_args!("# {name}=")),
        }
    }
    text
}

/// The tables of the file with their keys; `tenants` is the one thing that is none.
pub(super) fn sections() -> impl Iterator<Item = (&'static str, &'static BTreeMap<String, Key>)> {
    root().iter().filter_map(|(name, key)| match &key.shape {
        Shape::Table(keys) => Some((name.as_str(), keys)),
        _ => None,
    })
}

/// The value of a key in a document, as TOML.
pub(super) fn default_of(section: &str, name: &str) -> Option<Value> {
    to_table(&Document::default()).get(section)?.get(name).cloned()
}

/// The variable of a key.
pub(super) fn variable_of(section: &str, name: &str) -> String {
    name_of(&format!("{section}.{name}"))
}

fn to_table(document: &Document) -> Table {
    Table::try_from(document).expect("a document holds only what TOML can write")
}

fn assign(text: &mut String, name: &str, value: &Value, origin: Option<Origin>) {
    match origin {
        Some(origin) => line(text, format_args!("{name} = {value} # {origin}")),
        None => line(text, format_args!("{name} = {value}")),
    }
}

fn comment(text: &mut String, doc: &str) {
    let mut current = String::from("#");
    for word in doc.split_whitespace() {
        if current.chars().count() + 1 + word.chars().count() > WIDTH {
            line(text, format_args!("{current}"));
            "#".clone_into(&mut current);
        }
        current.push(' ');
        current.push_str(word);
    }
    line(text, format_args!("{current}"));
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("a string takes everything");
}
