//! Reading the files that keys ending in `_file` name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::draft::Draft;
use super::problem::Origin;
use super::schema::{Key, Shape, root};

/// A secret is a line or two, and the wrong path is often something large.
const MAX_BYTES: u64 = 64 * 1024;

/// The draft's table with every `<key>_file` replaced by `<key>` and the file's content.
pub(crate) fn read_all(draft: &mut Draft) -> Table {
    let mut table = draft.table.clone();
    read_table(draft, &mut table, root(), "");
    table
}

fn read_table(draft: &mut Draft, table: &mut Table, keys: &BTreeMap<String, Key>, path: &str) {
    for (name, key) in keys {
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (&key.shape, table.get_mut(name)) {
            (Shape::Table(keys), Some(Value::Table(table))) => {
                read_table(draft, table, keys, &below);
            }
            (Shape::List { of, .. }, Some(Value::Array(items))) => {
                read_items(draft, items, of, &below);
            }
            _ => {}
        }
        if name.ends_with("_file") {
            replace(draft, table, keys, &below);
        }
    }
}

fn read_items(draft: &mut Draft, items: &mut [Value], of: &Shape, path: &str) {
    let Shape::Table(keys) = of else { return };
    for (index, item) in items.iter_mut().enumerate() {
        if let Value::Table(table) = item {
            read_table(draft, table, keys, &format!("{path}[{index}]"));
        }
    }
}

fn replace(draft: &mut Draft, table: &mut Table, keys: &BTreeMap<String, Key>, path: &str) {
    let name = path.rsplit('.').next().unwrap_or(path);
    let plain = name.trim_end_matches("_file");
    let (Some(key), Some(Value::String(file))) = (keys.get(plain), table.get(name)) else { return };
    if table.contains_key(plain) {
        let message = format!("set either `{plain}` or `{name}`, not both");
        draft.problem(path, &message, None);
        return;
    }
    let file = located(draft, path, file);
    match read_text(&file) {
        Ok(text) => {
            let value = to_value(&text, &key.shape);
            table.remove(name);
            table.insert(plain.to_owned(), value);
        }
        Err(why) => draft.problem(path, &format!("{} {why}", file.display()), None),
    }
}

/// A path in the file is relative to it, one in the environment to where the process runs.
pub(crate) fn located(draft: &Draft, path: &str, file: &str) -> PathBuf {
    match draft.origin(path) {
        Origin::File(_) => draft.directory.join(file),
        _ => file.into(),
    }
}

fn to_value(text: &str, shape: &Shape) -> Value {
    match shape {
        Shape::List { .. } => {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            lines.map(|line| Value::String(line.to_owned())).collect::<Vec<_>>().into()
        }
        // Editors and `echo` end a file with a newline that is no part of the secret.
        _ => Value::String(text.trim_end_matches(['\n', '\r']).to_owned()),
    }
}

/// What a file of a secret holds. Blocks.
///
/// # Errors
///
/// What is wrong with it, to be put behind its name: it cannot be read, is above 64 KiB, or empty.
pub fn read_text(file: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(file).map_err(|error| format!("cannot be read: {error}"))?;
    if metadata.len() > MAX_BYTES {
        return Err(format!("has {} bytes, which is no secret", metadata.len()));
    }
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot be read: {error}"))?;
    if text.trim().is_empty() { Err("is empty".into()) } else { Ok(text) }
}
