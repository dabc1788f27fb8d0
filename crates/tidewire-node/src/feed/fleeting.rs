//! A feed of a channel that no log keeps.
//!
//! Publications of such a channel travel without a number, and each node numbers what it hears of it
//! in an epoch of its own, 1, 2, 3 and so on as they come: so everything behind the feed is the same
//! as for any other channel, and nothing in it ever waits for a log. What the network did not bring
//! has no number, and so leaves no hole.

use std::sync::Arc;

use tidewire_model::{Envelope, Epoch, GapReason, Joined, Position, Publication, Recovery, Since};
use tokio::time::Instant;

use super::{Feed, before};
use crate::ring::Ring;

impl Feed {
    /// Begins to follow a channel that no log keeps, in an epoch that nobody else uses.
    pub(crate) fn fleeting(ring: Ring, epoch: Epoch) -> Self {
        Self { fleeting: Some(epoch), ..Self::new(ring) }
    }

    pub(crate) fn is_fleeting(&self) -> bool {
        self.fleeting.is_some()
    }

    /// Goes on now that the broker has been told, at `settled_at`: with the first read, or at once
    /// where there is nothing to read.
    pub(crate) fn begin(&mut self, settled_at: Instant, now: Instant) {
        self.settled_at = Some(settled_at);
        match self.fleeting {
            Some(epoch) => drop(self.at.get_or_insert(Position::new(epoch, 0))),
            None => self.read_by(now),
        }
    }

    /// Gives a publication its place here. `None` if the channel has not begun, or is numbered by a
    /// log.
    pub(crate) fn number(&self, publication: Publication) -> Option<Publication> {
        let at = self.at.filter(|_| self.is_fleeting())?;
        let position = Position::new(at.epoch, at.offset + 1);
        Some(Publication { position, ..publication })
    }

    /// Gives what a log has numbered a place here, if no log keeps this channel: another node, or a
    /// publication that was on its way, has it of another class.
    pub(super) fn adopt(&self, envelope: Arc<Envelope>) -> Option<Arc<Envelope>> {
        match self.fleeting {
            Some(epoch) if epoch != envelope.position.epoch => {
                let numbered = self.number(Publication::clone(&envelope))?;
                Some(Arc::new(Envelope::new(numbered)))
            }
            _ => Some(envelope),
        }
    }

    /// Brings a subscriber in step from what is remembered, which is all there is. One that has
    /// fallen behind that is told how much it missed; a position of another epoch is one of another
    /// node or time, and means nothing.
    pub(super) fn join_fleeting(&self, at: Position, since: Since) -> Joined {
        let (recovery, missed) = match since {
            Since::Position(position)
                if position.epoch == at.epoch && position.offset <= at.offset =>
            {
                match self.ring.after(position, at) {
                    Some(newer) => (Recovery::Recovered, newer),
                    None => (Recovery::Failed(GapReason::Window), self.ring.newest_few(u32::MAX)),
                }
            }
            Since::Position(_) | Since::Now => (Recovery::NotAsked, Vec::new()),
            Since::Last(count) => (Recovery::NotAsked, self.ring.newest_few(count)),
        };
        let position = missed.first().map_or(at, |first| before(first));
        let lost = match (recovery, since) {
            (Recovery::Failed(_), Since::Position(since)) => Some(position.offset - since.offset),
            _ => None,
        };
        Joined { recovery, lost, position, missed, live: true, is_sampled: false }
    }
}
