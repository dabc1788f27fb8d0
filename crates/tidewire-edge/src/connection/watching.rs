//! What a client sends beside whole messages: control frames, and beginnings.

use tidewire_model::Disconnect;
use tidewire_transport::Controls;

use super::alarms::Alarm;
use super::serving::Serving;
use super::{Connection, Ending, Line, State, Verdict};
use crate::metrics;
use crate::worker::Context;

impl Connection {
    /// Judges what has come beside messages; `has_ended` says that one of those did.
    pub(super) fn watch(
        &mut self,
        controls: Controls,
        has_ended: bool,
        cx: &mut Context,
    ) -> Verdict {
        let line = &mut self.line;
        // First messages have a bound of their own.
        let is_opening = matches!(self.state, State::Opening(_));
        let holds_more = !is_opening && line.show_unfinished(cx);
        match &mut self.state {
            State::Serving(_) if holds_more && line.is_holding_too_much(cx) => {
                // It may come back.
                Err(Ending::Disconnected(Disconnect::Overloaded))
            }
            State::Serving(serving) => {
                line.watch_message(has_ended, cx);
                serving.charge_controls(controls, line, cx)
            }
            // Its answer to our close would come behind that.
            State::Leaving(leaving) if holds_more => {
                leaving.listen_no_more(line, cx);
                Ok(())
            }
            State::Opening(_) | State::Leaving(_) | State::Over => Ok(()),
        }
    }
}

impl Line {
    /// Counts what came behind the first message, of another that is not complete.
    pub(super) fn watch_next_message(&mut self, cx: &mut Context) {
        self.show_unfinished(cx);
        self.watch_message(true, cx);
    }

    /// Gives a message that has begun its time, which is over when it has ended.
    pub(super) fn watch_message(&mut self, has_ended: bool, cx: &Context) {
        if self.link.unfinished().is_none() {
            self.alarms.clear(Alarm::Overdue);
        } else if has_ended || !self.alarms.is_set(Alarm::Overdue) {
            self.alarms.set(Alarm::Overdue, cx.now.after(cx.shared.config.message_timeout));
        }
    }
}

impl Serving {
    /// The time for the rest of a message is over; if we did not listen, or have not read yet what has
    /// come, it has some more.
    pub(super) fn message_overdue(&self, line: &mut Line, cx: &Context) -> Verdict {
        if self.may_read(line, cx) && !line.is_readable {
            return Err(Ending::Disconnected(Disconnect::MessageTimeout));
        }
        line.watch_message(true, cx);
        Ok(())
    }

    /// Charges for pings, and for pongs that nobody asked for. There is nothing to refuse: whoever
    /// sends too many is not read for a while, and in the end not at all.
    fn charge_controls(
        &mut self,
        controls: Controls,
        line: &mut Line,
        cx: &mut Context,
    ) -> Verdict {
        let unasked = if controls == Controls::default() { 0 } else { line.unasked(controls) };
        if unasked == 0 {
            return Ok(());
        }
        cx.spend(unasked);
        let toll = self.toll.get_or_insert_default();
        let Err(consequence) = toll.charge_controls(unasked, cx.elapsed) else { return Ok(()) };
        metrics::pinged_too_often();
        self.bear(consequence, line, cx)
    }
}
