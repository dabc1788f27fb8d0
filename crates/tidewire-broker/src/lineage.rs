use tidewire_model::{Epoch, Position};

/// The lives of a channel's numbering: "epoch e began at offset s", oldest first.
///
/// A failover or a restart of the log begins a new epoch at the offset after the last one it still
/// knows. A client behind that point goes on without noticing; only one that saw publications beyond
/// it has to be told. At most [`Lineage::MAX`] entries are kept.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Lineage(Vec<(Epoch, u64)>);

impl Lineage {
    /// The most entries kept.
    pub const MAX: usize = 8;

    /// `entries` are (epoch, first offset), oldest first.
    pub fn new(entries: Vec<(Epoch, u64)>) -> Self {
        Self(entries)
    }

    /// Begins `epoch` after `top`, and forgets the oldest entry beyond [`Lineage::MAX`].
    pub fn begin(&mut self, epoch: Epoch, top: u64) {
        self.0.push((epoch, top + 1));
        let excess = self.0.len().saturating_sub(Self::MAX);
        self.0.drain(..excess);
    }

    /// The newest epoch.
    ///
    /// # Panics
    ///
    /// If there is none; a channel has one from its first touch on.
    pub fn current(&self) -> Epoch {
        self.0.last().expect("a channel has an epoch from its first touch on").0
    }

    /// The epoch under which `offset` was written. Offset 0 and offsets from before the oldest
    /// entry count to the oldest.
    pub fn epoch_of(&self, offset: u64) -> Epoch {
        let newest_begun = self.0.iter().rev().find(|(_, first)| *first <= offset);
        let (epoch, _) = newest_begun.or(self.0.first()).expect("a channel has an epoch");
        *epoch
    }

    /// Where a position stands, in a channel whose newest offset is `top`.
    pub fn locate(&self, position: Position, top: u64) -> Standing {
        let Some(index) = self.0.iter().position(|(epoch, _)| *epoch == position.epoch) else {
            return Standing::Unknown;
        };
        let end = self.0.get(index + 1).map_or(top, |(_, next_first)| next_first - 1);
        if position.offset <= end { Standing::Known } else { Standing::Beyond { end } }
    }

    pub fn entries(&self) -> &[(Epoch, u64)] {
        &self.0
    }
}

/// How a position stands to a lineage.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Everybody agrees on it and on what comes before it.
    Known,
    /// Its epoch ended at `end`: the position is from a lost tail.
    Beyond { end: u64 },
    /// Its epoch is not in the lineage.
    Unknown,
}

#[cfg(test)]
mod tests {
    use tidewire_model::Incarnation;

    use super::*;

    fn epoch(life: u64) -> Epoch {
        Incarnation::new(life, 0).epoch(0)
    }

    #[test]
    fn a_position_before_the_fork_goes_on_and_one_beyond_it_is_set_back() {
        let lineage = Lineage::new(vec![(epoch(1), 1), (epoch(2), 11)]);

        let stand = |life, offset| lineage.locate(Position::new(epoch(life), offset), 15);

        assert_eq!(stand(1, 10), Standing::Known);
        assert_eq!(stand(1, 11), Standing::Beyond { end: 10 });
        assert_eq!(stand(2, 15), Standing::Known);
        assert_eq!(stand(2, 16), Standing::Beyond { end: 15 });
        assert_eq!(stand(3, 1), Standing::Unknown);
    }

    #[test]
    fn an_offset_belongs_to_the_last_epoch_that_had_begun() {
        let lineage = Lineage::new(vec![(epoch(1), 1), (epoch(2), 11), (epoch(3), 11)]);

        assert_eq!(lineage.epoch_of(0), epoch(1));
        assert_eq!(lineage.epoch_of(10), epoch(1));
        assert_eq!(lineage.epoch_of(11), epoch(3));
    }

    #[test]
    fn the_oldest_entry_is_forgotten_beyond_the_bound() {
        let mut lineage = Lineage::default();
        for life in 1..=9 {
            lineage.begin(epoch(life), life * 10);
        }

        assert_eq!(lineage.entries().len(), Lineage::MAX);
        assert_eq!(lineage.locate(Position::new(epoch(1), 1), 100), Standing::Unknown);
        assert_eq!(lineage.current(), epoch(9));
    }
}
