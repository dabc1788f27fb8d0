//! A credential that runs out: its bearer is told before, then handed nothing until it has another, and
//! at last disconnected.

use tidewire_model::{Disconnect, ErrorCode, Event, Failure, JoinId};

use super::alarms::Alarm;
use super::serving::Serving;
use super::{Ending, Line, Verdict};
use crate::edge::unix_seconds;
use crate::metrics;
use crate::worker::Context;

/// What is told when a credential runs out, and to whoever subscribes just then.
pub(super) fn failure() -> Failure {
    let message = "the token has expired, and nothing is delivered: send `refresh` with a new one";
    Failure::new(ErrorCode::TokenExpired, message)
}

impl Serving {
    /// Whether nothing is to be delivered until it has another credential.
    pub(super) fn is_expired(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.is_expired)
    }

    pub(super) fn announce_expiry(&self, cx: &mut Context) {
        if let Some(at) = self.session.identity().expires_at {
            let closes_at = at.saturating_add(cx.shared.config.expiry_grace.as_secs());
            cx.outputs.events.push(Event::Expiring { at, closes_at });
        }
    }

    /// Pauses when the credential has run out, and ends the connection when the grace has too.
    pub(super) fn expire(&mut self, line: &mut Line, cx: &mut Context) -> Verdict {
        let identity = self.session.identity();
        if !identity.is_expired(unix_seconds()) {
            // The alarm was set as far ahead as alarms go.
            line.alarms.expire_at(cx.now, identity.expires_at, &cx.shared.config);
            return Ok(());
        }
        let grace = cx.shared.config.expiry_grace;
        if self.is_expired() || grace.is_zero() {
            return Err(Ending::Disconnected(Disconnect::TokenExpired));
        }
        metrics::expired();
        line.alarms.set(Alarm::Expired, cx.now.after(grace));
        self.waiting().is_expired = true;
        cx.outputs.events.push(Event::Failed { request: None, failure: failure() });
        self.give_up_places(cx);
        Ok(())
    }

    /// Leaves every channel as who has fallen behind does: it is joined again from where its client is.
    fn give_up_places(&mut self, cx: &mut Context) {
        let joins: Vec<JoinId> = self.session.joins().map(|(_, join)| join).collect();
        for join in joins {
            self.session.lagged(join, &mut cx.outputs);
        }
    }

    /// Delivers again, if it did not, and says when the next credential runs out.
    pub(super) fn go_on_with_new_token(&mut self, line: &mut Line, cx: &Context) {
        if let Some(waiting) = &mut self.waiting {
            waiting.is_expired = false;
        }
        line.alarms.expire_at(cx.now, self.session.identity().expires_at, &cx.shared.config);
    }
}
