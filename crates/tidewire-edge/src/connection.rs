//! One client attached to this node, as a value that its worker owns.
//!
//! Told what has happened to it (bytes, deliveries, the clock, an outcome), it does at once what
//! follows: asks its session, performs the effects, queues the events. It never waits: what takes
//! time is a future of the worker's, and comes back as an [`Outcome`].

mod alarms;
mod control;
mod effects;
mod expiry;
mod fenced;
mod grants;
mod handing;
mod held;
mod leaving;
mod line;
mod opening;
mod presence;
mod serving;
mod slowness;
mod taking;
mod toll;
mod watching;

use std::collections::HashSet;
use std::sync::Arc;

use tidewire_model::{
    ConnectionId, Delivery, Disconnect, ErrorCode, Event, Failure, JoinId, Tenant,
};
use tidewire_transport::{Link, Received, Then, TransportError};
use tokio::sync::OwnedSemaphorePermit;

use self::leaving::Leaving;
use self::line::Line;
use self::opening::Opening;
use self::serving::Serving;
use crate::drain::Weight;
use crate::handshake::{self, Handshake};
use crate::metrics;
use crate::outcome::Outcome;
use crate::registry::Control;
use crate::worker::{A_READ, Context, Form, Run};

/// Bytes a frame holds before another is begun.
pub(crate) const FRAME_BYTES: usize = 32 * 1_024;
/// Bytes waiting for the socket above which a client is behind, if it may not have twice as many: no
/// command is read and no page of missed publications is fetched, for who does not read is not asked
/// what else it wants.
const MOST_UNSENT: usize = 128 * 1_024;
/// Pieces of memory waiting for the socket above which nothing is added: small ones cost more than
/// their bytes. With half as many a client is behind.
const MOST_PIECES: usize = 1_024;
/// Frames decoded at once: tiny ones cost us more memory than they cost the peer.
const MOST_FRAMES: usize = 32;
/// Reads of a socket in one turn, so that a busy client does not keep others waiting.
const READS_A_TURN: usize = 2;

pub(crate) struct Connection {
    line: Line,
    state: State,
}

/// There are as many as clients: what most of them have nothing of is boxed.
const _: () = assert!(size_of::<Connection>() <= 448);

enum State {
    /// Its first frame is awaited, or judged.
    Opening(Box<Opening>),
    /// It has a session.
    Serving(Serving),
    /// It is saying goodbye.
    Leaving(Box<Leaving>),
    Over,
}

/// Whether the connection goes on.
type Verdict = Result<(), Ending>;

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// The server ends it, and says why.
    Disconnected(Disconnect),
    /// The client has ended it, or the network has.
    Left,
}

impl From<TransportError> for Ending {
    fn from(error: TransportError) -> Self {
        tracing::debug!(%error, "connection broke");
        error.disconnect().map_or(Self::Left, Self::Disconnected)
    }
}

impl Connection {
    pub(crate) fn new(
        id: ConnectionId,
        (handshake, form): (Handshake, Form),
        (socket, room): (Link, OwnedSemaphorePermit),
        cx: &Context,
    ) -> Self {
        let protocol = (handshake.protocol.start)();
        let line = Line::new(id, (protocol, form), (socket, room), cx);
        Self { line, state: State::Opening(Box::new(Opening::new(handshake))) }
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.line.id
    }

    /// Whether there is nothing left to be done, or to be kept.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether it has a session of this tenant's.
    pub(crate) fn is_of(&self, tenant: &Tenant) -> bool {
        self.tenant() == Some(tenant)
    }

    /// What its moving brings about elsewhere; `None` unless it has a session.
    pub(crate) fn weight(&self) -> Option<Weight> {
        let State::Serving(serving) = &self.state else { return None };
        Some(Weight::of(serving.session.joins().count(), self.line.link.unsent()))
    }

    /// The socket has something to read, takes more, or is over.
    pub(crate) fn on_socket(&mut self, event: &mio::event::Event, cx: &mut Context) {
        if event.is_read_closed() {
            self.line.link.note_read_closed();
        }
        self.line.is_readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        if event.is_writable() && self.line.link.wants_to_write() {
            self.flush(cx);
        }
        if self.line.is_readable {
            self.read(cx);
        }
        if event.is_read_closed() && self.is_kept_waiting() {
            // It would not be seen that it has gone until there is room, which others then wait for.
            self.obey(Err(Ending::Left), cx);
            self.settle(cx);
        }
    }

    fn is_kept_waiting(&self) -> bool {
        matches!(&self.state, State::Opening(opening) if opening.is_kept_waiting)
    }

    /// Reads as long as there is something and room for what it asks for, a bounded time.
    pub(crate) fn read(&mut self, cx: &mut Context) {
        self.line.is_again = false;
        self.take_untaken(cx);
        for _ in 0..READS_A_TURN {
            let most = self.may_read(cx);
            if most == 0 || !self.line.is_readable {
                break;
            }
            let verdict = self.read_once(most, cx);
            self.obey(verdict, cx);
        }
        if let State::Opening(opening) = &mut self.state {
            opening.wait_for_room(&self.line, cx);
        }
        self.settle(cx);
    }

    fn read_once(&mut self, most: usize, cx: &mut Context) -> Verdict {
        cx.spend(A_READ);
        let mut frames = std::mem::take(&mut cx.frames);
        let bytes = match &self.state {
            State::Opening(opening) => opening.room(cx),
            State::Serving(_) | State::Leaving(_) | State::Over => usize::MAX,
        };
        let link = &mut self.line.link;
        let received = link.receive_some(&mut cx.scratch, (most, bytes), &mut frames);
        let has_ended = !frames.is_empty();
        let is_heard = received.as_ref().is_ok_and(|received| received.bytes > 0);
        if is_heard {
            self.line.heard_at = cx.now;
        }
        let verdict = match &mut self.state {
            State::Opening(opening) => opening.receive(&mut self.line, &mut frames, cx),
            State::Serving(serving) => {
                if is_heard && !serving.is_told {
                    serving.told(&mut self.line, cx);
                }
                serving.receive(&mut self.line, &mut frames, cx)
            }
            State::Leaving(_) | State::Over => Ok(()),
        };
        frames.clear();
        cx.frames = frames;
        if self.line.link.wants_to_write() {
            self.line.touch(cx);
        }
        self.line.is_readable = matches!(received, Ok(Received { then: Then::More, .. }));
        verdict?;
        let Received { controls, then, .. } = received?;
        self.watch(controls, has_ended, cx)?;
        match then {
            Then::Ended => Err(Ending::Left),
            Then::Drained | Then::More => Ok(()),
        }
    }

    /// How many frames may be read now. What comes meanwhile waits, at last in the kernel's buffers
    /// and then in the client's.
    fn may_read(&self, cx: &Context) -> usize {
        match &self.state {
            _ if !cx.has_left() => 0,
            State::Opening(opening) => opening.room(cx).min(1),
            State::Serving(serving) if serving.may_read(&self.line, cx) => MOST_FRAMES,
            State::Leaving(leaving) if leaving.is_parting() => MOST_FRAMES,
            State::Serving(_) | State::Leaving(_) | State::Over => 0,
        }
    }

    /// Goes on taking what it asks, after a while in which nothing was.
    pub(crate) fn unpause(&mut self, cx: &mut Context) {
        let State::Serving(serving) = &mut self.state else { return };
        let verdict = serving.unpause(&mut self.line, cx);
        self.obey(verdict, cx);
        self.read(cx);
    }

    /// Writes what waits, and goes on with what waited for that.
    pub(crate) fn flush(&mut self, cx: &mut Context) {
        self.line.is_touched = false;
        let verdict = match (self.line.write(cx), &mut self.state) {
            (Ok(()), State::Serving(serving)) => serving.go_on(&mut self.line, cx),
            (Ok(()), _) => Ok(()),
            // The socket says it once more when it is read, unless nobody will.
            (Err(_), _) => Err(Ending::Left),
        };
        self.obey(verdict, cx);
        self.settle(cx);
    }

    /// Does what the clock says is due.
    pub(crate) fn wake(&mut self, cx: &mut Context) {
        self.line.alarms.looked(cx.now);
        let shared = Arc::clone(&cx.shared);
        while let Some(alarm) = self.line.alarms.take(cx.now, &shared.config) {
            let verdict = match &mut self.state {
                State::Opening(opening) => opening.wake(),
                State::Serving(serving) => serving.wake(alarm, &mut self.line, cx),
                State::Leaving(leaving) => {
                    leaving.wake(&mut self.line, cx);
                    Ok(())
                }
                State::Over => return,
            };
            self.obey(verdict, cx);
        }
        self.settle(cx);
    }

    /// Takes what one of its futures has come to.
    pub(crate) fn finish(&mut self, outcome: Outcome, cx: &mut Context) {
        let verdict = match (&mut self.state, outcome) {
            (State::Opening(_), Outcome::Claimed(claimed)) => return self.admit(*claimed, cx),
            (State::Serving(serving), outcome) => serving.finish(outcome, &mut self.line, cx),
            (State::Leaving(leaving), outcome) => {
                leaving.finish(&outcome, &mut self.line, cx);
                Ok(())
            }
            (State::Opening(_) | State::Over, _) => Ok(()),
        };
        self.obey(verdict, cx);
        self.settle(cx);
    }

    /// Takes an answer of a shard's that is this connection's own.
    pub(crate) fn answer(&mut self, answer: Delivery, cx: &mut Context) {
        let verdict = match &mut self.state {
            State::Serving(serving) => serving.answer(answer, &mut self.line, cx),
            State::Leaving(leaving) => {
                leaving.answer(answer, &mut self.line, cx);
                Ok(())
            }
            State::Opening(_) | State::Over => {
                cx.give_back(&answer);
                Ok(())
            }
        };
        self.obey(verdict, cx);
        self.settle(cx);
    }

    /// Takes what everybody in a channel is told beside its publications.
    pub(crate) fn tell(&mut self, word: Word, cx: &mut Context) {
        let State::Serving(serving) = &mut self.state else { return };
        let verdict = serving.tell(word, &mut self.line, cx);
        self.obey(verdict, cx);
        self.settle(cx);
    }

    /// Takes consecutive publications of a channel it has joined. `at_once` says that nothing else
    /// is about to come, so that waiting for more to write with it would be in vain.
    pub(crate) fn hand(
        &mut self,
        (join, at_once): (JoinId, bool),
        run: &mut Run,
        cx: &mut Context,
    ) {
        let State::Serving(serving) = &mut self.state else { return };
        let verdict = serving.hand((join, at_once), run, &mut self.line, cx);
        if verdict.is_err() || self.line.link.unsent() > 0 {
            self.obey(verdict, cx);
            self.settle(cx);
        }
    }

    pub(crate) fn heed(&mut self, control: Control, cx: &mut Context) {
        let verdict = match &mut self.state {
            State::Serving(serving) => serving.heed(control, &mut self.line, cx),
            State::Opening(_) if matches!(control, Control::Refuse | Control::Close(_)) => {
                Err(Ending::Disconnected(Disconnect::Draining))
            }
            State::Opening(_) | State::Leaving(_) | State::Over => Ok(()),
        };
        self.obey(verdict, cx);
        self.settle(cx);
    }

    /// Disconnects it if it may not be here any more.
    pub(crate) fn rejudge(&mut self, ended: &HashSet<Tenant>, cx: &mut Context) {
        let State::Serving(serving) = &self.state else { return };
        let identity = serving.session.identity();
        if ended.contains(&identity.tenant) || cx.shared.is_void(identity) {
            metrics::revoked();
            let failure = Failure::new(ErrorCode::TokenRevoked, handshake::REVOKED);
            cx.outputs.events.push(Event::Failed { request: None, failure });
            self.obey(Err(Ending::Disconnected(Disconnect::Revoked)), cx);
            return self.settle(cx);
        }
        self.rejudge_grants(cx);
    }

    fn obey(&mut self, verdict: Verdict, cx: &mut Context) {
        if let Err(ending) = verdict {
            self.begin_to_leave(ending, cx);
        }
    }

    /// Does what follows whatever has happened: reads on if there is room now, and sets the wheel.
    fn settle(&mut self, cx: &mut Context) {
        if let State::Leaving(leaving) = &mut self.state
            && leaving.is_gone(&mut self.line, cx)
        {
            self.state = State::Over;
        }
        self.line.show_unsent(self.is_over(), cx);
        if self.is_over() {
            self.line.forget_unfinished(cx);
            cx.over.push(self.line.id);
            return;
        }
        if !self.line.is_again && self.waits_for_a_turn() {
            self.line.is_again = true;
            cx.again.push(self.tenant(), self.line.id);
        }
        if let Some(at) = self.line.alarms.schedule() {
            cx.wheel.set(self.line.id, at);
        }
    }

    /// Whether it would read, or go on with what it has read, if the turn were longer and the shards had
    /// room; its own room has to be there.
    fn waits_for_a_turn(&self) -> bool {
        let is_readable = self.line.is_readable;
        match &self.state {
            State::Opening(opening) => is_readable && opening.waits_to_read(),
            State::Serving(serving) => {
                is_readable && serving.has_room(&self.line) || serving.may_go_on(&self.line)
            }
            State::Leaving(leaving) => is_readable && leaving.is_parting(),
            State::Over => false,
        }
    }

    /// Whose it is, once that is known and as long as it has a session.
    fn tenant(&self) -> Option<&Tenant> {
        let State::Serving(serving) = &self.state else { return None };
        Some(&serving.owned.key.tenant)
    }
}

/// What subscribers are told beside publications.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Word {
    Gap(JoinId, tidewire_model::Gap),
    /// Its place in the channel is void.
    Lagged(JoinId),
}
