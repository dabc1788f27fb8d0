//! What a connection is told from outside.

use tidewire_model::{Disconnect, Event};
use tokio::time::Duration;

use super::alarms::Alarm;
use super::serving::Serving;
use super::{Ending, Line, Verdict};
use crate::drain::Phase;
use crate::registry::Control;
use crate::worker::Context;

impl Serving {
    pub(super) fn heed(&mut self, control: Control, line: &mut Line, cx: &mut Context) -> Verdict {
        match control {
            Control::LetGo(generation) if generation > self.owned.generation => {
                self.let_go(line)?;
                self.go_on(line, cx)
            }
            Control::LetGo(_) | Control::Refuse => Ok(()),
            Control::Move { after, window } => {
                self.ask_to_move((after, window), line, cx);
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
                Control::Move { after: Duration::ZERO, window }
            }
            Phase::Settling | Phase::Flushing | Phase::Gone => Control::Close(Disconnect::Draining),
        };
        self.heed(control, line, cx)
    }

    /// From here on the store keeps up with the session: the next node begins from what it has.
    fn ask_to_move(
        &mut self,
        (after, window): (Duration, Duration),
        line: &mut Line,
        cx: &mut Context,
    ) {
        if line.alarms.is_leaving() {
            return;
        }
        let token = cx.shared.resume_token(&self.owned, self.session.kind());
        let endpoints = cx.shared.endpoints();
        cx.outputs.events.push(Event::Reconnect { after, window, token, endpoints });
        line.alarms.set(Alarm::WindowPassed, cx.now.after(after + window));
        self.save_if_due(line, cx);
    }
}
