use std::collections::VecDeque;

use tidewire_model::{Channel, Position};

/// Publications that came and were not passed on, each in its place among what was.
#[derive(Default)]
pub(crate) struct Repeats {
    /// Happenings passed on so far.
    passed_on: u64,
    waiting: VecDeque<Repeat>,
}

struct Repeat {
    /// Happenings to be passed on before.
    after: u64,
    channel: Channel,
    position: Position,
}

impl Repeats {
    const MOST: usize = 1_024;

    /// Notes that a happening was passed on.
    pub(crate) fn pass_on(&mut self) {
        self.passed_on += 1;
    }

    /// Remembers a publication behind the `ahead` happenings that are not passed on yet; forgets the
    /// oldest beyond a bound.
    pub(crate) fn push(&mut self, ahead: usize, channel: Channel, position: Position) {
        if self.waiting.len() == Self::MOST {
            self.waiting.pop_front();
        }
        self.waiting.push_back(Repeat { after: self.passed_on + ahead as u64, channel, position });
    }

    /// The oldest, if everything before it was passed on.
    pub(crate) fn next(&mut self) -> Option<(Channel, Position)> {
        let Repeat { channel, position, .. } =
            self.waiting.pop_front_if(|repeat| repeat.after <= self.passed_on)?;
        Some((channel, position))
    }
}

#[cfg(test)]
mod tests {
    use tidewire_model::Incarnation;

    use super::*;

    #[test]
    fn a_repeat_waits_for_what_came_before_it() {
        let mut repeats = Repeats::default();
        repeats.push(1, channel(), position(7));

        assert_eq!(repeats.next(), None);
        repeats.pass_on();
        assert_eq!(repeats.next(), Some((channel(), position(7))));
        assert_eq!(repeats.next(), None);
    }

    #[test]
    fn of_too_many_the_oldest_are_forgotten() {
        let mut repeats = Repeats::default();
        for offset in 0..=Repeats::MOST as u64 {
            repeats.push(0, channel(), position(offset));
        }

        assert_eq!(repeats.next(), Some((channel(), position(1))));
    }

    fn channel() -> Channel {
        Channel::parse("room:42").expect("valid")
    }

    fn position(offset: u64) -> Position {
        Position::new(Incarnation::ZERO.epoch(1), offset)
    }
}
