use tidewire_model::{
    Channel, DeltaFormat, Deltas, JoinId, Joined, Position, Recovery, RequestId, Since, Subscribed,
};

use crate::Meeting;
use crate::session::replay::Replayed;

/// One channel of a session. There are as many as a node has listeners, so the state in which they
/// spend their lives is small, and what they need on the way to it is kept elsewhere.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) channel: Channel,
    pub(crate) state: State,
}

/// What a subscription waits for.
#[derive(Debug)]
pub(crate) enum State {
    /// To be joined.
    Pending(Box<Pending>),
    /// The next publication.
    Live(Live),
}

/// A subscription on its way to be live.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) asked: Asked,
    /// The join that has not been answered; `None` while it waits for its turn.
    pub(crate) join: Option<JoinId>,
    /// The last position the client was sent, or where its subscription began.
    pub(crate) position: Option<Position>,
    /// Where it began when it was first answered: what the store keeps.
    pub(crate) start: Option<Position>,
    /// How the publication after `position` may be written.
    pub(crate) deltas: Deltas,
    /// What has been sent of what the client missed before it asked for this; `None` of what it has
    /// missed since, for which we wait as long as it takes.
    pub(crate) replayed: Option<Replayed>,
    /// Enough has been sent: the next join leaves out what comes after this position.
    pub(crate) skips_from: Option<Position>,
    /// The client was told that its channel is sampled.
    pub(crate) is_sampled: bool,
    /// The store says that the session had it before.
    pub(crate) is_known: bool,
    /// Waits for the store; it is not joined meanwhile.
    pub(crate) held: Option<Box<Held>>,
}

/// What confirms a subscription of a strict session.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) subscribed: Subscribed,
    /// The store has the subscription once what is being written is there.
    pub(crate) is_written: bool,
}

/// A subscription that is in step with its channel.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) join: JoinId,
    /// As in [`Pending`].
    pub(crate) is_sampled: bool,
    pub(crate) deltas: Deltas,
    /// As in [`Pending`].
    pub(crate) position: Position,
    /// As in [`Pending`].
    pub(crate) start: Position,
}

/// On whose behalf a join is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Asked {
    /// The client's command, or its resumed session (`None`): it is to hear how it went.
    ByClient { request: Option<RequestId>, since: Since },
    /// Our own, to catch up with what the client has missed: it hears of a gap only.
    ToCatchUp,
}

impl Asked {
    /// Whether it is a command that the client awaits an answer to.
    pub(crate) fn is_command(self) -> bool {
        matches!(self, Self::ByClient { request: Some(_), .. })
    }
}

impl Subscription {
    /// One that waits for its turn to be joined.
    pub(crate) fn new(channel: Channel, pending: Pending) -> Self {
        Self { channel, state: State::Pending(Box::new(pending)) }
    }

    /// The join whose answer or deliveries this subscription accepts.
    pub(crate) fn join(&self) -> Option<JoinId> {
        match &self.state {
            State::Pending(pending) => pending.join,
            State::Live(live) => Some(live.join),
        }
    }

    /// Where it began, once it was answered.
    pub(crate) fn start(&self) -> Option<Position> {
        match &self.state {
            State::Pending(pending) => pending.start,
            State::Live(live) => Some(live.start),
        }
    }

    pub(crate) fn delta(&self) -> Option<DeltaFormat> {
        match &self.state {
            State::Pending(pending) => pending.deltas.format(),
            State::Live(live) => live.deltas.format(),
        }
    }

    /// Where its confirmation is while that waits for the store.
    pub(crate) fn held(&mut self) -> Option<&mut Option<Box<Held>>> {
        match &mut self.state {
            State::Pending(pending) => Some(&mut pending.held),
            State::Live(_) => None,
        }
    }

    /// Whether a join of it awaits an answer.
    pub(crate) fn is_joining(&self) -> bool {
        matches!(&self.state, State::Pending(pending) if pending.join.is_some())
    }
}

impl Pending {
    pub(crate) fn new(asked: Asked, start: Option<Position>, delta: Option<DeltaFormat>) -> Self {
        let has_missed = matches!(asked, Asked::ByClient { since: Since::Position(_), .. });
        Self {
            asked,
            join: None,
            position: None,
            start,
            deltas: Deltas::asked(delta),
            replayed: has_missed.then(Replayed::default),
            skips_from: None,
            is_sampled: false,
            is_known: false,
            held: None,
        }
    }

    /// One that the store says the session had before.
    pub(crate) fn known(self) -> Self {
        Self { is_known: true, ..self }
    }

    /// Whether there is nothing but the client's word that the session had it before.
    pub(crate) fn is_new(&self) -> bool {
        !self.is_known && self.start.is_none()
    }

    /// Leaves out what the client missed, before any of it was read.
    pub(crate) fn skip_first(&mut self) {
        if let Asked::ByClient { since: Since::Position(from), .. } = self.asked {
            self.skips_from = Some(from);
        }
    }

    /// Holds its confirmation back until the store has the subscription and where it begins. It gives
    /// up its place in the channel: what comes meanwhile is read from the log then, from there.
    pub(crate) fn hold(&mut self, subscribed: Subscribed) {
        let position = Some(subscribed.position);
        (self.position, self.start) = (position, position);
        self.asked = Asked::ToCatchUp;
        self.join = None;
        self.deltas = self.deltas.after_gap();
        self.held = Some(Box::new(Held { subscribed, is_written: false }));
    }

    /// Where the next join starts.
    pub(crate) fn since(&self) -> Since {
        if self.skips_from.is_some() {
            return Since::Now;
        }
        match (self.position, self.asked) {
            (Some(position), _) => Since::Position(position),
            (None, Asked::ByClient { since, .. }) => since,
            (None, Asked::ToCatchUp) => Since::Now,
        }
    }

    /// How the publications that `joined` brings may be written, and what follows if it brings none.
    pub(crate) fn deltas_for(&self, joined: &Joined) -> Deltas {
        let goes_on = matches!(joined.recovery, Recovery::NotAsked | Recovery::Recovered)
            && self.position == Some(joined.position);
        if goes_on { self.deltas } else { self.deltas.after_gap() }
    }
}

impl Live {
    /// Takes the publications from `first` to `last`, if they are just what comes next.
    pub(crate) fn meet(&mut self, first: Position, last: Position) -> Meeting {
        let seen = self.position;
        if last.offset <= seen.offset {
            return Meeting::Nothing;
        }
        if first.offset != seen.offset + 1 {
            return Meeting::OutOfStep;
        }
        // A failover that took nothing from this client still gave the channel a new epoch, and what
        // comes before `first` in that is not told from the offset alone.
        let is_same_epoch = seen.epoch == first.epoch;
        let deltas = if is_same_epoch { self.deltas } else { self.deltas.after_gap() };
        self.position = last;
        self.deltas = deltas.after_sending();
        Meeting::InStep { deltas }
    }

    /// The same subscription with nothing to come, until it is joined again.
    pub(crate) fn pending(&self) -> Pending {
        Pending {
            asked: Asked::ToCatchUp,
            join: None,
            position: Some(self.position),
            start: Some(self.start),
            deltas: self.deltas,
            replayed: None,
            skips_from: None,
            is_sampled: self.is_sampled,
            is_known: true,
            held: None,
        }
    }
}
