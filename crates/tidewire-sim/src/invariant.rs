use std::fmt;

/// What must hold whatever fails.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Invariant {
    /// Offsets rise one by one, or a notice covers the hole.
    Order,
    /// One content for each position, to everybody and in the log.
    Agreement,
    /// What one publisher sent first has the lower offset.
    PublisherOrder,
    /// No id twice, neither to a client nor in the log.
    Once,
    /// In the end everybody is at the top, with everything since its start seen or under a notice.
    Completeness,
    /// What was acknowledged is in the log, unless two faults together explain that it is not.
    Keeping,
    /// A session has one owner, and nobody writes to it under a lower generation.
    Ownership,
    /// Nothing is left over of those who have gone.
    Bounds,
    /// Who is told that it recovered, or why it did not, is told the truth.
    Honesty,
    /// When faults cease, everybody is connected and current before long.
    Settling,
    /// Nothing panics.
    Composure,
}

impl Invariant {
    /// Its number among the invariants of the semantics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Order => "I1",
            Self::Agreement => "I2",
            Self::PublisherOrder => "I3",
            Self::Once => "I4",
            Self::Completeness => "I5",
            Self::Keeping => "I6",
            Self::Ownership => "I8",
            Self::Bounds => "I11",
            Self::Honesty => "I12",
            Self::Settling => "I13",
            Self::Composure => "panic",
        }
    }
}

/// An invariant that does not hold, and where that was seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Objection {
    pub invariant: Invariant,
    pub text: String,
}

impl Objection {
    pub(crate) fn new(invariant: Invariant, text: impl Into<String>) -> Self {
        Self { invariant, text: text.into() }
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.invariant.code(), self.text)
    }
}
