//! Who is asked to move first.

use tidewire_model::ConnectionId;

/// How much a client's moving brings about elsewhere.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Weight {
    Idle,
    Light,
    Heavy,
}

/// Subscriptions a light client has at most.
const LIGHT: usize = 16;

impl Weight {
    pub(crate) fn of(subscriptions: usize, unsent_bytes: usize) -> Self {
        match subscriptions {
            0..=1 if unsent_bytes == 0 => Self::Idle,
            0..=LIGHT => Self::Light,
            _ => Self::Heavy,
        }
    }
}

/// The order in which clients are asked: the lightest first, so that most have moved when moving
/// begins to cost, and by lot among equals, so that no tenant's or worker's clients come all at once.
pub(super) fn in_turn(
    mut clients: Vec<(ConnectionId, Weight)>,
    mut lot: impl FnMut() -> u64,
) -> Vec<ConnectionId> {
    clients.sort_by_cached_key(|(_, weight)| (*weight, lot()));
    clients.into_iter().map(|(connection, _)| connection).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_weighs_what_it_has_subscribed_to_and_has_yet_to_read() {
        let weights = [(0, 0), (1, 0), (1, 1), (2, 0), (16, 9_000), (17, 0)];

        assert_eq!(
            weights.map(|(subscriptions, unsent)| Weight::of(subscriptions, unsent)),
            [
                Weight::Idle,
                Weight::Idle,
                Weight::Light,
                Weight::Light,
                Weight::Light,
                Weight::Heavy
            ]
        );
    }

    #[test]
    fn the_lightest_come_first_and_equals_by_lot() {
        let clients = [Weight::Heavy, Weight::Idle, Weight::Light, Weight::Idle];
        let clients = (0..).map(ConnectionId).zip(clients).collect();
        let mut lots = [1, 9, 5, 3].into_iter();

        let turns = in_turn(clients, || lots.next().expect("one for each"));

        assert_eq!(turns, [3, 1, 2, 0].map(ConnectionId));
    }
}
