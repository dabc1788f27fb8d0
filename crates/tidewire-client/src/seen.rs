use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tidewire_model::{Position, PublicationId, UserId};
use tidewire_protocol_native::client::Received;
use tokio::time::Instant;

/// What was read last in a channel. A failover sets the channel back, and then some of it comes again
/// under other offsets: only its publisher and id tell. What was published without an id comes again
/// under one that names the position it had.
///
/// Filters nothing but that. An id is its publisher's own, and whether it is used twice is for the
/// server to say.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Oldest first: at which offset, and what.
    read: VecDeque<(u64, Key)>,
    /// What lay beyond the point that the channel was set back to, until when.
    again: HashSet<Key>,
    again_until: Option<Instant>,
}

/// `None` is the tenant's own servers, which are one publisher.
type Key = (Option<UserId>, PublicationId);

/// As many are remembered; of more, the oldest are forgotten.
const MOST: usize = 1_024;
/// How long after it was set back a channel may bring something again: as long as its log knows ids.
const LASTS: Duration = Duration::from_mins(2);

impl Seen {
    /// Says whether `publication` has not been read before, and remembers it.
    pub(crate) fn read(&mut self, publication: &Received, now: Instant) -> bool {
        if self.again_until.is_some_and(|until| until <= now) {
            self.again_until = None;
            self.again = HashSet::new();
        }
        let id = publication.id.clone().or_else(|| {
            let position = publication.position.to_string();
            PublicationId::parse(&position).ok()
        });
        let Some(id) = id else { return true };
        let key = (publication.publisher.clone(), id);
        // It comes again once at most: from here on the log knows its id.
        let is_new = !self.again.remove(&key);
        if self.read.len() == MOST {
            self.read.pop_front();
        }
        self.read.push_back((publication.position.offset, key));
        is_new
    }

    /// The channel goes on after `position`, and what was read beyond it may come again.
    pub(crate) fn rewind(&mut self, position: Position, now: Instant) {
        // A position in the middle is never left out: inside a life of the numbering offsets grow.
        while let Some((_, key)) = self.read.pop_back_if(|(offset, _)| *offset > position.offset) {
            if self.again.len() < MOST {
                self.again.insert(key);
            }
        }
        self.again_until = Some(now + LASTS);
    }

    /// The channel's numbering began anew, and anything that was read may come again.
    pub(crate) fn reset(&mut self, now: Instant) {
        let read = std::mem::take(&mut self.read).into_iter().rev();
        let room = MOST.saturating_sub(self.again.len());
        self.again.extend(read.take(room).map(|(_, key)| key));
        self.again_until = Some(now + LASTS);
    }
}

#[cfg(test)]
mod tests;
