//! What it was like for the clients when their node left.

use std::sync::OnceLock;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tidewire_client::Happening;
use tokio::time::Instant;

use crate::latency::{histogram, microseconds};

/// What one client went through.
#[derive(Debug)]
pub(crate) struct Move {
    kind: Kind,
    /// Channels it is subscribed to.
    channels: usize,
    /// When its node asked it to move.
    asked: Option<Instant>,
    /// When it had left the old connection, in step over the new one.
    left: Option<Instant>,
    /// Since when it has been without a connection, the last time it was.
    away: Option<Instant>,
    /// Of those channels, how many are not confirmed since then.
    unconfirmed: usize,
    /// When all of them were.
    current: Option<Instant>,
    /// The longest that a delivery took while it moved.
    worst: Option<Duration>,
}

/// How a client takes part.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Opens the new connection before it closes the old one.
    Overlapping,
    /// Closes the old connection first.
    Apart,
    /// Is at a node that stays.
    Bystander,
}

/// A delivery that was due until then after a client left the old connection belongs to its move.
const AFTERMATH: Duration = Duration::from_millis(500);

impl Move {
    pub(crate) fn new(kind: Kind, channels: usize) -> Self {
        Self {
            kind,
            channels,
            asked: None,
            left: None,
            away: None,
            unconfirmed: 0,
            current: None,
            worst: None,
        }
    }

    /// Something happened to the client.
    pub(crate) fn note(&mut self, happening: &Happening, now: Instant) {
        match happening {
            Happening::Asked { after, .. } => {
                self.asked = Some(now);
                if self.kind == Kind::Apart {
                    self.leave(now + *after);
                }
            }
            Happening::Left => {
                self.left = Some(now);
                self.current = Some(now);
            }
            // A second loss on the way back does not end the first.
            Happening::Lost { .. } if self.away.is_none() || self.current.is_some() => {
                self.leave(now);
            }
            Happening::Connected { .. } if self.away.is_some() => self.unconfirmed = self.channels,
            Happening::Subscribed(_) if self.unconfirmed > 0 => {
                self.unconfirmed -= 1;
                if self.unconfirmed == 0 {
                    self.current = Some(now);
                }
            }
            _ => {}
        }
    }

    /// A publication came that was `due`; says whether the client was moving meanwhile, over two
    /// connections.
    pub(crate) fn deliver(&mut self, due: Instant, now: Instant) -> bool {
        let is_over = self.left.is_some_and(|left| left + AFTERMATH < due);
        if self.asked.is_none() || self.away.is_some() || is_over {
            return false;
        }
        let latency = now.saturating_duration_since(due);
        self.worst = Some(self.worst.map_or(latency, |worst| worst.max(latency)));
        true
    }

    fn leave(&mut self, at: Instant) {
        self.away = Some(at);
        self.current = None;
        self.unconfirmed = self.channels;
    }

    fn outcome(&self) -> Outcome {
        match (self.away, self.left, self.current) {
            (None, None, _) if self.asked.is_none() => Outcome::Stayed,
            (Some(away), _, Some(current)) => Outcome::Returned(current - away),
            (None, Some(_), _) => Outcome::Moved,
            _ => Outcome::Stranded,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    /// It was never asked to move.
    Stayed,
    Moved,
    /// It was without a connection this long, until all its channels were confirmed again.
    Returned(Duration),
    /// It was asked to move, or lost its connection, and has not come back to all its channels.
    Stranded,
}

/// What all clients went through, from when the node was told to leave.
#[derive(Debug)]
pub(crate) struct Moves {
    begun: OnceLock<Instant>,
    sums: Mutex<Sums>,
}

/// Times in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Sums {
    /// Latency of deliveries before it.
    pub(crate) before: Histogram<u64>,
    /// Latency of deliveries to clients that were moving over two connections.
    pub(crate) moving: Histogram<u64>,
    /// The longest of these, of each client.
    pub(crate) worst: Histogram<u64>,
    /// How long clients were without a connection and all their channels.
    pub(crate) gaps: Histogram<u64>,
    /// Latency of deliveries to bystanders, before and while others came to their node.
    pub(crate) bystanders: [Histogram<u64>; 2],
    pub(crate) stayed: u64,
    pub(crate) moved: u64,
    pub(crate) returned: u64,
    pub(crate) stranded: u64,
    /// When the last client was current again.
    pub(crate) current: Option<Instant>,
}

/// How long bystanders are watched after it.
const STORM: Duration = Duration::from_secs(15);

impl Moves {
    pub(crate) fn new() -> Self {
        let sums = Sums {
            before: histogram(),
            moving: histogram(),
            worst: histogram(),
            gaps: histogram(),
            bystanders: [histogram(), histogram()],
            stayed: 0,
            moved: 0,
            returned: 0,
            stranded: 0,
            current: None,
        };
        Self { begun: OnceLock::new(), sums: Mutex::new(sums) }
    }

    /// The node was told to leave; once.
    pub(crate) fn begin(&self, now: Instant) {
        self.begun.set(now).expect("a node leaves once");
    }

    pub(crate) fn have_begun(&self) -> bool {
        self.begun.get().is_some()
    }

    /// A publication that was `due` came to a client, if any was to be measured.
    pub(crate) fn deliver(&self, client: &mut Move, due: Instant, now: Instant) {
        let latency = microseconds(now.saturating_duration_since(due));
        let Some(begun) = self.begun.get().copied() else {
            let mut sums = self.sums.lock();
            sums.before.saturating_record(latency);
            if client.kind == Kind::Bystander {
                sums.bystanders[0].saturating_record(latency);
            }
            return;
        };
        if client.kind == Kind::Bystander {
            if due < begun + STORM {
                self.sums.lock().bystanders[1].saturating_record(latency);
            }
        } else if client.deliver(due, now) {
            self.sums.lock().moving.saturating_record(latency);
        }
    }

    /// A client has nothing more to tell.
    pub(crate) fn end(&self, client: &Move) {
        let mut sums = self.sums.lock();
        match client.outcome() {
            Outcome::Stayed => sums.stayed += 1,
            Outcome::Moved => sums.moved += 1,
            Outcome::Returned(gap) => {
                sums.returned += 1;
                sums.gaps.saturating_record(microseconds(gap));
            }
            Outcome::Stranded => sums.stranded += 1,
        }
        if let Some(worst) = client.worst {
            sums.worst.saturating_record(microseconds(worst));
        }
        sums.current = sums.current.max(client.current);
    }

    /// When it began, and what came of it; `None` if it never did.
    pub(crate) fn sums(&self) -> Option<(Instant, Sums)> {
        Some((*self.begun.get()?, self.sums.lock().clone()))
    }
}

#[cfg(test)]
mod tests;
