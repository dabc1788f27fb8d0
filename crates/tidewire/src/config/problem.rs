use std::fmt;

use super::source::Place;

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The key it is about, such as `server.listen` or `tenants[0].keys[1].secret`.
    pub key: String,
    pub origin: Origin,
    /// What is wrong. It repeats no secret.
    pub message: String,
    /// What to do about it, when that is known.
    pub remedy: Option<String>,
}

/// Where a value comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    Default,
    File(Box<Place>),
    /// The environment variable of this name.
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(place) => write!(f, "{}:{}", place.file, place.line),
            Self::Environment(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Default if self.key.is_empty() => write!(f, "{}", self.message)?,
            Origin::Default => write!(f, "{}: {}", self.key, self.message)?,
            Origin::Environment(name) => write!(f, "{name}: {}", self.message)?,
            Origin::File(place) => write_place(f, place, &self.key, &self.message)?,
        }
        match &self.remedy {
            Some(remedy) => write!(f, "\n  = {remedy}"),
            None => Ok(()),
        }
    }
}

fn write_place(f: &mut fmt::Formatter<'_>, place: &Place, key: &str, message: &str) -> fmt::Result {
    let Place { file, line, column, snippet, width } = place;
    let subject = if key.is_empty() { String::new() } else { format!("{key}: ") };
    let gutter = " ".repeat(line.to_string().len());
    let indent = " ".repeat(column - 1);
    let marks = "^".repeat(*width);
    writeln!(f, "{file}:{line}:{column}: {subject}{message}")?;
    writeln!(f, " {gutter} |")?;
    writeln!(f, " {line} | {snippet}")?;
    write!(f, " {gutter} | {indent}{marks}")
}

/// Why there is no configuration: everything that is wrong with it at once.
#[derive(Clone, Debug, thiserror::Error)]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "configuration has {count} {noun}")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n\n{problem}"))
    }
}
