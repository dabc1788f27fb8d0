use tidewire_model::{
    DeltaFormat, Gap, GapReason, Position, Recovery, RequestId, Since, Subscribed,
};
use tidewire_protocol_native::client::{Content, Received, Refusal};
use tidewire_protocol_native::fossil::BadDelta;
use tokio::time::Instant;

use crate::retry::Retry;
use crate::seen::Seen;

/// A channel the application wants, and how far it has been read.
pub(crate) struct Followed {
    since: Since,
    /// What to ask for.
    pub(crate) delta: Option<DeltaFormat>,
    base: Base,
    pub(crate) position: Option<Position>,
    /// The `subscribe` that has not been answered on the connection at hand.
    pub(crate) request: Option<RequestId>,
    /// When to ask again after a refusal.
    pub(crate) ask_at: Option<Instant>,
    retry: Retry,
    seen: Seen,
}

/// What the next delta would be applied to.
enum Base {
    /// The server sends no deltas.
    Unneeded,
    /// The server may send deltas, and will send one publication in full before the first.
    Awaited,
    Held(Box<Received>),
    /// A delta could not be applied: what comes before the next confirmation is of a subscription
    /// that was given up, and its publications come again after that.
    Lost,
}

impl Followed {
    pub(crate) fn new(since: Since, delta: Option<DeltaFormat>) -> Self {
        let position = match since {
            Since::Position(position) => Some(position),
            Since::Now | Since::Last(_) => None,
        };
        let (retry, seen) = (Retry::default(), Seen::default());
        let base = Base::Unneeded;
        Self { since, delta, base, position, request: None, ask_at: None, retry, seen }
    }

    /// Where to go on from when no session brings it back.
    pub(crate) fn go_on(&self) -> Since {
        self.position.map_or(self.since, Since::Position)
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

    pub(crate) fn subscribed(&mut self, subscribed: &Subscribed, now: Instant) {
        self.settle();
        self.retry = Retry::default();
        self.position = Some(subscribed.position);
        self.base = if subscribed.delta.is_some() { Base::Awaited } else { Base::Unneeded };
        match subscribed.recovery {
            Recovery::NotAsked | Recovery::Recovered => {}
            Recovery::Rewound => self.seen.rewind(subscribed.position, now),
            Recovery::Failed(reason) => self.skip(reason, subscribed.position, now),
        }
    }

    pub(crate) fn gap(&mut self, gap: &Gap, now: Instant) {
        self.position = Some(gap.position);
        self.skip(gap.reason, gap.position, now);
    }

    fn skip(&mut self, reason: GapReason, position: Position, now: Instant) {
        match reason {
            GapReason::Window => {}
            GapReason::Reset => self.seen.reset(),
            GapReason::Rewind => self.seen.rewind(position, now),
        }
    }

    /// Gives the publication with its whole payload; `None` for one that is to be ignored, because it
    /// will come again.
    pub(crate) fn restore(
        &mut self,
        publication: Received<Content>,
    ) -> Result<Option<Received>, BadDelta> {
        let base = match &self.base {
            Base::Lost => return Ok(None),
            Base::Unneeded | Base::Awaited => None,
            Base::Held(base) => Some(base.as_ref()),
        };
        let whole = publication.restored(base)?;
        if !matches!(self.base, Base::Unneeded) {
            self.base = Base::Held(Box::new(whole.clone()));
        }
        Ok(Some(whole))
    }

    /// Gives up what the server sends now, and deltas for good.
    pub(crate) fn lose_base(&mut self) {
        self.base = Base::Lost;
        self.delta = None;
    }

    /// A connection begins: what the last one sent is no base on it.
    pub(crate) fn begin_anew(&mut self) {
        self.settle();
        self.base = Base::Unneeded;
    }

    /// Reads a publication; says whether the application has not had it before.
    pub(crate) fn read(&mut self, publication: &Received, now: Instant) -> bool {
        let is_old = self.position.is_some_and(|position| {
            position.epoch == publication.position.epoch
                && publication.position.offset <= position.offset
        });
        if is_old {
            return false;
        }
        self.position = Some(publication.position);
        self.seen.read(publication, now)
    }
}

#[cfg(test)]
mod tests {
    use tidewire_model::{Channel, Incarnation, Payload, PublicationId};

    use super::*;

    #[test]
    fn what_was_read_is_not_read_again() {
        let mut followed = Followed::new(Since::Now, None);

        assert!(read(&mut followed, 1, None));
        assert!(read(&mut followed, 2, None));
        assert!(!read(&mut followed, 2, None));
        assert!(!read(&mut followed, 1, None));
        assert_eq!(followed.position, Some(position(2)));
    }

    #[test]
    fn what_comes_again_after_a_rewind_moves_the_position_only() {
        for way_back in [rewound, rewind_gap, rewind_without_recovery] {
            let mut followed = Followed::new(Since::Now, None);
            assert!(read(&mut followed, 1, Some("a")));

            way_back(&mut followed);

            assert!(!read(&mut followed, 2, Some("a")));
            assert_eq!(followed.go_on(), Since::Position(position(2)));
        }
    }

    #[test]
    fn without_a_rewind_an_id_that_comes_again_is_a_publication() {
        let mut followed = Followed::new(Since::Now, None);

        assert!(read(&mut followed, 1, Some("a")));
        followed
            .gap(&Gap { reason: GapReason::Window, position: position(5), missed: None }, now());

        assert!(read(&mut followed, 6, Some("a")));
    }

    fn rewound(followed: &mut Followed) {
        followed.subscribed(&subscribed(Recovery::Rewound), now());
    }

    fn rewind_without_recovery(followed: &mut Followed) {
        followed.subscribed(&subscribed(Recovery::Failed(GapReason::Rewind)), now());
    }

    fn rewind_gap(followed: &mut Followed) {
        followed
            .gap(&Gap { reason: GapReason::Rewind, position: position(0), missed: None }, now());
    }

    fn subscribed(recovery: Recovery) -> Subscribed {
        let channel = Channel::parse("room:42").expect("valid");
        Subscribed { request: None, channel, recovery, position: position(0), delta: None }
    }

    fn read(followed: &mut Followed, offset: u64, id: Option<&str>) -> bool {
        let publication = Received {
            position: position(offset),
            time_ms: 0,
            id: id.map(|id| PublicationId::parse(id).expect("valid")),
            publisher: None,
            payload: Payload::binary("".into()),
        };
        followed.read(&publication, now())
    }

    fn position(offset: u64) -> Position {
        Position::new(Incarnation::ZERO.epoch(1), offset)
    }

    fn now() -> Instant {
        Instant::now()
    }
}
