use std::collections::VecDeque;

use tidewire_model::ConnectionId;

use crate::metrics;

/// What first frames take of a worker's memory that are larger than anybody's may be.
///
/// Nobody is known before its first frame has been read. Everybody has room for a token; more, as for a
/// session that comes back to many channels, has who comes first, and the others wait until there is.
#[derive(Debug, Default)]
pub(crate) struct FirstFrames {
    /// In bytes, of all who have more than everybody.
    held: usize,
    /// Who is not read until there is room; one that has left is passed over.
    waiting: VecDeque<ConnectionId>,
}

impl FirstFrames {
    /// Bytes that everybody has.
    pub(crate) const EVERYBODYS: usize = 8 * 1_024;
    /// Bytes of a worker for who has more. Who is being read when it is full passes it by one read.
    pub(crate) const MOST: usize = 16 << 20;
    /// How many are read on in a turn.
    const A_TURN: usize = 64;

    pub(crate) fn has_room(&self) -> bool {
        self.held < Self::MOST
    }

    /// Bytes that may be read at once of a connection that holds so many.
    pub(crate) fn room(&self, held: usize) -> usize {
        if self.has_room() { usize::MAX } else { Self::EVERYBODYS.saturating_sub(held) }
    }

    /// A connection holds `after` bytes, where it held `before`.
    pub(crate) fn change(&mut self, before: usize, after: usize) {
        let [before, after] = [before, after].map(|held| held.saturating_sub(Self::EVERYBODYS));
        if before != after {
            self.held = self.held + after - before;
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            metrics::first_frames(after as f64 - before as f64);
        }
    }

    /// To be told by [`next`](Self::next) when there is room.
    pub(crate) fn wait(&mut self, connection: ConnectionId) {
        self.waiting.push_back(connection);
    }

    /// Whether somebody waits who may go on.
    pub(crate) fn has_work(&self) -> bool {
        self.has_room() && !self.waiting.is_empty()
    }

    /// Some of those who may go on.
    pub(crate) fn next(&mut self) -> Vec<ConnectionId> {
        let count = if self.has_room() { self.waiting.len().min(Self::A_TURN) } else { 0 };
        self.waiting.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_room_for_a_token_and_more_only_while_there_is_some() {
        let mut frames = FirstFrames::default();
        assert_eq!(frames.room(100_000), usize::MAX);

        for _ in 0..FirstFrames::MOST / 100_000 + 50 {
            frames.change(0, 100_000);
        }

        assert_eq!(frames.room(0), 8_192);
        assert_eq!(frames.room(8_000), 192);
        assert_eq!(frames.room(9_000), 0);
        frames.change(0, 8_192);
        let before = frames.held;
        frames.change(100_000, 0);
        assert_eq!(frames.held, before - (100_000 - 8_192), "what is everybody's is not counted");
    }

    #[test]
    fn those_who_wait_go_on_in_their_order_when_there_is_room() {
        let mut frames = FirstFrames::default();
        let most = FirstFrames::MOST + FirstFrames::EVERYBODYS;
        frames.change(0, most);
        for id in 0..100 {
            frames.wait(ConnectionId(id));
        }
        assert!(!frames.has_work() && frames.next().is_empty());

        frames.change(most, 0);

        assert!(frames.has_work());
        let next: Vec<_> = [frames.next(), frames.next()].concat();
        assert!(next.into_iter().eq((0..100).map(ConnectionId)));
        assert!(!frames.has_work());
    }
}
