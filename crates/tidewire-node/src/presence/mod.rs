//! Who is in the channels of this node, and telling the store and those who watch.
//!
//! Each shard keeps the members that its clients have made in its channels: its *roll*, which is the
//! truth for as long as their connections are here. What of it the store has not been told yet is *unsaid*;
//! one call per channel is under way, and what changes meanwhile goes with the next. Each call is a step
//! of the store that may be repeated, and says what others are to hear: whoever made the call
//! publishes it in the reserved channel of presence, as anything fleeting is published. So a node that
//! dies between the two leaves a hole in the numbers of the changes, which watchers notice.
//!
//! Of a channel with many members only their number is published, now and again, by the node that the store
//! names for it. The same holds of channels that nobody enters, whose subscribers are counted (`count.rs`).
//!
//! What the store has lost is said again: after a failover, after a time in which it could not be
//! reached, and a little of the roll each second in any case (`assert.rs`). The members of a node
//! that is gone are marked as away by another one, and who is away leaves when its time is up
//! (`sweep.rs`).

mod assert;
mod count;
mod enter;
mod roll;
mod say;
mod sweep;
mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::StreamExt;
use tidewire_hub::Outbox;
use tidewire_model::{
    ConnectionId, Delivery, ErrorCode, Event, Failure, Incarnation, MemberPage, MemberWord,
    Occupancy, PageMark, RequestId, SessionId, TenantChannel, UserId,
};
use tidewire_store::{Applied, Life, Presence, Standing, StoreError, Tally};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

pub(crate) use self::roll::Desk;
pub(crate) use self::sweep::{DUES, Sweeper};
use crate::ask::Ask;
use crate::shard::Shard;
use crate::{Node, OwnedSession};

/// A session's wish to be a member of a channel, or to go on as one.
#[derive(Debug)]
pub struct Enter {
    pub channel: TenantChannel,
    pub session: OwnedSession,
    pub user: UserId,
    pub word: Option<MemberWord>,
    /// Who is told when the store has it, within about five seconds; nobody, of a session that is resumed.
    pub answer: Option<Answer>,
}

/// The loss of a member's connection: it stays a member as long as the channel's rule says, and
/// `at_least` so long.
#[derive(Debug)]
pub struct Away {
    pub channel: TenantChannel,
    pub session: OwnedSession,
    pub user: UserId,
    pub at_least: Duration,
}

/// A session's wish to be a member no more.
#[derive(Debug)]
pub struct Depart {
    pub channel: TenantChannel,
    pub session: OwnedSession,
    pub user: UserId,
    pub answer: Option<Answer>,
}

/// Where the answer to a command goes.
#[derive(Clone, Debug)]
pub struct Answer {
    pub connection: ConnectionId,
    pub request: RequestId,
    /// The connection's worker's.
    pub outbox: Outbox,
}

impl Answer {
    pub(crate) fn give(self, event: Event) {
        let Self { connection, outbox, .. } = self;
        outbox.answer(Delivery::Told { connection, event: Box::new(event) });
    }

    pub(crate) fn refuse(self, failure: Failure) {
        let request = Some(self.request);
        self.give(Event::Failed { request, failure });
    }
}

/// What a future of a shard's came to.
pub(crate) enum Done {
    Said(say::Said),
    Owed(TenantChannel, Result<Applied, StoreError>),
    Tallied(TenantChannel, u64, Result<Tally, StoreError>),
    Compared(Vec<TenantChannel>, Result<Vec<Standing>, StoreError>),
    Looked(u16, Result<Option<Incarnation>, StoreError>),
}

impl Shard {
    pub(crate) fn answer_presence(&mut self, ask: Ask, now: Instant) {
        match ask {
            Ask::Enter(enter) => self.enter(*enter, now),
            Ask::Away(away) => self.be_away(*away, now),
            Ask::Depart(depart) => self.depart(*depart, now),
            other => other.refuse(),
        }
    }

    /// Takes what was asked while the shard ended: who is away is said still, all else refused.
    pub(crate) fn take_last(&mut self, ask: Ask) {
        match ask {
            Ask::Away(_) | Ask::Depart(_) => self.answer_presence(ask, Instant::now()),
            other => other.refuse(),
        }
    }

    /// Waits until the store has been told all, or has failed to be.
    pub(crate) async fn say_last(&mut self) {
        while !self.desk.has_said_all() {
            let Some(done) = self.running.next().await else { return };
            self.finish(done, Instant::now());
        }
    }

    pub(crate) fn finish_presence(&mut self, done: Done, now: Instant) {
        match done {
            Done::Said(said) => self.finish_say(said, now),
            Done::Owed(channel, applied) => self.finish_ask(&channel, applied, now),
            Done::Tallied(channel, subscribers, outcome) => {
                self.finish_say_count(&channel, (subscribers, outcome), now);
            }
            Done::Compared(channels, outcome) => {
                self.finish_compare_watched(&channels, outcome, now);
            }
            Done::Looked(part, outcome) => self.finish_look(part, &outcome, now),
        }
    }
}

/// What of presence all shards of a node share.
pub(crate) struct PresenceWay {
    pub(crate) store: Arc<dyn Presence>,
    /// This node's own.
    pub(crate) life: Life,
    /// Whether the store knows of it, so that others would sweep what it leaves.
    pub(crate) is_noted: AtomicBool,
    /// Bounds the calls under way.
    pub(crate) calls: Semaphore,
    /// For the sweeper: when somebody's time is up, in which part.
    pub(crate) due: mpsc::Sender<(u16, Instant)>,
    pub(crate) metrics: PresenceMetrics,
}

/// Calls of the store under way at most, of a node.
const CALLS: usize = 256;

impl PresenceWay {
    pub(crate) fn new(
        store: Arc<dyn Presence>,
        life: Life,
        due: mpsc::Sender<(u16, Instant)>,
    ) -> Self {
        Self {
            store,
            life,
            is_noted: AtomicBool::new(false),
            calls: Semaphore::new(CALLS),
            due,
            metrics: PresenceMetrics::new(),
        }
    }
}

pub(crate) struct PresenceMetrics {
    pub(crate) joined: metrics::Counter,
    pub(crate) updated: metrics::Counter,
    pub(crate) left: metrics::Counter,
    pub(crate) stale: metrics::Counter,
    pub(crate) failed: metrics::Counter,
    pub(crate) lost: metrics::Counter,
    pub(crate) swept: metrics::Counter,
    pub(crate) asserted: [metrics::Counter; 3],
}

/// Why members that the store should know are told to it again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Doubt {
    CutOff,
    Failover,
    Entropy,
}

impl PresenceMetrics {
    pub(crate) fn new() -> Self {
        let change = |kind| metrics::counter!("tidewire_presence_changes_total", "kind" => kind);
        let asserted =
            |reason| metrics::counter!("tidewire_presence_asserted_total", "reason" => reason);
        Self {
            joined: change("joined"),
            updated: change("updated"),
            left: change("left"),
            stale: metrics::counter!("tidewire_presence_stale_total"),
            failed: metrics::counter!("tidewire_presence_failed_calls_total"),
            lost: metrics::counter!("tidewire_presence_lost_total"),
            swept: metrics::counter!("tidewire_presence_swept_total"),
            asserted: ["cut_off", "failover", "entropy"].map(asserted),
        }
    }
}

impl Node {
    /// Some of the members of a channel, in no order: about `limit` of them. Those whose
    /// connections were lost a moment ago are among them.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::BadMark`] if `from` is of another life of the store; what a client can do about the
    /// others is to try again.
    pub async fn members_of(
        &self,
        channel: &TenantChannel,
        from: Option<PageMark>,
        limit: u32,
    ) -> Result<MemberPage, Failure> {
        let page = self.inner().ports.presence.page(channel, from, limit).await;
        let page = page.map_err(|error| out_of_reach(channel, &error))?;
        if page.is_anew {
            let message = "the list has been lost where `from` was; load it from its beginning";
            return Err(Failure::new(ErrorCode::BadMark, message));
        }
        let members = page.entries.into_iter().map(|(_, entry)| roll::member(&entry)).collect();
        Ok(MemberPage { members, occupancy: page.occupancy, next: page.next })
    }

    /// How many members a channel has.
    ///
    /// # Errors
    ///
    /// When the store cannot be asked: to be tried again.
    pub async fn occupancy(&self, channel: &TenantChannel) -> Result<Occupancy, Failure> {
        let asked = self.inner().ports.presence.occupancies(std::slice::from_ref(channel)).await;
        let standings = asked.map_err(|error| out_of_reach(channel, &error))?;
        standings.first().map(|standing| standing.occupancy).ok_or_else(unavailable)
    }
}

fn out_of_reach(channel: &TenantChannel, error: &StoreError) -> Failure {
    tracing::debug!(%channel, %error, "cannot read who is in a channel");
    unavailable()
}

fn unavailable() -> Failure {
    let message = "who is in the channel cannot be asked now; try again";
    Failure::new(ErrorCode::Unavailable, message).retry_after(RETRY)
}

/// What who wants to enter is told where nobody can.
fn not_kept() -> Failure {
    Failure::new(ErrorCode::NoPresence, "the channel keeps no members: no rule of it says so")
}

/// What a client is told whose session has another owner.
fn moved() -> Failure {
    Failure::new(ErrorCode::Moved, "the session goes on over another connection")
}

const RETRY: Duration = Duration::from_millis(500);

/// Names a session that is here under its generation.
pub(crate) fn name(session: &OwnedSession) -> SessionId {
    session.key.session
}
