//! What waits to be written, and what of it goes first.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) queue: VecDeque<Piece>,
    /// Whole frames that go before all of the queue that has not begun.
    pub(super) urgent: VecDeque<Bytes>,
    /// Bytes in both.
    pub(super) unsent: usize,
    /// Part of the frame that the queue begins with has been written: nothing may come between.
    pub(super) has_begun: bool,
    pub(super) pong: Option<Bytes>,
    pub(super) ping: bool,
}

#[derive(Debug)]
pub(super) enum Piece {
    /// Whole frames, or what ends one.
    Whole(Bytes),
    /// It ends in a header, whose payload is the next.
    Head(Bytes),
}

impl Piece {
    pub(super) fn bytes(&self) -> &Bytes {
        match self {
            Self::Whole(bytes) | Self::Head(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut Bytes {
        match self {
            Self::Whole(bytes) | Self::Head(bytes) => bytes,
        }
    }
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        let Self { queue, urgent, pong, ping, .. } = self;
        queue.is_empty() && urgent.is_empty() && pong.is_none() && !ping
    }

    /// How many pieces of the queue are to be written before anything urgent.
    pub(super) fn begun_pieces(&self) -> usize {
        match self.queue.front() {
            Some(Piece::Head(_)) if self.has_begun => 2.min(self.queue.len()),
            Some(Piece::Whole(_)) if self.has_begun => 1,
            _ => 0,
        }
    }

    /// All of it, in the order of writing.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &Bytes> {
        let begun = self.begun_pieces();
        let first = self.queue.range(..begun).map(Piece::bytes);
        first.chain(&self.urgent).chain(self.queue.range(begun..).map(Piece::bytes))
    }

    /// Forgets the messages that have not begun; what is urgent stays.
    pub(super) fn forget_unbegun(&mut self) {
        for piece in self.queue.drain(self.begun_pieces()..) {
            self.unsent -= piece.bytes().len();
        }
        self.queue.shrink_to_fit();
    }

    /// Takes away what has been written.
    pub(super) fn consume(&mut self, mut written: usize) {
        self.unsent -= written;
        while written > 0 {
            let is_urgent = !self.has_begun && !self.urgent.is_empty();
            let front = if is_urgent {
                self.urgent.front_mut()
            } else {
                self.queue.front_mut().map(Piece::bytes_mut)
            };
            let Some(front) = front else { return };
            if front.len() > written {
                front.advance(written);
                self.has_begun |= !is_urgent;
                return;
            }
            written -= front.len();
            if is_urgent {
                self.urgent.pop_front();
            } else {
                let popped = self.queue.pop_front();
                self.has_begun = matches!(popped, Some(Piece::Head(_)));
            }
        }
    }
}
