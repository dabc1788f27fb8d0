use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::de::DeTable;
use toml::{Spanned, Table, Value};

use super::check::{Findings, Mistake};
use super::document::Document;
use super::environment;
use super::problem::{Origin, Problem};
use super::schema;
use super::source::Source;

/// A configuration in the making: what has been read so far, from where, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) table: Table,
    origins: HashMap<String, Origin>,
    pub(crate) problems: Vec<Problem>,
    /// What relative paths in the file are relative to.
    pub(crate) directory: PathBuf,
}

impl Draft {
    pub(crate) fn read_file(&mut self, path: &Path) {
        let name = path.display().to_string();
        self.directory = path.parent().map(Path::to_owned).unwrap_or_default();
        match std::fs::read_to_string(path) {
            Ok(text) => self.read_text(Source::new(name, text)),
            Err(error) => self.problem("", &format!("{name} cannot be read: {error}"), None),
        }
    }

    fn read_text(&mut self, mut source: Source) {
        let text = source.text.clone();
        let (table, errors) = DeTable::parse_recoverable(&text);
        if !errors.is_empty() {
            source.hide_values();
            let spans = errors.into_iter().map(|error| {
                let span = error.span().unwrap_or(text.len()..text.len());
                (error.message().to_owned(), span)
            });
            self.problems.extend(spans.map(|(message, span)| in_file(&source, "", &span, message)));
            return;
        }
        let mut findings = Findings::default();
        findings.check_table(table.get_ref(), schema::root(), "", &table.span());
        for span in &findings.secrets {
            source.hide(span.clone());
        }
        for (path, span) in findings.spans {
            self.origins.insert(path, Origin::File(source.place(&span).into()));
        }
        self.table = to_table(table);
        for mistake in findings.mistakes {
            self.drop_mistaken(&mistake);
            let problem = in_file(&source, &mistake.path, &mistake.span, mistake.message);
            self.problems.push(Problem { remedy: mistake.remedy, ..problem });
        }
    }

    /// Leaves a wrong value out, so that what depends on the others can still be checked.
    fn drop_mistaken(&mut self, mistake: &Mistake) {
        match mistake.path.split_once('.') {
            None => drop(self.table.remove(&mistake.path)),
            Some((section, key)) => {
                if let Some(Value::Table(section)) = self.table.get_mut(section) {
                    section.remove(key);
                }
            }
        }
    }

    /// Lays the variables of the environment over what the file said.
    pub(crate) fn read_environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        for (name, text) in variables {
            match environment::read(&name, &text) {
                Ok(None) => {}
                Ok(Some(setting)) => self.set(&setting.path, setting.value, name),
                Err(problem) => self.problems.push(problem),
            }
        }
    }

    fn set(&mut self, path: &str, value: Value, variable: String) {
        let below = [format!("{path}."), format!("{path}[")];
        self.origins.retain(|known, _| !below.iter().any(|start| known.starts_with(start)));
        match path.split_once('.') {
            None => drop(self.table.insert(path.to_owned(), value)),
            Some((section, key)) => {
                self.displace_twin(section, key);
                let section = self.table.entry(section).or_insert_with(|| Table::new().into());
                let section = section.as_table_mut().expect("the file was checked for it");
                section.insert(key.to_owned(), value);
            }
        }
        self.origins.insert(path.to_owned(), Origin::Environment(variable));
    }

    /// A secret from the environment replaces the file's path to it, and the other way round.
    fn displace_twin(&mut self, section: &str, key: &str) {
        let twin = match key.strip_suffix("_file") {
            Some(plain) => plain.to_owned(),
            None => format!("{key}_file"),
        };
        let from_file = matches!(self.origin(&format!("{section}.{twin}")), Origin::File(_));
        if let Some(Value::Table(section)) = self.table.get_mut(section).filter(|_| from_file) {
            section.remove(&twin);
        }
    }

    /// Where the value at `path`, or the one it is part of, comes from.
    pub(crate) fn origin(&self, path: &str) -> Origin {
        let mut path = path;
        loop {
            if let Some(origin) = self.origins.get(path) {
                return origin.clone();
            }
            match path.rfind(['.', '[']) {
                Some(end) if path.contains('[') => path = &path[..end],
                _ => return Origin::Default,
            }
        }
    }

    pub(crate) fn problem(&mut self, path: &str, message: &str, remedy: Option<String>) {
        let origin = self.origin(path);
        let (key, message) = (path.to_owned(), message.to_owned());
        self.problems.push(Problem { key, origin, message, remedy });
    }

    /// Reads `table` as a document, which works unless a problem has been reported.
    pub(crate) fn document(&mut self, table: Table) -> Option<Document> {
        match Document::deserialize(table) {
            Ok(document) => Some(document),
            Err(error) => {
                if self.problems.is_empty() {
                    self.problem("", error.message(), None);
                }
                None
            }
        }
    }
}

fn in_file(source: &Source, path: &str, span: &Range<usize>, message: String) -> Problem {
    let origin = Origin::File(source.place(span).into());
    Problem { key: path.to_owned(), origin, message, remedy: None }
}

fn to_table(table: Spanned<DeTable<'_>>) -> Table {
    Table::deserialize(toml::de::Deserializer::from(table))
        .expect("every table without a syntax error can be held")
}
