use tidewire_model::{
    DeltaFormat, Gap, GapReason, Position, Recovery, RequestId, Since, Subscribed, Token,
};
use tidewire_protocol_native::client::{Content, Received, Refusal};
use tidewire_protocol_native::fossil::BadDelta;
use tokio::time::Instant;

use crate::base::Base;
use crate::behind::{Behind, Met, Side};
use crate::retry::Retry;
use crate::seen::Seen;

/// What to ask for.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub(crate) since: Since,
    pub(crate) delta: Option<DeltaFormat>,
    /// Of this channel.
    pub(crate) token: Option<Token>,
}

/// A channel the application wants, and how far it has been read.
pub(crate) struct Followed {
    pub(crate) wanted: Wanted,
    base: Base,
    pub(crate) position: Option<Position>,
    /// While the connection at hand is yet to bring it there.
    behind: Option<Behind>,
    /// The `subscribe` that has not been answered on the connection at hand.
    pub(crate) request: Option<RequestId>,
    /// The `refresh` with another token of the channel that has not been answered, likewise.
    pub(crate) shown: Option<RequestId>,
    /// When to ask again after a refusal.
    pub(crate) ask_at: Option<Instant>,
    retry: Retry,
    seen: Seen,
}

impl Followed {
    pub(crate) fn new(wanted: Wanted) -> Self {
        let position = match wanted.since {
            Since::Position(position) => Some(position),
            Since::Now | Since::Last(_) => None,
        };
        let (retry, seen) = (Retry::default(), Seen::default());
        let base = Base::Unneeded;
        Self {
            wanted,
            base,
            position,
            behind: None,
            request: None,
            shown: None,
            ask_at: None,
            retry,
            seen,
        }
    }

    /// Where to go on from when no session brings it back.
    pub(crate) fn go_on(&self) -> Since {
        self.position.map_or(self.wanted.since, Since::Position)
    }

    /// Nothing is under way: a connection begins, or the server has answered.
    pub(crate) fn settle(&mut self) {
        self.request = None;
        self.ask_at = None;
    }

    pub(crate) fn ask_later(&mut self, refusal: &Refusal, now: Instant) {
        self.request = None;
        self.ask_at = Some(now + self.retry.after(refusal));
    }

    /// The server has confirmed the subscription, or its session has brought it back. Says whether to
    /// ask for the channel anew, because what was brought back does not go on from where it was read
    /// to.
    pub(crate) fn subscribed(&mut self, subscribed: &Subscribed, now: Instant) -> bool {
        self.settle();
        self.retry = Retry::default();
        self.base = if subscribed.delta.is_some() { Base::Awaited } else { Base::Unneeded };
        let at = subscribed.position;
        match (subscribed.recovery, self.position) {
            (Recovery::NotAsked, Some(position))
                if subscribed.request.is_none() && position != at =>
            {
                self.give_up();
                return true;
            }
            (Recovery::NotAsked | Recovery::Recovered, _) => {
                self.go_on_after(at);
            }
            (Recovery::Rewound, _) => {
                self.arrive_at(at);
                self.seen.rewind(at, now);
            }
            (Recovery::Failed(reason), _) => {
                self.skip(reason, at, now);
            }
        }
        false
    }

    /// What follows comes after `position`. Says whether something is missing between that and what
    /// has been read.
    fn go_on_after(&mut self, position: Position) -> bool {
        let has_read_on = self.position.filter(|read| !is_ahead(position, *read));
        let (Some(read), Some(behind)) = (has_read_on, &mut self.behind) else {
            self.arrive_at(position);
            return true;
        };
        if behind.begin(position, read) {
            self.behind = None;
        }
        false
    }

    /// From here on the connection at hand brings what is new.
    fn arrive_at(&mut self, position: Position) {
        self.position = Some(position);
        self.behind = None;
    }

    /// Takes a gap; says whether anything is missing for that.
    pub(crate) fn gap(&mut self, gap: &Gap, side: Side, now: Instant) -> bool {
        match (side, &self.behind) {
            (Side::Newer, _) => self.skip(gap.reason, gap.position, now),
            (Side::Older, None) => false,
            (Side::Older, Some(behind)) => {
                if behind.has_reached(gap.position) {
                    self.behind = None;
                }
                self.position = Some(gap.position);
                self.forget(gap.reason, gap.position, now);
                true
            }
        }
    }

    /// The connection at hand goes on after `position`; says whether anything is missing for that.
    fn skip(&mut self, reason: GapReason, position: Position, now: Instant) -> bool {
        if matches!(reason, GapReason::Window | GapReason::Limit | GapReason::Skipped) {
            return self.go_on_after(position);
        }
        self.arrive_at(position);
        self.forget(reason, position, now);
        true
    }

    fn forget(&mut self, reason: GapReason, position: Position, now: Instant) {
        match reason {
            GapReason::Window | GapReason::Limit | GapReason::Skipped => {}
            GapReason::Reset => self.seen.reset(now),
            GapReason::Rewind => self.seen.rewind(position, now),
        }
    }

    /// Gives the publication with its whole payload; `None` for one that is to be ignored.
    pub(crate) fn restore(
        &mut self,
        publication: Received<Content>,
        side: Side,
    ) -> Result<Option<Received>, BadDelta> {
        match (side, &mut self.behind) {
            (Side::Newer, _) => self.base.restore(publication),
            (Side::Older, None) => Ok(None),
            // The connection at hand brings it as well.
            (Side::Older, Some(behind)) => {
                Ok(behind.base.restore(publication).unwrap_or_else(|_| {
                    behind.base = Base::Lost;
                    None
                }))
            }
        }
    }

    /// Gives up what the server sends now, and deltas for good.
    pub(crate) fn lose_base(&mut self) {
        self.give_up();
        self.wanted.delta = None;
    }

    /// Gives up what the server sends before the next confirmation.
    fn give_up(&mut self) {
        self.base = Base::Lost;
        if let Some(behind) = &mut self.behind {
            behind.begin_anew();
        }
    }

    /// A connection begins: what the last one sent is no base on it.
    pub(crate) fn begin_anew(&mut self) {
        self.settle();
        let base = std::mem::take(&mut self.base);
        self.behind = self.position.map(|_| Behind::new(base));
    }

    /// Whether the connection at hand brings all that is new.
    pub(crate) fn is_in_step(&self) -> bool {
        self.behind.is_none() && self.request.is_none() && self.ask_at.is_none()
    }

    /// Reads a publication; says whether the application has not had it before. `None` for one that
    /// comes over both connections, and whose turn is over the other.
    pub(crate) fn read(
        &mut self,
        publication: &Received,
        side: Side,
        now: Instant,
    ) -> Option<bool> {
        if let (Side::Newer, Some(behind), Some(read)) = (side, &mut self.behind, self.position) {
            match behind.meet(publication.position, read) {
                Met::Before => return None,
                Met::Here => {
                    self.behind = None;
                    return None;
                }
                Met::Beyond => self.behind = None,
                Met::Instead(position) => {
                    self.arrive_at(position);
                    self.seen.rewind(position, now);
                }
            }
        }
        let is_old = self.position.is_some_and(|read| is_at_or_before(publication.position, read));
        if is_old {
            return Some(false);
        }
        self.position = Some(publication.position);
        Some(self.seen.read(publication, now))
    }
}

/// Whether `position` is in the epoch of `read`, and beyond it.
fn is_ahead(position: Position, read: Position) -> bool {
    position.epoch == read.epoch && position.offset > read.offset
}

fn is_at_or_before(position: Position, read: Position) -> bool {
    position.epoch == read.epoch && position.offset <= read.offset
}

#[cfg(test)]
mod tests {
    use tidewire_model::{Channel, Incarnation, Payload, PublicationId};

    use super::*;

    #[test]
    fn what_was_read_is_not_read_again() {
        let mut followed = Followed::new(Wanted { since: Since::Now, delta: None, token: None });

        assert!(read(&mut followed, 1, None));
        assert!(read(&mut followed, 2, None));
        assert!(!read(&mut followed, 2, None));
        assert!(!read(&mut followed, 1, None));
        assert_eq!(followed.position, Some(position(2)));
    }

    #[test]
    fn what_comes_again_after_a_rewind_moves_the_position_only() {
        for way_back in [rewound, rewind_gap, rewind_without_recovery] {
            let mut followed =
                Followed::new(Wanted { since: Since::Now, delta: None, token: None });
            assert!(read(&mut followed, 1, Some("a")));

            way_back(&mut followed);

            assert!(!read(&mut followed, 2, Some("a")));
            assert_eq!(followed.go_on(), Since::Position(position(2)));
        }
    }

    #[test]
    fn without_a_rewind_an_id_that_comes_again_is_a_publication() {
        let mut followed = Followed::new(Wanted { since: Since::Now, delta: None, token: None });

        assert!(read(&mut followed, 1, Some("a")));
        followed.gap(
            &Gap { reason: GapReason::Window, position: position(5), missed: None },
            Side::Newer,
            now(),
        );

        assert!(read(&mut followed, 6, Some("a")));
    }

    fn rewound(followed: &mut Followed) {
        followed.subscribed(&subscribed(Recovery::Rewound), now());
    }

    fn rewind_without_recovery(followed: &mut Followed) {
        followed.subscribed(&subscribed(Recovery::Failed(GapReason::Rewind)), now());
    }

    fn rewind_gap(followed: &mut Followed) {
        followed.gap(
            &Gap { reason: GapReason::Rewind, position: position(0), missed: None },
            Side::Newer,
            now(),
        );
    }

    fn subscribed(recovery: Recovery) -> Subscribed {
        let channel = Channel::parse("room:42").expect("valid");
        Subscribed {
            request: None,
            channel,
            recovery,
            position: position(0),
            delta: None,
            sampled: false,
        }
    }

    fn read(followed: &mut Followed, offset: u64, id: Option<&str>) -> bool {
        let publication = Received {
            position: position(offset),
            time_ms: 0,
            id: id.map(|id| PublicationId::parse(id).expect("valid")),
            publisher: None,
            payload: Payload::binary("".into()),
        };
        followed.read(&publication, Side::Newer, now()).expect("it is the only connection")
    }

    fn position(offset: u64) -> Position {
        Position::new(Incarnation::ZERO.epoch(1), offset)
    }

    fn now() -> Instant {
        Instant::now()
    }
}
