//! A row of the table: a goal, what came of it, and whether that is enough.

use std::fmt;

/// A number in its unit, over the repeats it is the best of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figure {
    pub(super) best: f64,
    pub(super) worst: f64,
    pub(super) unit: &'static str,
}

/// What the goal asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Target {
    /// At most so many times the reference.
    Times(f64),
    /// The reference is at least so many times as much.
    TimesLess(f64),
    /// At most this, in the figure's unit.
    AtMost(f64),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    Compared {
        ours: Figure,
        reference: Figure,
        name: String,
        target: Target,
    },
    Alone {
        ours: Figure,
        target: Target,
    },
    /// Why not.
    NotMeasured(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) goal: &'static str,
    pub(super) what: String,
    pub(super) outcome: Outcome,
}

impl Figure {
    /// The best and the worst of several; `None` of none.
    pub(super) fn of(values: &[f64], unit: &'static str) -> Option<Self> {
        let best = values.iter().copied().reduce(f64::min)?;
        let worst = values.iter().copied().reduce(f64::max)?;
        Some(Self { best, worst, unit })
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", short(self.best))?;
        if self.worst > self.best {
            write!(formatter, " – {}", short(self.worst))?;
        }
        write!(formatter, " {}", self.unit)
    }
}

impl Row {
    pub(super) fn not_measured(goal: &'static str, what: &str, why: impl fmt::Display) -> Self {
        let outcome = Outcome::NotMeasured(format!("{why:#}"));
        Self { goal, what: what.to_owned(), outcome }
    }

    /// Ours over the reference; of a target to be less, the reference over ours.
    pub(super) fn ratio(&self) -> Option<f64> {
        match &self.outcome {
            Outcome::Compared { ours, reference, target: Target::TimesLess(_), .. } => {
                Some(reference.best / ours.best)
            }
            Outcome::Compared { ours, reference, .. } => Some(ours.best / reference.best),
            Outcome::Alone { .. } | Outcome::NotMeasured(_) => None,
        }
    }

    /// Whether the goal is met; `None` if that was not measured.
    pub(super) fn is_met(&self) -> Option<bool> {
        let target = match &self.outcome {
            Outcome::Compared { target, .. } | Outcome::Alone { target, .. } => *target,
            Outcome::NotMeasured(_) => return None,
        };
        match (target, &self.outcome) {
            (Target::Times(most), _) => Some(self.ratio()? <= most),
            (Target::TimesLess(least), _) => Some(self.ratio()? >= least),
            (
                Target::AtMost(most),
                Outcome::Alone { ours, .. } | Outcome::Compared { ours, .. },
            ) => Some(ours.best <= most),
            (Target::AtMost(_), Outcome::NotMeasured(_)) => None,
        }
    }

    /// The cells of the table, from the goal to whether it is met.
    pub(super) fn cells(&self) -> [String; 7] {
        let goal = self.goal.to_owned();
        let what = self.what.clone();
        let ratio = self.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let met = match self.is_met() {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "–",
        };
        let (ours, reference, target) = match &self.outcome {
            Outcome::Compared { ours, reference, name, target } => {
                (ours.to_string(), format!("{name}: {reference}"), target.show(ours.unit))
            }
            Outcome::Alone { ours, target } => {
                (ours.to_string(), String::new(), target.show(ours.unit))
            }
            Outcome::NotMeasured(why) => {
                (format!("not measured: {why}"), String::new(), String::new())
            }
        };
        [goal, what, ours, reference, ratio, target, met.to_owned()]
    }
}

impl Target {
    fn show(self, unit: &str) -> String {
        match self {
            Self::Times(most) => format!("≤ {most} ×"),
            Self::TimesLess(least) => format!("≥ {least} × less"),
            Self::AtMost(most) => format!("≤ {most} {unit}"),
        }
    }
}

/// Three digits or so.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_repeat_is_what_is_compared() {
        let row = row(Target::Times(1.25), &[0.5, 0.4], &[0.36, 0.9]);

        assert_eq!(row.is_met(), Some(true));
        assert_eq!(row.cells()[2], "0.400 – 0.500 µs");
        assert_eq!(row.cells()[4], "1.11");
    }

    #[test]
    fn less_means_that_the_reference_is_more() {
        assert_eq!(row(Target::TimesLess(10.0), &[0.5], &[4.9]).is_met(), Some(false));
        assert_eq!(row(Target::TimesLess(10.0), &[0.5], &[5.0]).is_met(), Some(true));
    }

    #[test]
    fn a_limit_is_compared_with_the_figure_itself() {
        let alone = |best| Row {
            goal: "G5",
            what: String::new(),
            outcome: Outcome::Alone {
                ours: Figure::of(&[best], "B").unwrap(),
                target: Target::AtMost(1_024.0),
            },
        };

        assert_eq!(alone(1_024.0).is_met(), Some(true));
        assert_eq!(alone(1_025.0).is_met(), Some(false));
    }

    #[test]
    fn what_was_not_measured_is_not_met_nor_missed() {
        let row = Row::not_measured("G7", "TLS", "the node has no TLS");

        assert_eq!(row.is_met(), None);
        assert_eq!(row.cells()[2], "not measured: the node has no TLS");
    }

    fn row(target: Target, ours: &[f64], reference: &[f64]) -> Row {
        let ours = Figure::of(ours, "µs").unwrap();
        let reference = Figure::of(reference, "µs").unwrap();
        let outcome = Outcome::Compared { ours, reference, name: "floor".to_owned(), target };
        Row { goal: "G1", what: String::new(), outcome }
    }
}
