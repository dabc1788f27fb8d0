//! What was promised in a figure, and whether it is so.

/// A figure that must not be more than what was promised.
#[derive(Debug, PartialEq)]
pub(super) struct Promise {
    what: String,
    /// `None` where there is no figure, which keeps no promise.
    figure: Option<f64>,
    most: f64,
}

impl Promise {
    pub(super) fn new(what: &str, figure: Option<f64>, most: f64) -> Self {
        Self { what: what.to_owned(), figure, most }
    }

    pub(super) fn is_kept(&self) -> bool {
        self.figure.is_some_and(|figure| figure <= self.most)
    }
}

impl std::fmt::Display for Promise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = if self.is_kept() { "kept" } else { "BROKEN" };
        let figure = self.figure.map_or("none".to_owned(), |figure| format!("{figure:.1}"));
        write!(f, "{:<44} {figure:>9} of at most {:<7} {verdict}", self.what, self.most)
    }
}
