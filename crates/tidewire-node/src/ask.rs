//! What workers of the edge ask of the shards, and who is told what came of a publication.

use std::time::Duration;

use tidewire_broker::{Appended, Draft};
use tidewire_hub::Outbox;
use tidewire_model::{
    ConnectionId, Delivery, Failure, JoinId, Published, RequestId, Since, TenantChannel, Tenure,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::presence::{Answer, Away, Depart, Enter};
use crate::publish::stopped;

/// What a worker of the edge asks of the shard that owns a channel.
#[derive(Debug)]
pub enum Ask {
    Join(Join),
    /// Gives up a join that has not been answered. The answer may be under way and still come; if it
    /// is live, its place is to be released like any other.
    Withdraw {
        channel: TenantChannel,
        connection: ConnectionId,
        join: JoinId,
    },
    /// Gives back the place of one live answer. Every one is given back exactly once, unless its
    /// tenure was voided by [`Delivery::Lagged`]; a tenure that is over is ignored.
    Release {
        channel: TenantChannel,
        tenure: Tenure,
        outbox: Outbox,
    },
    /// Gives all of the worker's places in a channel back at once, as if its queue had been full: what
    /// comes of the channel it has no room for. Answered by [`Delivery::Lagged`], of no tenure that ever
    /// was if it has no place there.
    GiveUp {
        channel: TenantChannel,
        outbox: Outbox,
    },
    /// Answered by [`Delivery::Published`].
    Publish {
        channel: TenantChannel,
        draft: Draft,
        connection: ConnectionId,
        request: RequestId,
        outbox: Outbox,
    },
    /// Makes a session a member of a channel; answered by [`Delivery::Told`].
    Enter(Box<Enter>),
    /// A member's connection is lost; not answered.
    Away(Box<Away>),
    /// A session is no member any more; answered by [`Delivery::Told`].
    Depart(Box<Depart>),
}

/// A connection's wish to be handed the publications of a channel. Answered by
/// [`Delivery::Joined`], within five seconds.
#[derive(Debug)]
pub struct Join {
    pub channel: TenantChannel,
    pub since: Since,
    /// It is for nobody who had the channel before: the tenant's limits hold for it.
    pub is_new: bool,
    pub connection: ConnectionId,
    /// What the connection calls this attempt.
    pub id: JoinId,
    /// Where the answer goes, and the channel's publications if it is live: the connection's
    /// worker's.
    pub outbox: Outbox,
}

impl Ask {
    /// What it is about.
    pub fn channel(&self) -> &TenantChannel {
        match self {
            Self::Join(Join { channel, .. })
            | Self::Withdraw { channel, .. }
            | Self::Release { channel, .. }
            | Self::GiveUp { channel, .. }
            | Self::Publish { channel, .. } => channel,
            Self::Enter(enter) => &enter.channel,
            Self::Away(away) => &away.channel,
            Self::Depart(depart) => &depart.channel,
        }
    }

    /// Answers what waits for an answer: the shard has stopped.
    pub(crate) fn refuse(self) {
        match self {
            Self::Join(join) => join.refuse(stopped()),
            Self::Publish { connection, request, outbox, .. } => {
                let took = Duration::ZERO;
                outbox.answer(Delivery::Published {
                    connection,
                    request,
                    took,
                    outcome: Err(stopped()),
                });
            }
            Self::Enter(enter) => refuse_if_awaited(enter.answer),
            Self::Depart(depart) => refuse_if_awaited(depart.answer),
            Self::Withdraw { .. } | Self::Release { .. } | Self::GiveUp { .. } | Self::Away(_) => {}
        }
    }
}

fn refuse_if_awaited(answer: Option<Answer>) {
    if let Some(answer) = answer {
        answer.refuse(stopped());
    }
}

impl Join {
    pub(crate) fn refuse(self, failure: Failure) {
        refuse(&self.outbox, (self.channel, self.connection, self.id), failure);
    }
}

pub(crate) fn refuse(
    outbox: &Outbox,
    (channel, connection, join): (TenantChannel, ConnectionId, JoinId),
    failure: Failure,
) {
    let (tenure, outcome) = (Tenure::default(), Err(failure));
    outbox.answer(Delivery::Joined { channel, connection, join, tenure, outcome });
}

/// Who waits for what came of a draft.
#[derive(Debug)]
pub(crate) enum Reply {
    Caller(oneshot::Sender<Result<Appended, Failure>>),
    Worker { connection: ConnectionId, request: RequestId, outbox: Outbox, asked_at: Instant },
}

impl Reply {
    /// `now` is when it was known.
    pub(crate) fn send(self, outcome: Result<Appended, Failure>, now: Instant) {
        match self {
            // A caller that is gone needs no answer.
            Self::Caller(sender) => drop(sender.send(outcome)),
            Self::Worker { connection, request, outbox, asked_at } => {
                let took = now.saturating_duration_since(asked_at);
                let outcome = outcome
                    .map(|Appended { position, duplicate, .. }| Published { position, duplicate });
                outbox.answer(Delivery::Published { connection, request, took, outcome });
            }
        }
    }
}
