use tidewire_model::ConnectionId;

/// The connections of a worker by their ids: a place is used again under another id, so that an id
/// that is over never means another connection.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    worker: u8,
    places: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    /// How often the place has been used: 24 bits.
    generation: u32,
    value: Option<Box<T>>,
}

const GENERATIONS: u32 = 1 << 24;

impl<T> Slots<T> {
    pub(crate) fn new(worker: u8) -> Self {
        Self { worker, places: Vec::new(), free: Vec::new() }
    }

    /// Whose connection it is, among the workers of a node.
    pub(crate) fn worker_of(id: ConnectionId) -> u8 {
        id.0.to_be_bytes()[0]
    }

    pub(crate) fn insert(&mut self, make: impl FnOnce(ConnectionId) -> T) -> ConnectionId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Slot { generation: 0, value: None });
            u32::try_from(self.places.len() - 1).expect("fewer connections than 2^32")
        });
        let slot = &mut self.places[index as usize];
        slot.generation = (slot.generation + 1) % GENERATIONS;
        let high = u64::from(self.worker) << 24 | u64::from(slot.generation);
        let id = ConnectionId(high << 32 | u64::from(index));
        slot.value = Some(Box::new(make(id)));
        id
    }

    pub(crate) fn find(&mut self, id: ConnectionId) -> Option<&mut T> {
        let (index, generation) = self.place_of(id)?;
        let slot = self.places.get_mut(index)?;
        if slot.generation == generation { slot.value.as_deref_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) {
        let Some((index, generation)) = self.place_of(id) else { return };
        let Some(slot) = self.places.get_mut(index) else { return };
        if slot.generation == generation && slot.value.take().is_some() {
            self.free.push(u32::try_from(index).expect("it was one"));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.len() == self.free.len()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.places.iter().filter_map(|slot| slot.value.as_deref())
    }

    /// Those in so many places, from one on; the last is followed by the first.
    pub(crate) fn stretch(&self, from: usize, most: usize) -> impl Iterator<Item = &T> {
        let (before, after) = self.places.split_at(from % self.places.len().max(1));
        let places = after.iter().chain(before).take(most);
        places.filter_map(|slot| slot.value.as_deref())
    }

    /// The ids of everybody there is now.
    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        let high = |slot: &Slot<T>| u64::from(self.worker) << 24 | u64::from(slot.generation);
        (0_u64..)
            .zip(&self.places)
            .filter(|(_, slot)| slot.value.is_some())
            .map(|(index, slot)| ConnectionId(high(slot) << 32 | index))
            .collect()
    }

    #[expect(clippy::cast_possible_truncation, reason = "taken apart as it was put together")]
    fn place_of(&self, id: ConnectionId) -> Option<(usize, u32)> {
        let generation = (id.0 >> 32) as u32 % GENERATIONS;
        (Self::worker_of(id) == self.worker).then_some((id.0 as u32 as usize, generation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_under_another_id() {
        let mut slots = Slots::new(3);
        let first = slots.insert(|_| "first");
        slots.remove(first);
        let second = slots.insert(|_| "second");

        assert_ne!(first, second);
        assert_eq!(slots.find(first), None);
        assert_eq!(slots.find(second), Some(&mut "second"));
        assert_eq!(slots.ids(), [second]);
        assert_eq!(Slots::<()>::worker_of(second), 3);

        slots.remove(first);
        assert!(!slots.is_empty(), "an id that is over removes nobody");
    }

    #[test]
    fn stretches_go_round_and_pass_over_who_is_gone() {
        let mut slots = Slots::new(0);
        let ids = [0, 1, 2, 3].map(|number| slots.insert(|_| number));
        slots.remove(ids[3]);
        let stretch = |from, most| slots.stretch(from, most).copied().collect::<Vec<_>>();

        assert_eq!(stretch(1, 2), [1, 2]);
        assert_eq!(stretch(2, 3), [2, 0]);
        assert_eq!(stretch(5, 9), [1, 2, 0]);
        assert_eq!(Slots::<u8>::new(0).stretch(7, 2).count(), 0);
    }

    #[test]
    fn the_connections_of_another_worker_are_not_here() {
        let (mut ours, mut theirs) = (Slots::new(0), Slots::new(1));
        ours.insert(|_| ());
        let id = theirs.insert(|_| ());

        assert_eq!(ours.find(id), None);
    }
}
