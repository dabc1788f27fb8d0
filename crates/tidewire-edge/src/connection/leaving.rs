//! How a connection ends: it leaves every channel, starts its session's resume window, answers what
//! it still can, and says goodbye.

use tidewire_model::{Delivery, Disconnect, Event, SessionKind};
use tidewire_node::OwnedSession;
use tidewire_session::Snapshot;
use tidewire_store::Saved;
use tidewire_transport::{Flushed, Received, Then};

use super::alarms::{Alarm, GOODBYE, LAST_ANSWERS};
use super::opening::Opening;
use super::serving::Serving;
use super::{Connection, Ending, Line, State};
use crate::metrics::{self, End};
use crate::outcome::{self, Outcome};
use crate::registry::Cause;
use crate::worker::Context;

pub(super) struct Leaving {
    /// What the client is told; nothing if it has left by itself.
    disconnect: Option<Disconnect>,
    stage: Stage,
    /// Publications that have not been answered.
    publishing: u16,
    /// What to release the session with once the write under way has landed, which would otherwise
    /// overtake it.
    release: Option<Box<(OwnedSession, Snapshot)>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// The store is told, before the goodbye, so that a client that returns at once finds its
    /// session.
    Releasing,
    /// Publications that were accepted are answered, as far as the log is quick.
    Answering,
    /// The goodbye is on its way, and the peer's is awaited.
    Parting,
    /// We have said all; bytes we can make nothing of are read until the peer has left: closing
    /// with bytes unread would reset the connection, and the reset could overtake our goodbye.
    Draining,
    Gone,
}

impl Connection {
    pub(super) fn begin_to_leave(&mut self, ending: Ending, cx: &mut Context) {
        let leaving = match std::mem::replace(&mut self.state, State::Over) {
            State::Opening(opening) => turn_away(*opening, ending, &mut self.line, cx),
            State::Serving(serving) => leave(serving, ending, &mut self.line, cx),
            State::Leaving(mut leaving) => {
                leaving.broke(ending);
                *leaving
            }
            State::Over => return,
        };
        // A peer that has closed, or vanished, says nothing more.
        self.line.is_readable = matches!(ending, Ending::Disconnected(_));
        self.state = State::Leaving(Box::new(leaving));
    }
}

/// Tells a client why it may not be here.
fn turn_away(mut opening: Opening, ending: Ending, line: &mut Line, cx: &mut Context) -> Leaving {
    opening.let_go(cx);
    let disconnect = match ending {
        Ending::Disconnected(disconnect) => Some(disconnect),
        Ending::Left => None,
    };
    if let Some(disconnect) = disconnect {
        let rejected = opening.rejected.take().unwrap_or_else(|| disconnect.into());
        metrics::rejected(rejected.reason());
        cx.outputs.events = rejected.events;
    }
    let stage = Stage::Releasing;
    let mut leaving = Leaving { disconnect, stage, publishing: 0, release: None };
    leaving.say_goodbye(line, cx);
    leaving
}

/// Leaves every channel, and starts the session's resume window.
fn leave(serving: Serving, ending: Ending, line: &mut Line, cx: &mut Context) -> Leaving {
    let disconnect = match ending {
        Ending::Disconnected(disconnect) => Some(disconnect),
        Ending::Left => None,
    };
    // What had been decided before it ended, it still hears.
    cx.outputs.effects.clear();
    let _ = line.queue_events(cx);
    cx.delist(line.id, &serving.owned);
    if serving.asked == Some(Cause::Share) {
        cx.shared.moves.left(serving.owned.key.session, cx.started);
    }
    let joins: Vec<_> = serving.session.joins().map(|(c, join)| (c.clone(), join)).collect();
    for (channel, join) in joins {
        cx.leave(&serving.in_tenant(channel), line.id, join);
    }
    // Whoever was not told has not entered again either.
    if serving.is_told {
        serving.be_away(cx);
    }
    let end = match disconnect {
        Some(disconnect) => End::ByServer(disconnect),
        None if serving.is_fenced && serving.asked == Some(Cause::Drain) => End::Moved,
        None => End::ByClient,
    };
    line.alarms.end();
    metrics::ended(cx.now.since(line.since), line.tenant_metrics(), end);
    tracing::debug!(
        tenant = %serving.owned.key.tenant,
        session = %serving.owned.key.session,
        ?ending,
        "connection ended"
    );
    let publishing = serving.publishing;
    let stage = Stage::Releasing;
    let mut leaving = Leaving { disconnect, stage, publishing, release: None };
    // A client that was not told comes back with the same claim; what is stored is what it was.
    let is_kept = serving.session.kind() != SessionKind::None;
    if serving.is_fenced || !serving.is_told || !is_kept {
        leaving.released(line, cx);
        return leaving;
    }
    let release = (serving.owned, serving.session.snapshot());
    if serving.is_saving {
        leaving.release = Some(Box::new(release));
    } else {
        start_release(release, line, cx);
    }
    leaving
}

fn start_release((owned, snapshot): (OwnedSession, Snapshot), line: &Line, cx: &mut Context) {
    let node = cx.shared.node.clone();
    cx.start(line.id, async move {
        if let Err(error) = node.release_session(&owned, &snapshot).await {
            tracing::debug!(%error, "cannot release a session; it runs out by itself");
        }
        Outcome::Released
    });
}

impl Leaving {
    pub(super) fn is_parting(&self) -> bool {
        matches!(self.stage, Stage::Parting)
    }

    pub(super) fn finish(&mut self, outcome: &Outcome, line: &mut Line, cx: &mut Context) {
        match outcome {
            Outcome::Released if self.stage == Stage::Releasing => self.released(line, cx),
            Outcome::Saved(saved) => match self.release.take() {
                // It has another owner by now.
                Some(_) if matches!(saved, Ok(Saved::Fenced)) => self.released(line, cx),
                Some(release) => start_release(*release, line, cx),
                None => {}
            },
            _ => {}
        }
    }

    fn released(&mut self, line: &mut Line, cx: &mut Context) {
        if self.disconnect.is_some() && self.publishing > 0 {
            self.stage = Stage::Answering;
            // Whoever gets no answer publishes again with the same id.
            line.alarms.set(Alarm::Overdue, cx.now.after(LAST_ANSWERS));
        } else {
            self.say_goodbye(line, cx);
        }
    }

    pub(super) fn answer(&mut self, answer: Delivery, line: &mut Line, cx: &mut Context) {
        cx.give_back(&answer);
        let event = match answer {
            Delivery::Published { request, outcome, .. } => {
                line.count_limit(outcome.as_ref().err());
                outcome::published(request, outcome)
            }
            Delivery::Told { event, .. } => *event,
            _ => return,
        };
        self.publishing = self.publishing.saturating_sub(1);
        if matches!(self.stage, Stage::Releasing | Stage::Answering) {
            cx.outputs.events.push(event);
            let _ = line.queue_events(cx);
        }
        if self.stage == Stage::Answering && self.publishing == 0 {
            self.say_goodbye(line, cx);
        }
    }

    pub(super) fn wake(&mut self, line: &mut Line, cx: &mut Context) {
        match self.stage {
            Stage::Releasing => {}
            Stage::Answering => self.say_goodbye(line, cx),
            Stage::Parting | Stage::Draining | Stage::Gone => {
                tracing::debug!("connection ended without a goodbye");
                self.stage = Stage::Gone;
            }
        }
    }

    fn say_goodbye(&mut self, line: &mut Line, cx: &mut Context) {
        self.stage = Stage::Parting;
        if matches!(self.disconnect, Some(Disconnect::Slow | Disconnect::Overloaded)) {
            // It would hear why behind all that it does not read, and we would hold that for as long.
            line.link.forget_unsent();
        }
        cx.outputs.events.extend(self.disconnect.map(Event::Closing));
        // If nothing can be sent, the close below is in vain as well, and the end is the same.
        let _ = line.queue_events(cx);
        cx.outputs.events.clear();
        let disconnect = self.disconnect.unwrap_or(Disconnect::Normal);
        line.link.close(disconnect.into(), disconnect.as_str());
        line.alarms.set(Alarm::Overdue, cx.now.after(GOODBYE));
        line.touch(cx);
        self.listen_no_more(line, cx);
    }

    /// Makes nothing any more of what the peer sends, of which we hold the beginning.
    pub(super) fn listen_no_more(&mut self, line: &mut Line, cx: &mut Context) {
        if line.forget_unfinished(cx) && self.stage == Stage::Parting {
            self.stage = Stage::Draining;
        }
    }

    /// What the peer sends means nothing any more. If it has left, writing goes on as far as it can.
    fn broke(&mut self, ending: Ending) {
        if self.stage == Stage::Parting && matches!(ending, Ending::Disconnected(_)) {
            self.stage = Stage::Draining;
        }
    }

    /// Goes as far as it can; says whether that was the end.
    pub(super) fn is_gone(&mut self, line: &mut Line, cx: &mut Context) -> bool {
        if matches!(self.stage, Stage::Parting | Stage::Draining) && !line.is_touched {
            self.part(line, cx);
        }
        self.stage == Stage::Gone
    }

    fn part(&mut self, line: &mut Line, cx: &mut Context) {
        match line.link.flush(&mut cx.scratch) {
            Ok(Flushed::All) => {}
            Ok(Flushed::Blocked) => return,
            Err(_) => {
                self.stage = Stage::Gone;
                return;
            }
        }
        if self.stage == Stage::Parting && line.link.is_parted() {
            self.stage = Stage::Gone;
        }
        if self.stage == Stage::Draining {
            // If that fails the peer has vanished, which reading shows.
            let _ = line.link.shutdown_write();
            match line.link.drain(&mut cx.scratch) {
                Ok(Received { then: Then::Ended, .. }) | Err(_) => self.stage = Stage::Gone,
                // In the next turn: the peer may send for ever, and its time has to run out.
                Ok(Received { then: Then::More, .. }) => line.hold(cx),
                Ok(Received { then: Then::Drained, .. }) => {}
            }
        }
    }
}
