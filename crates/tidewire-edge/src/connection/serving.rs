//! A connection that has a session.

use std::collections::VecDeque;

use tidewire_hub::Subscriber;
use tidewire_model::{
    Channel, Delivery, Disconnect, Failure, JoinId, Joined, MemberWord, RequestId, TenantChannel,
    Tenure,
};
use tidewire_node::{Ask, Join, OwnedSession};
use tidewire_protocol::Decoded;
use tidewire_session::Session;
use tidewire_store::{Saved, StoreError};
use tokio::time::Duration;

use super::alarms::Alarm;
use super::expiry;
use super::held::Held;
use super::toll::Toll;
use super::{Ending, Line, Verdict};
use crate::metrics::{self, SlowConsumer};
use crate::outcome::{self, Outcome};
use crate::registry::Cause;
use crate::worker::{Context, FOR_THE_LAP};

/// Answers a connection waits for above which no further command is taken.
const MOST_PENDING: u16 = 64;
/// Of these, pages of history: each may be a thousand publications, held until the client has read
/// them.
const MOST_READS: u8 = 4;

/// How much longer a window lasts that ends while sessions cannot be reached, until it is looked again.
const LONGER_WINDOW: Duration = Duration::from_secs(1);

pub(super) struct Serving {
    pub(super) session: Session,
    pub(super) owned: OwnedSession,
    /// Publications, and wishes to come and go, that have not been answered.
    pub(super) publishing: u16,
    /// Pages of history under way.
    pub(super) reads: u8,
    /// The command for whose token a key is being fetched.
    pub(super) refreshing: Option<RequestId>,
    /// A write of the session is under way; the next waits, or might be overtaken.
    pub(super) is_saving: bool,
    /// The session has another owner, and is not ours to write or release.
    pub(super) is_fenced: bool,
    /// Why its client was asked to move, the last time.
    pub(super) asked: Option<Cause>,
    /// The client is known to have been told of its session. Until one that was resumed is heard
    /// again that answer may be lost, and a write would keep it from repeating its claim.
    pub(super) is_told: bool,
    /// What it has used of its rates; `None` while that is nothing.
    pub(super) toll: Option<Box<Toll>>,
    /// What an idle connection has nothing of.
    pub(super) waiting: Option<Box<Waiting>>,
}

/// What waits until the client has read, or been answered.
#[derive(Default)]
pub(super) struct Waiting {
    /// Commands that were read and have not been taken; nothing more is read before.
    pub(super) untaken: VecDeque<Decoded>,
    /// Joins that would fetch what the client could not be sent.
    pub(super) joins: Vec<Join>,
    /// Joins whose places are lost.
    pub(super) lagged: Vec<JoinId>,
    /// Members of a session that was resumed, which enter again once the client is known to be told.
    pub(super) entering: Vec<(Channel, Option<MemberWord>)>,
    /// What is held of channels that leave out what it misses.
    pub(super) held: Held,
    /// It has been behind for so long that it is slow.
    pub(super) slow: Option<SlowConsumer>,
    /// Its credential has expired: nothing is delivered until it has another.
    pub(super) is_expired: bool,
}

impl Serving {
    pub(super) fn new(
        session: Session,
        owned: OwnedSession,
        is_resumed: bool,
        rest: Vec<Decoded>,
    ) -> Self {
        let mut serving = Self {
            session,
            owned,
            publishing: 0,
            reads: 0,
            refreshing: None,
            is_saving: false,
            is_fenced: false,
            asked: None,
            is_told: !is_resumed,
            toll: None,
            waiting: None,
        };
        if !rest.is_empty() {
            serving.waiting().untaken = rest.into();
        }
        serving
    }

    pub(super) fn waiting(&mut self) -> &mut Waiting {
        self.waiting.get_or_insert_default()
    }

    pub(super) fn may_read(&self, line: &Line, cx: &Context) -> bool {
        !cx.backlog.has(&self.owned.key.tenant) && self.has_room(line)
    }

    /// Whether it may take one of the commands that wait in this turn, of which a part is kept.
    fn may_take(&self, kept: u32, line: &Line, cx: &Context) -> bool {
        cx.has_left_but(kept)
            && !cx.backlog.has(&self.owned.key.tenant)
            && !self.is_paused()
            && self.may_ask(line)
    }

    /// Whether commands wait that it may take, as far as it is concerned itself.
    pub(super) fn may_go_on(&self, line: &Line) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| !waiting.untaken.is_empty())
            && !self.is_paused()
            && self.may_ask(line)
    }

    /// Whether it could take a frame, as far as it is concerned itself.
    pub(super) fn has_room(&self, line: &Line) -> bool {
        !self.is_paused()
            && self.waiting.as_ref().is_none_or(|waiting| waiting.untaken.is_empty())
            && self.may_ask(line)
    }

    fn may_ask(&self, line: &Line) -> bool {
        !line.is_behind()
            && self.publishing + u16::from(self.reads) < MOST_PENDING
            && self.reads < MOST_READS
    }

    /// Performs what has been decided, then goes on with whatever waited and need not any more.
    pub(super) fn go_on(&mut self, line: &mut Line, cx: &mut Context) -> Verdict {
        self.go_on_but(0, line, cx)
    }

    /// The same if a part of the turn is kept for others: commands for which it is too late wait in the
    /// lap.
    fn go_on_but(&mut self, kept: u32, line: &mut Line, cx: &mut Context) -> Verdict {
        self.perform(line, cx)?;
        if line.is_behind() {
            line.alarms.stall(cx.now, &cx.shared.config);
        } else {
            line.alarms.clear(Alarm::Stalled);
            self.catch_up(line, cx)?;
        }
        while self.waiting.is_some() && self.may_take(kept, line, cx) {
            let Some(decoded) = self.waiting().untaken.pop_front() else { break };
            self.take(decoded, line, cx)?;
            self.perform(line, cx)?;
        }
        self.forget_waiting();
        line.queue_events(cx)
    }

    /// Sends what was held, then joins again where places were lost, and for the first time where that
    /// was put off.
    fn catch_up(&mut self, line: &mut Line, cx: &mut Context) -> Verdict {
        let Some(waiting) = &mut self.waiting else { return Ok(()) };
        if waiting.is_expired {
            return Ok(());
        }
        waiting.slow = None;
        let held = waiting.held.release(line.is_blocked);
        let (joins, lagged) =
            (std::mem::take(&mut waiting.joins), std::mem::take(&mut waiting.lagged));
        for (join, kept) in held {
            self.hand_over(join, kept, cx);
        }
        for join in joins {
            cx.ask(Ask::Join(join));
        }
        for join in lagged {
            self.session.lagged(join, &mut cx.outputs);
        }
        self.perform(line, cx)
    }

    fn forget_waiting(&mut self) {
        let is_empty = self.waiting.as_ref().is_some_and(|waiting| {
            let Waiting { untaken, joins, lagged, entering, held, slow, is_expired } = &**waiting;
            let is_idle = joins.is_empty() && lagged.is_empty() && held.is_empty();
            let is_in_time = slow.is_none() && !is_expired;
            is_idle && untaken.is_empty() && entering.is_empty() && is_in_time
        });
        if is_empty {
            self.waiting = None;
        }
    }

    /// Puts a join off until the client has read what is on its way to it.
    pub(super) fn join_later(&mut self, join: Join) {
        self.waiting().joins.push(join);
    }

    pub(super) fn wake(&mut self, alarm: Alarm, line: &mut Line, cx: &mut Context) -> Verdict {
        match alarm {
            Alarm::Ping => {
                self.forget_toll(cx);
                if !self.may_read(line, cx) {
                    // It may have answered, and sent the rest of a message: we do not listen.
                    line.heard_at = cx.now;
                    line.watch_message(true, cx);
                }
                return ping(line, cx);
            }
            Alarm::Save | Alarm::Renew => self.save(line, cx),
            Alarm::Expiring => self.announce_expiry(cx),
            Alarm::Expired => self.expire(line, cx)?,
            Alarm::GrantOver => self.judge_grants(line, cx),
            Alarm::Stalled if line.is_behind() => self.stalled(line, cx)?,
            // Nobody could take the session up now: the client is better off here for another while.
            Alarm::WindowPassed if !self.is_fenced && cx.shared.progress.is_held() => {
                line.alarms.set(Alarm::WindowPassed, cx.now.after(LONGER_WINDOW));
            }
            Alarm::WindowPassed => self.window_passed(cx)?,
            Alarm::Overdue => self.message_overdue(line, cx)?,
            Alarm::Stalled => {}
        }
        self.go_on(line, cx)
    }

    /// Takes a client that goes on being behind for slow, and one that was so for too slow.
    fn stalled(&mut self, line: &mut Line, cx: &mut Context) -> Verdict {
        let config = &cx.shared.config;
        let rest = config.write_timeout.saturating_sub(config.slow_after);
        let is_scarce = cx.shared.memory.is_scarce();
        let waiting = self.waiting();
        if waiting.slow.is_some() || rest.is_zero() || is_scarce {
            return Err(Ending::Disconnected(Disconnect::Slow));
        }
        waiting.slow = Some(SlowConsumer::new());
        metrics::skipped(waiting.held.pause());
        line.alarms.set(Alarm::Stalled, cx.now.after(rest));
        Ok(())
    }

    /// Keeps nothing for who reads slowly: there is no memory for it.
    pub(super) fn relieve(&mut self) -> Verdict {
        let Some(waiting) = &mut self.waiting else { return Ok(()) };
        if waiting.slow.is_some() {
            return Err(Ending::Disconnected(Disconnect::Slow));
        }
        metrics::skipped(waiting.held.pause());
        Ok(())
    }

    pub(super) fn finish(
        &mut self,
        outcome: Outcome,
        line: &mut Line,
        cx: &mut Context,
    ) -> Verdict {
        match outcome {
            Outcome::Read { request, page } => {
                self.reads -= 1;
                cx.outputs.events.push(outcome::read(request, page));
            }
            Outcome::Members { request, channel, page } => {
                self.reads -= 1;
                cx.outputs.events.push(outcome::members(request, channel, page));
            }
            Outcome::Verified { request, verdict } => {
                self.refreshing = None;
                self.refreshed(request, *verdict, line, cx);
                self.perform(line, cx)?;
            }
            Outcome::Examined(examined) => {
                self.refreshing = None;
                let (wish, verdict) = *examined;
                self.granted(wish, verdict, line, cx);
                self.perform(line, cx)?;
            }
            Outcome::Saved(saved) => self.saved(saved, line, cx)?,
            Outcome::Claimed(_) | Outcome::Released => {}
        }
        self.go_on_but(FOR_THE_LAP, line, cx)
    }

    fn saved(
        &mut self,
        saved: Result<Saved, StoreError>,
        line: &mut Line,
        cx: &mut Context,
    ) -> Verdict {
        self.is_saving = false;
        match saved {
            Ok(Saved::Done) => {
                self.session.saved(&mut cx.outputs);
                if self.is_urgent(line) {
                    self.save_if_due(line, cx);
                }
            }
            Ok(Saved::Fenced) => self.let_go(line)?,
            Err(error) => {
                tracing::debug!(%error, "cannot save a session; trying again");
                line.alarms.save_later(cx.now);
            }
        }
        Ok(())
    }

    pub(super) fn answer(
        &mut self,
        answer: Delivery,
        line: &mut Line,
        cx: &mut Context,
    ) -> Verdict {
        match answer {
            Delivery::Published { request, took, outcome, .. } => {
                self.publishing -= 1;
                cx.counts.published(took, &outcome, &cx.shared.metrics);
                line.count_limit(outcome.as_ref().err());
                cx.outputs.events.push(outcome::published(request, outcome));
            }
            Delivery::Told { event, .. } => {
                self.publishing -= 1;
                cx.outputs.events.push(*event);
            }
            Delivery::Joined { channel, join, tenure, outcome, .. } => {
                self.joined((&channel, tenure, join), outcome, line, cx);
            }
            Delivery::Publication(_) | Delivery::Gap { .. } | Delivery::Lagged { .. } => {}
        }
        self.go_on_but(FOR_THE_LAP, line, cx)
    }

    fn joined(
        &mut self,
        (channel, tenure, join): (&TenantChannel, Tenure, JoinId),
        outcome: Result<Joined, Failure>,
        line: &Line,
        cx: &mut Context,
    ) {
        line.count_limit(outcome.as_ref().err());
        let is_live = outcome.as_ref().is_ok_and(|joined| joined.live);
        let outcome = if self.is_expired() { Err(expiry::failure()) } else { outcome };
        let is_taken = self.session.joined(join, outcome, &mut cx.outputs);
        match (is_live, is_taken) {
            (true, true) => {
                cx.hub.add(channel, tenure, Subscriber { connection: line.id, join });
            }
            (true, false) => cx.release(channel.clone(), tenure),
            (false, _) => {}
        }
    }
}

fn ping(line: &mut Line, cx: &mut Context) -> Verdict {
    if cx.now.since(line.heard_at) >= 2 * cx.shared.config.ping_interval {
        return Err(Ending::Disconnected(Disconnect::PingTimeout));
    }
    line.ping(cx);
    Ok(())
}
