//! Strict sessions: what has changed is confirmed once the store has it.

use tidewire_model::{Channel, ErrorCode, Event, RequestId, SessionKind};

use super::Session;
use crate::subscription::{Held, Subscription};
use crate::{Outputs, Snapshot};

/// Subscriptions that have ended, whose ends wait to be confirmed. At most as many as there may be
/// subscriptions.
#[derive(Debug, Default)]
pub(super) struct Ended {
    waiting: Vec<(RequestId, Channel)>,
    /// How many of them, from the first, the store will not have once what is being written is.
    written: usize,
}

impl Ended {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Session {
    /// The same session, kept as `kind` says. To be said before it is asked for anything.
    #[must_use]
    pub fn of_kind(mut self, kind: SessionKind) -> Self {
        self.kind = kind;
        self
    }

    pub fn kind(&self) -> SessionKind {
        self.kind
    }

    pub(super) fn is_strict(&self) -> bool {
        self.kind == SessionKind::Strict
    }

    /// What is to be written now. One write at a time: this, then [`saved`](Self::saved) if it lands,
    /// and nothing if it does not.
    pub fn begin_save(&mut self) -> Snapshot {
        if self.is_strict() {
            let held = self.subscriptions.iter_mut().filter_map(Subscription::held).flatten();
            held.for_each(|held| held.is_written = true);
            if let Some(rare) = &mut self.rare {
                rare.ended.written = rare.ended.waiting.len();
            }
        }
        self.snapshot()
    }

    /// Takes notice that the store has what was last begun to be written: that is confirmed now.
    pub fn saved(&mut self, out: &mut Outputs) {
        if !self.is_strict() {
            return;
        }
        if let Some(Ended { waiting, written }) = self.rare.as_mut().map(|rare| &mut rare.ended) {
            out.events.extend(waiting.drain(..std::mem::take(written)).map(unsubscribed));
        }
        let is_written = |held: &mut Box<Held>| held.is_written;
        let confirmed: Vec<_> = self
            .subscriptions
            .iter_mut()
            .filter_map(|subscription| subscription.held()?.take_if(is_written))
            .collect();
        for held in confirmed {
            let channel = held.subscribed.channel.clone();
            out.events.push(Event::Subscribed(held.subscribed));
            self.line_up(channel, out);
        }
        self.forget_queue();
    }

    /// Confirms that a subscription has ended, at once or when the store knows.
    pub(super) fn confirm_end(&mut self, request: RequestId, channel: Channel, out: &mut Outputs) {
        if self.is_strict() {
            self.rare.get_or_insert_default().ended.waiting.push((request, channel));
        } else {
            out.events.push(unsubscribed((request, channel)));
        }
    }

    /// Whether there is room for another end to be confirmed; if not, that has been said.
    pub(super) fn may_end(&self, request: RequestId, out: &mut Outputs) -> bool {
        let waiting = self.rare.as_ref().map_or(0, |rare| rare.ended.waiting.len());
        let has_room = waiting < self.limits.subscriptions;
        if !has_room {
            let message = "sessions cannot be written now: try again later";
            out.refuse(request, ErrorCode::Unavailable, message);
        }
        has_room
    }
}

fn unsubscribed((request, channel): (RequestId, Channel)) -> Event {
    Event::Unsubscribed { request: Some(request), channel, failure: None }
}
