use tidewire_model::{JoinId, Position, RequestId, Since};

/// One channel of a session.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) state: State,
    /// The last position the client was sent, or where its subscription began.
    pub(crate) position: Option<Position>,
    /// Where it began when it was first answered: what the store keeps.
    pub(crate) start: Option<Position>,
}

/// What a subscription waits for.
#[derive(Debug)]
pub(crate) enum State {
    /// A turn to be joined.
    Queued(Asked),
    /// The answer to a join.
    Joining(Joining),
    /// The next publication.
    Live { join: JoinId },
}

/// A join that has not been answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joining {
    pub(crate) join: JoinId,
    pub(crate) asked: Asked,
}

/// On whose behalf a join is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Asked {
    /// The client's command, or its resumed session (`None`): it is to hear how it went.
    ByClient { request: Option<RequestId>, since: Since },
    /// Our own, to catch up with what the client has missed: it hears of a gap only.
    ToCatchUp,
}

impl Subscription {
    pub(crate) fn new(asked: Asked, start: Option<Position>) -> Self {
        Self { state: State::Queued(asked), position: None, start }
    }

    /// The join whose deliveries this subscription accepts.
    pub(crate) fn join(&self) -> Option<JoinId> {
        match self.state {
            State::Queued(_) => None,
            State::Joining(Joining { join, .. }) | State::Live { join } => Some(join),
        }
    }

    /// Where the next join starts.
    pub(crate) fn since(&self, asked: Asked) -> Since {
        match (self.position, asked) {
            (Some(position), _) => Since::Position(position),
            (None, Asked::ByClient { since, .. }) => since,
            (None, Asked::ToCatchUp) => Since::Now,
        }
    }
}
