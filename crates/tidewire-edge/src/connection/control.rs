//! What a connection is told from outside.

use tidewire_model::{Disconnect, Event, SessionKind};
use tokio::time::Duration;

use super::alarms::{Alarm, share_of};
use super::serving::Serving;
use super::{Connection, Ending, Line, State, Verdict};
use crate::drain::{Phase, Weight};
use crate::metrics;
use crate::rebalance::Ease;
use crate::registry::{Cause, Control, Hint};
use crate::wheel::Tick;
use crate::worker::Context;

/// Clients of tenants that are at home elsewhere go there within this time, not all at once.
const HOME_WITHIN: Duration = Duration::from_secs(2);

impl Serving {
    pub(super) fn heed(&mut self, control: Control, line: &mut Line, cx: &mut Context) -> Verdict {
        match control {
            Control::LetGo(generation) if generation > self.owned.generation => {
                self.let_go(line)?;
                self.go_on(line, cx)
            }
            Control::LetGo(_) | Control::Refuse => Ok(()),
            Control::Move(hint) => {
                let endpoints = match hint.cause {
                    Cause::Share => cx.shared.emptier(&self.owned.key.tenant),
                    Cause::Drain | Cause::Home => cx.shared.endpoints(),
                };
                self.ask_to_move(hint, endpoints, line, cx);
                self.go_on(line, cx)
            }
            Control::Close(disconnect) => Err(Ending::Disconnected(disconnect)),
            Control::Relieve => self.relieve(),
        }
    }

    /// Tells a client whose handshake ended as the others were told what they were told.
    ///
    /// The phase is entered before the workers are asked whom they have: so either this sees the
    /// phase, or the drain sees the connection.
    pub(super) fn tell_latecomer(&mut self, line: &mut Line, cx: &mut Context) -> Verdict {
        let phase = *cx.shared.phase.borrow();
        let control = match phase {
            Phase::Serving | Phase::Announced | Phase::Refusing => return Ok(()),
            Phase::Migrating => {
                let window = cx.shared.config.drain.window;
                Control::Move(Hint { cause: Cause::Drain, after: Duration::ZERO, window })
            }
            Phase::Settling | Phase::Flushing | Phase::Gone => Control::Close(Disconnect::Draining),
        };
        self.heed(control, line, cx)
    }

    /// Tells a new client where its tenant is at home, if that is elsewhere and nodes are to say so.
    ///
    /// Never one that resumes, so that nobody is told twice, and nobody without a session to take along:
    /// nodes that disagree for a moment could send it to and fro.
    pub(super) fn send_home(
        &mut self,
        is_resumed: bool,
        line: &mut Line,
        cx: &mut Context,
    ) -> Verdict {
        let shared = &cx.shared;
        let is_serving = *shared.phase.borrow() == Phase::Serving;
        let is_kept = self.session.kind() != SessionKind::None;
        if is_resumed || !is_kept || !is_serving || !shared.config.placement.redirects {
            return Ok(());
        }
        let Some(homes) = line.homes_elsewhere() else { return Ok(()) };
        let endpoints = homes.endpoints(&shared.node, cx.age);
        if endpoints.is_empty() {
            return Ok(());
        }
        metrics::redirected();
        let window = shared.config.drain.window;
        let hint = Hint { cause: Cause::Home, after: share_of(HOME_WITHIN), window };
        self.ask_to_move(hint, endpoints, line, cx);
        line.queue_events(cx)
    }

    /// From here on the store keeps up with the session: the next node begins from what it has.
    ///
    /// Whoever was asked already is not asked again, unless it might have stayed then.
    fn ask_to_move(
        &mut self,
        hint: Hint,
        endpoints: Vec<String>,
        line: &mut Line,
        cx: &mut Context,
    ) {
        let Hint { cause, after, window } = hint;
        let might_stay = self.asked != Some(Cause::Drain) && cause == Cause::Drain;
        if self.is_fenced || line.alarms.is_leaving() && !might_stay {
            return;
        }
        self.asked = Some(cause);
        if cause == Cause::Share {
            cx.shared.moves.asked(self.owned.key.session);
        }
        let token = cx.shared.resume_token(&self.owned, self.session.kind());
        cx.outputs.events.push(Event::Reconnect { after, window, token, endpoints });
        line.alarms.set(Alarm::WindowPassed, cx.now.after(after + window));
        self.save_if_due(line, cx);
    }
}

impl Connection {
    /// How easily its client goes elsewhere. Nothing if it may not be asked: it has much to resume or
    /// nothing to resume with, it was asked before, or it may not know yet that it is here.
    pub(crate) fn ease(&self, now: Tick) -> Option<Ease> {
        let State::Serving(serving) = &self.state else { return None };
        let weight = self.weight().filter(|weight| *weight < Weight::Heavy)?;
        let is_kept = serving.session.kind() != SessionKind::None;
        let may_be_asked = is_kept && serving.is_told && serving.asked.is_none();
        let is_at_home = self.line.homes_elsewhere().is_none();
        let since = now.since(self.line.since);
        may_be_asked.then_some(Ease { is_at_home, weight, since })
    }
}
