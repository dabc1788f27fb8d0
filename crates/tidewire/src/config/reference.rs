use std::collections::BTreeMap;
use std::fmt::Write as _;

use tidewire_model::Action;

use super::environment::COMMAND_LINE;
use super::print::{default_of, sections, variable_of};
use super::schema::{Key, Shape, root};

const INTRODUCTION: &str = "\
# Configuration

<!-- Written by `tidewire config docs`. Change the doc comments in \
`crates/tidewire/src/config/document/` instead. -->

`tidewire serve --config tidewire.toml` reads one TOML file. Unknown keys are refused, and every
problem is reported at once; `tidewire config check` does so without starting anything.
`tidewire config init` writes a small file that works, `tidewire config schema` the JSON Schema for
editors, and `tidewire config print --origin` shows what is in effect and why.

- **Environment.** Every key is also a variable, `TIDEWIRE_SECTION__KEY`, which overrides the file.
  A string stands as it is, everything else is written in TOML; a list of strings may also be
  separated by commas. An empty variable is as good as none. A variable that starts with `TIDEWIRE_`
  and is no key is refused, except those Kubernetes sets for services.
- **Secrets.** Every secret can be given as a file instead, by the key of the same name with `_file`
  (`TIDEWIRE_REDIS__PASSWORD_FILE`). A relative path in the file is relative to the file. Trailing
  newlines are dropped. A secret is never shown: not in errors, logs or `config print`.
- **Durations** are a whole number and a unit: `250ms`, `5s`, `2m`, `1h`, `7d`.
";

/// The reference of all keys in Markdown, which is `docs/configuration.md`.
pub fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    for (section, keys) in sections() {
        paragraph(&mut text, &format!("## `[{section}]`"));
        paragraph(&mut text, &root()[section].doc);
        write_keys(&mut text, keys, Some(section));
    }
    write_tenants(&mut text);
    paragraph(&mut text, "## Variables of the command line");
    let names: Vec<_> = COMMAND_LINE.iter().map(|name| format!("`{name}`")).collect();
    let names = names.join(", ");
    paragraph(&mut text, &format!("{names} stand for the options of the same name."));
    text
}

fn write_tenants(text: &mut String) {
    let key = &root()["tenants"];
    paragraph(text, "## `[[tenants]]`");
    paragraph(text, &key.doc);
    paragraph(text, "As a variable: `TIDEWIRE_TENANTS`, a TOML list of tables.");
    let Some(keys) = item_keys(key) else { return };
    write_keys(text, keys, None);
    for (name, key) in keys {
        if let Some(keys) = item_keys(key) {
            paragraph(text, &format!("### `[[tenants.{name}]]`"));
            paragraph(text, &key.doc);
            write_keys(text, keys, None);
        }
    }
}

fn item_keys(key: &Key) -> Option<&BTreeMap<String, Key>> {
    let Shape::List { of, .. } = &key.shape else { return None };
    match of.as_ref() {
        Shape::Table(keys) => Some(keys),
        _ => None,
    }
}

fn write_keys(text: &mut String, keys: &BTreeMap<String, Key>, section: Option<&str>) {
    text.push('\n');
    for (name, key) in keys.iter().filter(|(_, key)| item_keys(key).is_none()) {
        let default = section.and_then(|section| default_of(section, name));
        let mut facts = vec![describe(key)];
        facts.extend(default.map(|default| format!("default `{default}`")));
        if key.required {
            facts.push("required".into());
        }
        if key.secret {
            facts.push("secret".into());
        }
        facts.extend(section.map(|section| format!("`{}`", variable_of(section, name))));
        let facts = facts.join(" · ");
        writeln!(text, "- **`{name}`** — {facts}  \n  {}", key.doc).expect("a string takes it");
    }
}

fn describe(key: &Key) -> String {
    match &key.shape {
        Shape::Text { choices } if !choices.is_empty() => {
            let choices: Vec<_> = choices.iter().map(|choice| format!("`\"{choice}\"`")).collect();
            choices.join(" or ")
        }
        Shape::Map(_) => {
            let actions = Action::ALL.map(|action| format!("`\"{}\"`", action.as_str()));
            format!("a table of pattern = list of {}", actions.join(", "))
        }
        shape => shape.describe().replace('"', "`"),
    }
}

fn paragraph(text: &mut String, content: &str) {
    writeln!(text, "\n{content}").expect("a string takes it");
}
