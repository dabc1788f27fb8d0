use std::fmt::Display;

/// Something that is wrong with what is written down, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// As in `rules[0].pattern`; empty for the whole.
    pub path: String,
    /// Repeats no secret.
    pub message: String,
}

/// Everything that was found, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub fn add(&mut self, path: &str, message: impl Into<String>) {
        self.0.push(Problem { path: path.trim_start_matches('.').into(), message: message.into() });
    }

    /// The value, or nothing and a problem about `path`.
    pub(crate) fn accept<T, E: Display>(&mut self, path: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(path, error.to_string())).ok()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
