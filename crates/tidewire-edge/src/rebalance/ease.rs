use std::time::Duration;

use tidewire_model::ConnectionId;

use crate::drain::Weight;

/// How easily a client goes elsewhere; the lesser are asked first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Ease {
    /// Those who are not, lose nothing by going.
    pub(crate) is_at_home: bool,
    pub(crate) weight: Weight,
    /// How long it has been here: who has come lately is where a balancer made a mistake.
    pub(crate) since: Duration,
}

/// Connections of a worker that are looked at for this at once, in turns: what is far from each other in
/// memory takes long to look at.
pub(crate) const LOOKED_AT: usize = 2_048;

/// The `most` easiest of these, the easiest first.
pub(crate) fn easiest(
    mut all: Vec<(Ease, ConnectionId)>,
    most: usize,
) -> Vec<(Ease, ConnectionId)> {
    all.sort_unstable_by_key(|(ease, connection)| (*ease, connection.0));
    all.truncate(most);
    all
}
