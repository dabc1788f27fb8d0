//! A connection whose session has moved away.

use tidewire_model::{Command, Disconnect, ErrorCode, Event, Failure, Request};

use super::alarms::Alarm;
use super::serving::Serving;
use super::{Ending, Line, Verdict};
use crate::registry::Cause;
use crate::worker::Context;

impl Serving {
    /// The session has another owner by now.
    ///
    /// A client that was asked to move has moved: it goes on hearing over this connection until it is
    /// in step over the other, or its window has passed. Any other is told at once.
    pub(super) fn let_go(&mut self, line: &mut Line) -> Verdict {
        self.is_fenced = true;
        if !line.alarms.is_leaving() {
            return Err(Ending::Disconnected(Disconnect::Moved));
        }
        line.alarms.clear(Alarm::Save);
        line.alarms.clear(Alarm::Renew);
        Ok(())
    }

    /// Refuses what would change a session that is not ours any more. What only reads goes on, and so
    /// do publications: their ids make them single, wherever they are sent again.
    pub(super) fn refuse_if_moved(&self, request: &Request, cx: &mut Context) -> bool {
        let changes_session = matches!(
            request.command,
            Command::Subscribe { .. }
                | Command::Unsubscribe { .. }
                | Command::Watch { .. }
                | Command::Unwatch { .. }
                | Command::Enter { .. }
                | Command::Leave { .. }
                | Command::Refresh { .. }
        );
        if !self.is_fenced || !changes_session {
            return false;
        }
        let message = "the session goes on over another connection: ask there";
        let failure = Failure::new(ErrorCode::Moved, message);
        cx.outputs.events.push(Event::Failed { request: Some(request.id), failure });
        true
    }

    /// The client was asked to move and has not left: that is the end of the connection, unless it was
    /// free to stay, and has.
    pub(super) fn window_passed(&self, cx: &Context) -> Verdict {
        match self.asked {
            _ if self.is_fenced => Err(Ending::Disconnected(Disconnect::Moved)),
            Some(Cause::Home) => Ok(()),
            Some(Cause::Share) => {
                cx.shared.moves.stayed(self.owned.key.session);
                Ok(())
            }
            Some(Cause::Drain) | None => Err(Ending::Disconnected(Disconnect::Draining)),
        }
    }
}
