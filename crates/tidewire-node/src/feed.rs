//! One channel as this node knows it: how far it has got, its newest publications, and those that
//! came out of order.
//!
//! A value: told what arrived and what the log said, it answers with [`Step`]s to pass on to the
//! channel's subscribers, and says when it wants to read the log. Publications arrive from the
//! broker and from this node's own appends in any order, some of them never; they leave in offset
//! order, without a hole that was not announced.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidewire_broker::{Lineage, Read, Standing, Status};
use tidewire_model::{Envelope, Epoch, Gap, GapReason, Incarnation, Position, Since};
use tokio::time::Instant;

use self::patience::Patience;
use crate::held::Held;
use crate::ring::{Ring, RingLimits};

#[derive(Debug)]
pub(crate) struct Feed {
    /// The epoch in which this node numbers a channel that no log keeps; see `fleeting.rs`.
    fleeting: Option<Epoch>,
    /// Up to where subscribers have been served; `None` until the log was read once.
    at: Option<Position>,
    /// The newest life of the log seen. Anything an older one says is not believed.
    newest: Incarnation,
    ring: Ring,
    held: Held,
    /// When to look whether a hole has filled by itself; set while anything is held.
    hole_at: Option<Instant>,
    patience: Patience,
    /// When to read the log for any other reason.
    read_at: Option<Instant>,
    /// When the broker had been told.
    settled_at: Option<Instant>,
    /// When to read again after a new subscription, whatever has been read meanwhile.
    rechecks: VecDeque<Instant>,
    is_reading: bool,
    /// Whether somebody listens already who stands nowhere in this feed.
    begins_with_gap: bool,
    /// Where this feed stood when the read under way was sent.
    asked_at: Option<Position>,
    failures: u32,
}

/// What the channel's subscribers are to be handed, in order.
#[derive(Debug)]
pub(crate) enum Step {
    Deliver(Arc<Envelope>),
    Gap(Gap),
}

/// Why a read cannot be spliced to this feed now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct OutOfStep;

/// After a new subscription in the broker, other servers learn of it with no signal when; reading
/// again covers what they did not send meanwhile.
const RECHECKS: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(2)];
const FIRST_BACKOFF: Duration = Duration::from_millis(30);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

impl Feed {
    /// Begins to follow a channel; it wants its first read when the broker has been told.
    pub(crate) fn new(ring: Ring) -> Self {
        Self {
            fleeting: None,
            at: None,
            newest: Incarnation::ZERO,
            ring,
            held: Held::default(),
            hole_at: None,
            patience: Patience::default(),
            read_at: None,
            settled_at: None,
            rechecks: VecDeque::new(),
            is_reading: false,
            begins_with_gap: false,
            asked_at: None,
            failures: 0,
        }
    }

    /// Has the first read tell of a gap, for those who have listened to another feed before this.
    pub(crate) fn begin_with_gap(&mut self) {
        self.begins_with_gap = true;
    }

    /// Where subscribers have been served to; `None` before the first read.
    pub(crate) fn position(&self) -> Option<Position> {
        self.at
    }

    /// Asks for a read at `at` at the latest.
    pub(crate) fn read_by(&mut self, at: Instant) {
        if self.is_fleeting() {
            return;
        }
        self.read_at = Some(self.read_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// When [`Feed::next_read`] is worth asking again.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        if self.is_reading {
            return None;
        }
        let recheck_at = self.rechecks.front().copied();
        [self.read_at, self.hole_at, recheck_at].into_iter().flatten().min()
    }

    /// Where to read the log from now, if it is time. At most one read is under way: the caller
    /// answers with [`Feed::merge`] or [`Feed::read_failed`].
    pub(crate) fn next_read(&mut self, now: Instant) -> Option<Since> {
        if self.wake_at().is_none_or(|at| at > now) {
            return None;
        }
        self.is_reading = true;
        self.read_at = None;
        self.hole_at = None;
        while self.rechecks.pop_front_if(|at| *at <= now).is_some() {}
        self.asked_at = self.at;
        Some(self.at.map_or(Since::Now, Since::Position))
    }

    pub(crate) fn read_failed(&mut self, now: Instant) {
        self.is_reading = false;
        let backoff = self.next_backoff();
        self.read_by(now + backoff);
    }

    fn next_backoff(&mut self) -> Duration {
        let backoff = FIRST_BACKOFF * 2_u32.pow(self.failures.min(6));
        self.failures += 1;
        backoff.min(LONGEST_BACKOFF)
    }

    /// Takes a publication from the broker, or from this node's own append.
    pub(crate) fn receive(&mut self, envelope: Arc<Envelope>, now: Instant, steps: &mut Vec<Step>) {
        let Some(envelope) = self.adopt(envelope) else { return };
        let Some(at) = self.at else { return self.hold(envelope, now) };
        self.patience.came(envelope.position, now);
        let Position { epoch, offset } = envelope.position;
        if epoch == at.epoch {
            if offset <= at.offset {
                return;
            }
            if epoch.incarnation() < self.newest {
                // It may be from a tail that a failover lost: only the log knows.
                return self.read_by(now);
            }
            if offset == at.offset + 1 {
                self.push(envelope, steps);
                return self.release(now, steps);
            }
            return self.hold(envelope, now);
        }
        if epoch.incarnation() < at.epoch.incarnation() {
            return;
        }
        self.hold(envelope, now);
        self.read_by(now);
    }

    /// Whether a position is of a life of the log that no read has come from yet.
    pub(crate) fn is_news(&self, position: Position) -> bool {
        let is_open = self.at.is_some() && !self.is_fleeting();
        is_open && position.epoch.incarnation() > self.newest
    }

    /// Takes word of how far the channel has got.
    pub(crate) fn observe(&mut self, head: Position, now: Instant) {
        let Some(at) = self.at else { return };
        let is_news = if head.epoch == at.epoch {
            head.offset > at.offset
        } else {
            head.epoch.incarnation() >= at.epoch.incarnation()
        };
        if is_news {
            self.read_by(now);
        }
    }

    /// Takes the answer to [`Feed::next_read`].
    pub(crate) fn merge(&mut self, read: Read, now: Instant, steps: &mut Vec<Step>) {
        self.is_reading = false;
        if self.is_fleeting() {
            // It was asked for when the channel was of another class.
            return;
        }
        if read.incarnation < self.newest {
            return self.read_failed(now);
        }
        self.newest = read.incarnation;
        let (before, top) = (self.at, read.top_position());
        match self.at {
            None => self.open(&read, now, steps),
            Some(at) => self.go_on(at, read, now, steps),
        }
        self.release(now, steps);
        if self.at == Some(top) {
            self.held.forget_unconfirmed(top.epoch, self.newest);
        }
        if self.at != before || self.held.is_empty() {
            self.failures = 0;
        } else {
            // What is held, the log does not have, or not yet: ask again, but ever less often.
            let backoff = self.next_backoff();
            self.hole_at = Some(now + backoff);
        }
    }

    fn open(&mut self, read: &Read, now: Instant, steps: &mut Vec<Step>) {
        let top = read.top_position();
        self.at = Some(top);
        if std::mem::take(&mut self.begins_with_gap) {
            steps.push(Step::Gap(Gap { reason: GapReason::Reset, position: top, missed: None }));
        }
        let settled_at = self.settled_at.unwrap_or(now);
        let rechecks = RECHECKS.iter().map(|delay| settled_at + *delay);
        self.rechecks = rechecks.filter(|at| *at > now).collect();
    }

    /// Judges where this feed stands *now* by the lineage that was read: it may have moved since the
    /// read was sent.
    fn go_on(&mut self, at: Position, read: Read, now: Instant, steps: &mut Vec<Step>) {
        let has_moved = self.asked_at != Some(at);
        let head = match read.lineage.locate(at, read.top) {
            Standing::Known => at.offset,
            // The broker was quicker than the log's answer: there is nothing in it.
            _ if has_moved && at.epoch == read.epoch => return,
            _ if has_moved => return self.read_by(now),
            Standing::Beyond { end } => {
                self.rewind(fork(&read.lineage, end), steps);
                end
            }
            Standing::Unknown => {
                return self.jump(GapReason::Reset, read.top_position(), None, steps);
            }
        };
        if read.base > head {
            if read.status != Status::Trimmed {
                return self.read_by(now);
            }
            let missed = Some(read.base - head);
            self.jump(GapReason::Window, read.base_position(), missed, steps);
        }
        self.append(read, now, steps);
    }

    fn append(&mut self, read: Read, now: Instant, steps: &mut Vec<Step>) {
        let (top, reaches_top) = (read.top_position(), read.reaches_top());
        for publication in read.publications {
            if self.at.is_some_and(|at| publication.position.offset == at.offset + 1) {
                self.push(Arc::new(Envelope::new(publication)), steps);
            }
        }
        if self.at.is_some_and(|at| at.offset == top.offset) {
            self.at = Some(top);
        } else if !reaches_top {
            self.read_by(now);
        }
    }

    fn rewind(&mut self, to: Position, steps: &mut Vec<Step>) {
        self.ring.truncate(to.offset);
        self.at = Some(to);
        steps.push(Step::Gap(Gap { reason: GapReason::Rewind, position: to, missed: None }));
    }

    fn jump(
        &mut self,
        reason: GapReason,
        to: Position,
        missed: Option<u64>,
        steps: &mut Vec<Step>,
    ) {
        self.ring.clear();
        self.at = Some(to);
        steps.push(Step::Gap(Gap { reason, position: to, missed }));
    }

    /// Remembers as much from now on.
    pub(crate) fn bound(&mut self, limits: RingLimits) {
        self.ring.bound(limits);
    }

    fn push(&mut self, envelope: Arc<Envelope>, steps: &mut Vec<Step>) {
        self.at = Some(envelope.position);
        if self.held.is_all_of(envelope.position.epoch) {
            // Whatever was missing is not any more: if something is, that is another hole.
            self.hole_at = None;
        }
        if let Some(newest) = self.ring.newest() {
            envelope.follow(newest);
        }
        self.ring.push(Arc::clone(&envelope));
        steps.push(Step::Deliver(envelope));
    }

    fn hold(&mut self, envelope: Arc<Envelope>, now: Instant) {
        if !self.held.insert(envelope) {
            self.read_by(now);
        }
        self.wait_for_hole(now);
    }

    fn wait_for_hole(&mut self, now: Instant) {
        let (Some(at), None) = (self.at, self.hole_at) else { return };
        let missing = Position::new(at.epoch, at.offset + 1);
        self.hole_at = Some(self.patience.until(missing, now));
    }

    /// Passes on what was held and now follows, and forgets what came too late.
    fn release(&mut self, now: Instant, steps: &mut Vec<Step>) {
        while let Some(at) = self.at {
            let Some(envelope) = self.held.remove(Position::new(at.epoch, at.offset + 1)) else {
                self.held.forget_before(at);
                break;
            };
            self.push(envelope, steps);
        }
        if self.held.is_empty() {
            self.hole_at = None;
        } else {
            self.wait_for_hole(now);
        }
    }
}

/// Where those go on from who saw a tail that was lost after `end`: in the epoch that follows, or a
/// node that has not heard of the loss would hand them the same tail again.
fn fork(lineage: &Lineage, end: u64) -> Position {
    Position::new(lineage.epoch_of(end + 1), end)
}

fn before(envelope: &Envelope) -> Position {
    Position::new(envelope.position.epoch, envelope.position.offset - 1)
}

mod fleeting;
mod joining;
mod patience;
#[cfg(test)]
mod tests;
