use parking_lot::Mutex;
use tidewire_model::{Position, TenantChannel};
use xxhash_rust::xxh3::Xxh3;

/// A position of each of the channels last used, to look for a lost append above it.
///
/// Bounded: two channels that fall on the same of 8,192 places forget each other. A position that is
/// not known, or no longer the newest, makes the search longer and never wrong.
pub(super) struct KnownPositions(Mutex<Vec<Place>>);

type Place = Option<(TenantChannel, Position)>;

impl Default for KnownPositions {
    fn default() -> Self {
        Self(Mutex::new(vec![None; PLACES]))
    }
}

impl KnownPositions {
    pub(super) fn find(&self, channel: &TenantChannel) -> Option<Position> {
        let places = self.0.lock();
        let (known, position) = places[place_of(channel)].as_ref()?;
        (known == channel).then_some(*position)
    }

    pub(super) fn insert(&self, channel: &TenantChannel, position: Position) {
        let known = Some((channel.clone(), position));
        let forgotten = std::mem::replace(&mut self.0.lock()[place_of(channel)], known);
        // Freeing a name is not done under the lock.
        drop(forgotten);
    }
}

fn place_of(channel: &TenantChannel) -> usize {
    let mut hash = Xxh3::new();
    hash.update(channel.tenant.as_str().as_bytes());
    hash.update(&[0]);
    hash.update(channel.channel.as_str().as_bytes());
    usize::try_from(hash.digest() % PLACES as u64).expect("below 8,192")
}

const PLACES: usize = 8_192;

#[cfg(test)]
mod tests {
    use tidewire_model::{Channel, Incarnation, Tenant};

    use super::*;

    fn channel(name: &str) -> TenantChannel {
        TenantChannel::new(
            Tenant::parse("acme").expect("valid"),
            Channel::parse(name).expect("valid"),
        )
    }

    fn position(offset: u64) -> Position {
        Position::new(Incarnation::ZERO.epoch(0), offset)
    }

    #[test]
    fn the_position_last_told_is_known_and_only_of_its_channel() {
        let known = KnownPositions::default();

        known.insert(&channel("a"), position(1));
        known.insert(&channel("a"), position(2));

        assert_eq!(known.find(&channel("a")), Some(position(2)));
        assert_eq!(known.find(&channel("b")), None);
    }

    #[test]
    fn a_channel_on_the_place_of_another_is_not_taken_for_it() {
        let known = KnownPositions::default();
        let first = channel("0");
        let rival = (1..1_000_000)
            .map(|number| channel(&number.to_string()))
            .find(|rival| place_of(rival) == place_of(&first))
            .expect("some channel falls there");

        known.insert(&first, position(1));
        known.insert(&rival, position(2));

        assert_eq!(known.find(&first), None);
        assert_eq!(known.find(&rival), Some(position(2)));
    }
}
