//! Bringing subscribers in step with a feed.

use tidewire_broker::{Read, Status};
use tidewire_model::{GapReason, Joined, Recovery, Since};

use super::{Feed, OutOfStep, before, fork};

impl Feed {
    /// Brings a subscriber in step from memory alone, if that covers what it asks for.
    pub(crate) fn join(&self, since: Since) -> Option<Joined> {
        let at = self.at?;
        if self.is_fleeting() {
            return Some(self.join_fleeting(at, since));
        }
        let (recovery, missed) = match since {
            Since::Now => (Recovery::NotAsked, Vec::new()),
            Since::Position(position) => {
                let covered = position.epoch == at.epoch && position.offset <= at.offset;
                (Recovery::Recovered, covered.then(|| self.ring.after(position, at))??)
            }
            Since::Last(count) => (Recovery::NotAsked, self.ring.last(count)?),
        };
        let position = match (since, missed.first()) {
            (Since::Position(position), _) => position,
            (_, Some(first)) => before(first),
            (_, None) => at,
        };
        Some(Joined { recovery, lost: None, position, missed, live: true, is_sampled: false })
    }

    /// Brings a subscriber in step with what the log said about `since`.
    ///
    /// What was read and what is known here must connect. If the log is in another epoch, or the
    /// subscriber is ahead of this feed, the feed has to catch up first: a gap or a rewind of the
    /// feed's would mean something else to a subscriber that does not stand where the feed does. One
    /// that stands nowhere yet, because its position means nothing or it named none, begins where
    /// the feed does.
    pub(crate) fn splice(&self, since: Since, read: Read) -> Result<Joined, OutOfStep> {
        let at = self.at.ok_or(OutOfStep)?;
        if read.incarnation < self.newest || read.epoch != at.epoch {
            return Err(OutOfStep);
        }
        let mut joined = Joined {
            recovery: recovery(read.status),
            lost: lost(since, &read),
            position: match read.status {
                Status::Rewound => fork(&read.lineage, read.base),
                _ => read.base_position(),
            },
            missed: Vec::new(),
            live: read.reaches_top(),
            is_sampled: false,
        };
        if joined.live && joined.position.offset > at.offset {
            let stands_nowhere = matches!(read.status, Status::Fresh | Status::Reset);
            joined.position = at;
            return if stands_nowhere { Ok(joined) } else { Err(OutOfStep) };
        }
        let top = read.top_position();
        joined.missed = read
            .publications
            .into_iter()
            .map(|publication| self.ring.shared(publication))
            .collect();
        if joined.live && top.offset >= at.offset {
            // What is beyond this feed comes to the subscriber when it comes to the feed.
            joined.missed.retain(|envelope| envelope.position.offset <= at.offset);
        } else if joined.live {
            match self.ring.after(top, at) {
                Some(newer) => joined.missed.extend(newer),
                None => joined.live = false,
            }
        }
        Ok(joined)
    }
}

fn recovery(status: Status) -> Recovery {
    match status {
        Status::Fresh => Recovery::NotAsked,
        Status::Continues => Recovery::Recovered,
        Status::Rewound => Recovery::Rewound,
        Status::Reset => Recovery::Failed(GapReason::Reset),
        Status::Trimmed => Recovery::Failed(GapReason::Window),
    }
}

fn lost(since: Since, read: &Read) -> Option<u64> {
    match (since, read.status) {
        (Since::Position(position), Status::Trimmed) => read.base.checked_sub(position.offset),
        _ => None,
    }
}
