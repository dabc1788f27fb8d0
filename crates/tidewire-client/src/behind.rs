//! One channel over two connections: the one at hand, and the one that is being left.
//!
//! Both bring the same publications, in order and without holes, and the one at hand begins at or
//! before what has been read. So it comes by the very position that the channel has been read to.
//! Until then the other one counts; from there on, this one: nothing is missing between them and
//! nothing comes twice. That holds, too, when both cross from one epoch into
//! the next.

use tidewire_model::Position;

use crate::base::Base;

/// Which of two connections something came over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    /// The connection at hand.
    Newer,
    /// The connection that is being left.
    Older,
}

/// A channel that the connection at hand has not yet brought as far as it has been read.
pub(crate) struct Behind {
    /// How far it has; `None` before it has confirmed the subscription.
    reached: Option<Position>,
    /// What a delta over the connection that is being left is applied to.
    pub(crate) base: Base,
}

/// What a publication over the connection at hand is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Met {
    /// It has been read over the other one.
    Before,
    /// So has it, and nothing after it has: what comes next is new.
    Here,
    /// It is new.
    Beyond,
    /// It is new, and a failover has lost what was read beyond this position.
    Instead(Position),
}

impl Behind {
    /// A connection begins; `base` is that of the one before.
    pub(crate) fn new(base: Base) -> Self {
        Self { reached: None, base }
    }

    /// The subscription is confirmed, or goes on after a gap, at `reached`; says whether that is where
    /// the channel has been `read` to.
    pub(crate) fn begin(&mut self, reached: Position, read: Position) -> bool {
        self.reached = Some(reached);
        reached == read
    }

    /// The subscription was given up, and what comes before the next confirmation is not its.
    pub(crate) fn begin_anew(&mut self) {
        self.reached = None;
    }

    pub(crate) fn has_reached(&self, position: Position) -> bool {
        self.reached == Some(position)
    }

    /// Goes on to `next`, where the channel has been `read` so far.
    pub(crate) fn meet(&mut self, next: Position, read: Position) -> Met {
        let Some(reached) = self.reached.replace(next) else {
            self.reached = None;
            return Met::Before;
        };
        if next == read {
            return Met::Here;
        }
        let was_near = reached.epoch == read.epoch;
        if next.epoch == read.epoch {
            let is_past = was_near && reached.offset <= read.offset && next.offset > read.offset;
            return if is_past { Met::Beyond } else { Met::Before };
        }
        // It has left the epoch without coming by `read`, or has passed all of it over.
        if was_near || next.epoch.incarnation() > read.epoch.incarnation() {
            return Met::Instead(reached);
        }
        Met::Before
    }
}

#[cfg(test)]
mod tests;
