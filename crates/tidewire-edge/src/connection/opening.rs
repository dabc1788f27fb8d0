//! A connection before it has a session.

use std::sync::Arc;

use tidewire_model::{
    Command, Connected, Disconnect, ErrorCode, Event, Failure, Request, RequestId,
};
use tidewire_protocol::{Decoded, Frame};
use tokio::time::Instant;

use super::alarms::Alarm;
use super::serving::Serving;
use super::{Connection, Ending, Line, State, Verdict};
use crate::handshake::{self, Claimed, Handshake, Rejected, reject};
use crate::metrics;
use crate::outcome::Outcome;
use crate::worker::Context;

pub(super) struct Opening {
    pub(super) handshake: Handshake,
    stage: Stage,
    /// What to tell the client before it is turned away.
    pub(super) rejected: Option<Rejected>,
}

enum Stage {
    /// Waits for the first frame.
    Listening,
    /// Waits for the store. What came with `connect` in its frame is kept.
    Claiming { request: RequestId, rest: Vec<Decoded>, since: Instant },
}

impl Opening {
    pub(super) fn new(handshake: Handshake) -> Self {
        Self { handshake, stage: Stage::Listening, rejected: None }
    }

    pub(super) fn is_listening(&self) -> bool {
        matches!(self.stage, Stage::Listening)
    }

    pub(super) fn receive(
        &mut self,
        line: &mut Line,
        frames: &mut Vec<Frame>,
        cx: &mut Context,
    ) -> Verdict {
        let Some(frame) = frames.pop() else { return Ok(()) };
        let judged = match line.protocol.decode(frame) {
            Ok(decoded) => first_command(decoded),
            Err(error) => {
                let failure = Failure::new(ErrorCode::BadRequest, error.to_string());
                let events = vec![Event::Failed { request: None, failure }];
                Err(Rejected { disconnect: error.disconnect(), events })
            }
        };
        let (request, connect, rest) = match judged {
            Ok(judged) => judged,
            Err(rejected) => return self.reject(rejected),
        };
        // The client's time is over; the store has its own.
        line.alarms.clear(Alarm::Overdue);
        self.stage = Stage::Claiming { request, rest, since: cx.started };
        let claim = handshake::claim(
            Arc::clone(&cx.shared),
            self.handshake.tenant.clone(),
            request,
            connect,
        );
        cx.start(line.id, async move { Outcome::Claimed(Box::new(claim.await)) });
        Ok(())
    }

    fn reject(&mut self, rejected: Rejected) -> Verdict {
        let disconnect = rejected.disconnect;
        self.rejected = Some(rejected);
        Err(Ending::Disconnected(disconnect))
    }

    pub(super) fn wake(&mut self) -> Verdict {
        self.reject(Disconnect::ConnectTimeout.into())
    }
}

/// Takes `connect` off the commands of a first frame.
fn first_command(
    decoded: Vec<Decoded>,
) -> Result<(RequestId, tidewire_model::Connect, Vec<Decoded>), Rejected> {
    let mut rest = decoded.into_iter();
    match rest.next() {
        Some(Decoded::Request(Request { id, command: Command::Connect(connect) })) => {
            Ok((id, connect, rest.collect()))
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
    /// Begins to serve a client whose session is claimed, or turns it away.
    pub(super) fn admit(&mut self, claimed: Result<Claimed, Rejected>, cx: &mut Context) {
        let State::Opening(opening) = &mut self.state else { return };
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(rejected) => {
                let verdict = opening.reject(rejected);
                self.obey(verdict, cx);
                return self.settle(cx);
            }
        };
        let stage = std::mem::replace(&mut opening.stage, Stage::Listening);
        let Stage::Claiming { request, rest, since } = stage else { return };
        if claimed.is_resumed {
            cx.shared.arrivals.resumed(cx.started - since);
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
        line.tenant = cx.shared.metrics.tenant(&claimed.owned.key.tenant);
        metrics::began(line.tenant.as_deref());
        line.since = cx.now;
        cx.enlist(line.id, &claimed.owned);
        let Claimed { owned, session, is_resumed, mut outputs } = claimed;
        let connected = connected((request, is_resumed), &owned, &session, cx);
        line.alarms.start(cx.now, &cx.shared.config);
        line.alarms.expire_at(cx.now, session.identity().expires_at);
        cx.outputs.events.push(Event::Connected(connected));
        cx.outputs.events.append(&mut outputs.events);
        cx.outputs.effects.append(&mut outputs.effects);
        if is_resumed || !rest.is_empty() {
            line.hold(cx);
        }
        let mut serving = Serving::new(session, owned, is_resumed, rest);
        let verdict = serving.go_on(line, cx).and_then(|()| serving.tell_latecomer(line, cx));
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
    Connected {
        request,
        session: owned.key.session,
        resume_token: shared.resume_token(owned),
        resume_window: shared.node.resume_window(),
        resumed,
        node: shared.node.id().clone(),
        ping_interval: shared.config.ping_interval,
        expires_at: session.identity().expires_at,
    }
}
