//! A connection before it has a session.

use std::sync::Arc;

use tidewire_model::{
    Command, Connect, Connected, Disconnect, ErrorCode, Event, Failure, Request, RequestId,
};
use tidewire_protocol::{Decoded, Frame};
use tokio::time::{Duration, Instant};

use super::alarms::Alarm;
use super::serving::Serving;
use super::{Connection, Ending, Line, State, Verdict};
use crate::handshake::{self, Claimed, Handshake, Rejected, reject};
use crate::outcome::Outcome;
use crate::worker::{A_CLAIM, Admitted, Context, FirstFrames};

/// How long somebody waits for its turn until it is told to come back: before a client gives up by
/// itself, and leaves behind a claim that takes its session from it when it is made.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Opening {
    pub(super) handshake: Handshake,
    stage: Stage,
    /// Bytes it holds of what its client has said, its first frame included.
    held: usize,
    /// It is not read until there is room for what else it says.
    pub(super) is_kept_waiting: bool,
    /// Some of its time has passed with that: it is not to blame for what has not come of it.
    has_waited: bool,
    /// It is among those who are told when there is room.
    is_queued: bool,
    /// What to tell the client before it is turned away.
    pub(super) rejected: Option<Rejected>,
}

enum Stage {
    /// Waits for the first frame.
    Listening,
    /// Waits for its turn to claim its session.
    Waiting(Box<Introduction>),
    /// Waits for the store. What came with `connect` in its frame is kept.
    Claiming { request: RequestId, rest: Vec<Decoded>, since: Instant },
}

/// What a first frame says.
struct Introduction {
    request: RequestId,
    connect: Connect,
    rest: Vec<Decoded>,
    /// When it was said.
    since: Instant,
}

impl Opening {
    pub(super) fn new(handshake: Handshake) -> Self {
        Self {
            handshake,
            stage: Stage::Listening,
            held: 0,
            is_kept_waiting: false,
            has_waited: false,
            is_queued: false,
            rejected: None,
        }
    }

    pub(super) fn is_listening(&self) -> bool {
        matches!(self.stage, Stage::Listening)
    }

    /// Whether it would be read if there were room for its first frame.
    pub(super) fn waits_to_read(&self) -> bool {
        self.is_listening() && !self.is_kept_waiting
    }

    /// Bytes that may be read of it at once; nothing once its first frame is there.
    pub(super) fn room(&self, cx: &Context) -> usize {
        if self.is_listening() { cx.first_frames.room(self.held) } else { 0 }
    }

    /// Has it read again when there is room, if there is none.
    pub(super) fn wait_for_room(&mut self, line: &Line, cx: &mut Context) {
        self.is_kept_waiting = line.is_readable && self.is_listening() && self.room(cx) == 0;
        self.has_waited |= self.is_kept_waiting;
        if self.is_kept_waiting && !self.is_queued {
            self.is_queued = true;
            cx.first_frames.wait(line.id);
        }
    }

    /// Counts what it holds, with the first frame if that is there.
    fn count_held(&mut self, held: usize, cx: &mut Context) {
        cx.first_frames.change(self.held, held);
        self.held = held;
    }

    /// Holds nothing any more that is counted: it is known who this is, or it goes.
    pub(super) fn let_go(&mut self, cx: &mut Context) {
        self.count_held(0, cx);
    }

    pub(super) fn receive(
        &mut self,
        line: &mut Line,
        frames: &mut Vec<Frame>,
        cx: &mut Context,
    ) -> Verdict {
        let said = frames.last().map_or(0, |frame| frame.bytes().len());
        let had_room = cx.first_frames.has_room();
        self.count_held(line.link.held() + said, cx);
        let Some(frame) = frames.pop() else { return Ok(()) };
        if said > FirstFrames::EVERYBODYS && !had_room {
            // Little was read of it: it was compressed.
            return self.reject(Disconnect::Overloaded.into());
        }
        let judged = match line.protocol.decode(frame) {
            Ok(decoded) => first_command(decoded, cx.started),
            Err(error) => {
                let failure = Failure::new(ErrorCode::BadRequest, error.to_string());
                let events = vec![Event::Failed { request: None, failure }];
                Err(Rejected { disconnect: error.disconnect(), events })
            }
        };
        let introduction = match judged {
            Ok(introduction) => introduction,
            Err(rejected) => return self.reject(rejected),
        };
        let is_back = introduction.connect.resume.is_some();
        if let Some(failure) = cx.shared.memory.keeps_out(is_back) {
            return self.reject(Rejected::for_limit(introduction.request, failure));
        }
        match cx.admission.enter(line.id, is_back) {
            Admitted::Now => self.claim(introduction, line, cx),
            Admitted::Later => {
                self.stage = Stage::Waiting(Box::new(introduction));
                line.alarms.set(Alarm::Overdue, cx.now.after(TURN_TIMEOUT));
            }
            Admitted::Never => return self.reject(handshake::overloaded(introduction.request)),
        }
        Ok(())
    }

    fn claim(&mut self, introduction: Introduction, line: &mut Line, cx: &mut Context) {
        let Introduction { request, connect, rest, since } = introduction;
        // The client's time is over; the store has its own.
        line.alarms.clear(Alarm::Overdue);
        self.stage = Stage::Claiming { request, rest, since };
        cx.spend(A_CLAIM);
        let entrance = self.handshake.entrance.clone();
        let claim = handshake::claim(Arc::clone(&cx.shared), entrance, request, connect);
        cx.start(line.id, async move { Outcome::Claimed(Box::new(claim.await)) });
    }

    /// Claims the session if it has waited for that; says whether it has.
    fn claim_at_last(&mut self, line: &mut Line, cx: &mut Context) -> bool {
        match std::mem::replace(&mut self.stage, Stage::Listening) {
            Stage::Waiting(introduction) => {
                self.claim(*introduction, line, cx);
                true
            }
            stage => {
                self.stage = stage;
                false
            }
        }
    }

    fn reject(&mut self, rejected: Rejected) -> Verdict {
        let disconnect = rejected.disconnect;
        self.rejected = Some(rejected);
        Err(Ending::Disconnected(disconnect))
    }

    pub(super) fn wake(&mut self) -> Verdict {
        let rejected = match &self.stage {
            Stage::Listening if self.has_waited => Disconnect::Overloaded.into(),
            Stage::Listening => Disconnect::ConnectTimeout.into(),
            Stage::Waiting(introduction) => handshake::overloaded(introduction.request),
            Stage::Claiming { request, .. } => handshake::overloaded(*request),
        };
        self.reject(rejected)
    }
}

/// Takes `connect` off the commands of a first frame.
fn first_command(decoded: Vec<Decoded>, since: Instant) -> Result<Introduction, Rejected> {
    let mut rest = decoded.into_iter();
    match rest.next() {
        Some(Decoded::Request(Request { id, command: Command::Connect(connect) })) => {
            Ok(Introduction { request: id, connect, rest: rest.collect(), since })
        }
        Some(Decoded::Refused { id, failure }) => {
            let events = vec![Event::Failed { request: id, failure }];
            Err(Rejected { disconnect: Disconnect::BadFrame, events })
        }
        Some(Decoded::Request(Request { id, .. })) => {
            let message = "the first command of a connection must be `connect`";
            Err(reject(id, ErrorCode::BadRequest, message, Disconnect::NotConnected))
        }
        None => Err(Disconnect::NotConnected.into()),
    }
}

impl Connection {
    /// Reads on, as there was room for a first frame; others may have had that since.
    pub(crate) fn read_first(&mut self, cx: &mut Context) {
        if let State::Opening(opening) = &mut self.state {
            opening.is_queued = false;
        }
        self.read(cx);
    }

    /// It may claim its session now; says whether it still wants to.
    pub(crate) fn claim(&mut self, cx: &mut Context) -> bool {
        let State::Opening(opening) = &mut self.state else { return false };
        let has_claimed = opening.claim_at_last(&mut self.line, cx);
        self.settle(cx);
        has_claimed
    }

    /// Begins to serve a client whose session is claimed, or turns it away.
    pub(super) fn admit(&mut self, claimed: Result<Claimed, Rejected>, cx: &mut Context) {
        let State::Opening(opening) = &mut self.state else { return };
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(rejected) => {
                if rejected.disconnect == Disconnect::BadToken {
                    cx.shared.door.distrust(opening.handshake.peer, cx.elapsed);
                }
                let verdict = opening.reject(rejected);
                self.obey(verdict, cx);
                return self.settle(cx);
            }
        };
        opening.let_go(cx);
        let stage = std::mem::replace(&mut opening.stage, Stage::Listening);
        let Stage::Claiming { request, rest, since } = stage else { return };
        // Whoever was not connected yet when it was revoked was not judged then.
        let has_ended = claimed.ended != cx.shared.registry.ended();
        if has_ended || cx.shared.is_void(claimed.session.identity()) {
            let why = if has_ended { handshake::unavailable } else { handshake::revoked };
            let verdict = opening.reject(why(request));
            self.obey(verdict, cx);
            return self.settle(cx);
        }
        if claimed.is_resumed {
            cx.shared.arrivals.resumed(cx.started - since);
            cx.shared.moves.resumed(claimed.owned.key.session);
        }
        tracing::debug!(
            tenant = %claimed.owned.key.tenant,
            session = %claimed.owned.key.session,
            protocol = opening.handshake.protocol.name,
            peer = %opening.handshake.peer,
            resumed = claimed.is_resumed,
            "connected"
        );
        let line = &mut self.line;
        let Claimed { owned, session, is_resumed, counted, mut outputs, .. } = claimed;
        line.join(&owned.key.tenant, counted, cx);
        cx.enlist(line.id, &owned);
        let connected = connected((request, is_resumed), &owned, &session, cx);
        line.alarms.start(cx.now, &cx.shared.config);
        line.alarms.expire_at(cx.now, session.identity().expires_at, &cx.shared.config);
        cx.outputs.events.append(&mut outputs.events);
        cx.outputs.effects.append(&mut outputs.effects);
        if is_resumed || !rest.is_empty() {
            line.hold(cx);
        }
        let mut serving = Serving::new(session, owned, is_resumed, rest);
        line.watch_next_message(cx);
        // What was granted may have run out, or been revoked, while its bearer was away.
        serving.judge_grants(line, cx);
        let verdict = line
            .introduce(connected, cx)
            .and_then(|()| serving.go_on(line, cx))
            .and_then(|()| serving.tell_latecomer(line, cx))
            .and_then(|()| serving.send_home(is_resumed, line, cx));
        self.state = State::Serving(serving);
        self.obey(verdict, cx);
        self.settle(cx);
    }
}

fn connected(
    (request, resumed): (RequestId, bool),
    owned: &tidewire_node::OwnedSession,
    session: &tidewire_session::Session,
    cx: &Context,
) -> Connected {
    let shared = &cx.shared;
    let resume_token = shared.resume_token(owned, session.kind());
    let is_kept = resume_token.is_some();
    Connected {
        request,
        session: owned.key.session,
        resume_token,
        resume_window: if is_kept { shared.node.resume_window() } else { Duration::ZERO },
        resumed,
        node: shared.node.id().clone(),
        ping_interval: shared.config.ping_interval,
        expires_at: session.identity().expires_at,
    }
}
