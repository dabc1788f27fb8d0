use crate::DeliveryClass;

/// What becomes of a channel's publications for a client that has not read what it was sent before.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum WhenSlow {
    /// It falls behind, and goes on from its position once it has read: nothing is held for it.
    #[default]
    Lag,
    /// The newest few are held, and those before them left out.
    DropOldest,
    /// They are left out until it has read.
    DropNewest,
    /// The newest one is held as soon as the client does not take what there is, and those before it
    /// left out.
    Latest,
    /// The same for each key, of which the channel's rule says where it is in a payload.
    LatestByKey,
    /// It is disconnected.
    Disconnect,
}

impl WhenSlow {
    /// What holds in channels of a class of which no rule says anything.
    pub fn of(class: DeliveryClass) -> Self {
        match class {
            DeliveryClass::Ephemeral => Self::DropOldest,
            DeliveryClass::Recoverable | DeliveryClass::Durable => Self::Lag,
        }
    }

    /// Whether it leaves anything out, which the client is told.
    pub fn skips(self) -> bool {
        matches!(self, Self::DropOldest | Self::DropNewest) || self.is_of_values()
    }

    /// Whether only the newest values are worth anything: then nothing waits behind what a client has
    /// not taken.
    pub fn is_of_values(self) -> bool {
        matches!(self, Self::Latest | Self::LatestByKey)
    }

    /// How many publications of a channel are held for a client.
    pub fn held(self) -> usize {
        match self {
            Self::DropOldest => 64,
            Self::Latest => 1,
            Self::LatestByKey => 1_024,
            Self::Lag | Self::DropNewest | Self::Disconnect => 0,
        }
    }

    /// The name in metrics and in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lag => "lag",
            Self::DropOldest => "drop-oldest",
            Self::DropNewest => "drop-newest",
            Self::Latest => "latest",
            Self::LatestByKey => "latest-by-key",
            Self::Disconnect => "disconnect",
        }
    }
}
