use serde::{Deserialize, Serialize};

/// How a publication is written as what changed since the one before it in its channel.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeltaFormat {
    /// Fossil's delta encoding, as its `delta_format` document describes it.
    Fossil,
}

impl DeltaFormat {
    /// The format of this name; `None` for one that this version does not know.
    pub fn parse(name: &str) -> Option<Self> {
        (name == Self::Fossil.as_str()).then_some(Self::Fossil)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fossil => "fossil",
        }
    }
}

/// Whether publications on their way to a client may be written as what changed.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Deltas {
    /// The client has not asked for it, or its channel does not offer it.
    #[default]
    Unasked,
    /// Whether the client holds the publication before the first of these is unknown: that is
    /// written in full, and those after it as what changed.
    Baseless(DeltaFormat),
    /// The client was sent the publication before the first of these, over this connection.
    Based(DeltaFormat),
}

impl Deltas {
    /// Before a client that asked for `format` has been sent anything.
    pub fn asked(format: Option<DeltaFormat>) -> Self {
        format.map_or(Self::Unasked, Self::Baseless)
    }

    pub fn format(self) -> Option<DeltaFormat> {
        match self {
            Self::Unasked => None,
            Self::Baseless(format) | Self::Based(format) => Some(format),
        }
    }

    /// For what follows, once a publication was sent.
    #[must_use]
    pub fn after_sending(self) -> Self {
        self.format().map_or(Self::Unasked, Self::Based)
    }

    /// For what follows a gap.
    #[must_use]
    pub fn after_gap(self) -> Self {
        Self::asked(self.format())
    }
}
