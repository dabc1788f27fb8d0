//! Comparing what was written with the schema: unknown keys, wrong types, values out of bounds.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::schema::{Key, Shape};
use super::suggestion::nearest;
use tidewire_tenant::Period;

/// What a walk over some values found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Where each value stands, by path.
    pub(crate) spans: HashMap<String, Range<usize>>,
    pub(crate) secrets: Vec<Range<usize>>,
    pub(crate) mistakes: Vec<Mistake>,
}

/// A value the schema does not allow.
#[derive(Debug)]
pub(crate) struct Mistake {
    pub(crate) path: String,
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) remedy: Option<String>,
}

impl Findings {
    pub(crate) fn check_table(
        &mut self,
        table: &DeTable<'_>,
        keys: &BTreeMap<String, Key>,
        path: &str,
        span: &Range<usize>,
    ) {
        for (name, value) in table {
            let below = join(path, name.get_ref());
            match keys.get(name.get_ref().as_ref()) {
                Some(key) => self.check_key(key, value, &below, name.span()),
                None => self.unknown_key(name, value, keys, path),
            }
        }
        for (name, key) in keys {
            if key.required && !table.contains_key(name.as_str()) {
                let message = format!("key `{name}` is missing");
                self.mistake(path, span.clone(), message, None);
            }
        }
    }

    fn check_key(
        &mut self,
        key: &Key,
        value: &Spanned<DeValue<'_>>,
        path: &str,
        name: Range<usize>,
    ) {
        if key.secret {
            self.secrets.push(value.span());
        }
        self.spans.insert(path.to_owned(), name);
        self.check_value(value, &key.shape, path);
    }

    fn unknown_key(
        &mut self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        keys: &BTreeMap<String, Key>,
        path: &str,
    ) {
        // It may be a secret under a misspelt name.
        self.secrets.push(value.span());
        let meant = nearest(name.get_ref(), keys.keys().map(String::as_str));
        let remedy = meant.map(|meant| format!("did you mean `{meant}`?"));
        let below = join(path, name.get_ref());
        self.mistake(&below, name.span(), "unknown key".into(), remedy);
    }

    pub(crate) fn check_value(&mut self, value: &Spanned<DeValue<'_>>, shape: &Shape, path: &str) {
        let span = value.span();
        match (shape, value.get_ref()) {
            (Shape::Table(keys), DeValue::Table(table)) => {
                self.check_table(table, keys, path, &span);
            }
            (Shape::Map(of), DeValue::Table(table)) => {
                for (name, value) in table {
                    let below = join(path, &format!("{:?}", name.get_ref()));
                    self.spans.insert(below.clone(), name.span());
                    self.check_value(value, of, &below);
                }
            }
            (Shape::List { of, min, max }, DeValue::Array(items)) => {
                let count = items.len() as u64;
                if !(*min..=*max).contains(&count) {
                    self.mistake(path, span, count_message(*min, *max, count), None);
                }
                for (index, item) in items.iter().enumerate() {
                    let below = format!("{path}[{index}]");
                    self.spans.insert(below.clone(), item.span());
                    self.check_value(item, of, &below);
                }
            }
            (shape, value) => {
                if !allows(shape, value) {
                    self.mistake(path, span, format!("expected {}", shape.describe()), None);
                }
            }
        }
    }

    fn mistake(&mut self, path: &str, span: Range<usize>, message: String, remedy: Option<String>) {
        self.mistakes.push(Mistake { path: path.to_owned(), span, message, remedy });
    }
}

/// Whether a single value is of the shape's type and within its bounds.
fn allows(shape: &Shape, value: &DeValue<'_>) -> bool {
    match (shape, value) {
        (Shape::Text { choices }, DeValue::String(text)) => {
            choices.is_empty() || choices.iter().any(|choice| choice == text)
        }
        (Shape::Period { min, max }, DeValue::String(text)) => {
            text.parse().is_ok_and(|period: Period| (*min..=*max).contains(&period))
        }
        (Shape::Integer { min, max }, DeValue::Integer(number)) => {
            i64::from_str_radix(number.as_str(), number.radix())
                .is_ok_and(|number| (*min..=*max).contains(&number))
        }
        _ => false,
    }
}

fn count_message(min: u64, max: u64, count: u64) -> String {
    if count < min {
        format!("at least {min} needed, found {count}")
    } else {
        format!("at most {max} allowed, found {count}")
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
