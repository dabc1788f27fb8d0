//! Being in channels, and not being there any more.

use std::time::Duration;

use tidewire_model::{
    Action, Channel, Command, ErrorCode, Event, Failure, MemberWord, PresenceMode, Request,
    RequestId,
};
use tidewire_node::{Answer, Ask, Away, Depart, Enter};

use super::Line;
use super::serving::Serving;
use crate::drain::Phase;
use crate::worker::Context;

/// How long those are waited for at least whose node leaves.
const DRAIN_DEBOUNCE: Duration = Duration::from_secs(30);

impl Serving {
    pub(super) fn enter(
        &mut self,
        (request, channel, word): (Option<RequestId>, Channel, Option<MemberWord>),
        line: &Line,
        cx: &mut Context,
    ) {
        let answer = self.awaited(request, line, cx);
        cx.ask(Ask::Enter(Box::new(Enter {
            channel: self.in_tenant(channel),
            session: self.owned.clone(),
            user: self.session.identity().user.clone(),
            word,
            answer,
        })));
    }

    pub(super) fn depart(
        &mut self,
        request: Option<RequestId>,
        channel: Channel,
        line: &Line,
        cx: &mut Context,
    ) {
        let answer = self.awaited(request, line, cx);
        cx.ask(Ask::Depart(Box::new(Depart {
            channel: self.in_tenant(channel),
            session: self.owned.clone(),
            user: self.session.identity().user.clone(),
            answer,
        })));
    }

    /// Where an answer is to go that the client waits for.
    fn awaited(&mut self, request: Option<RequestId>, line: &Line, cx: &Context) -> Option<Answer> {
        let request = request?;
        self.publishing += 1;
        Some(Answer { connection: line.id, request, outbox: cx.outbox.clone() })
    }

    /// Says of each channel that its member is away: also where the session has another owner, which may
    /// be gone before it has said anything itself.
    pub(super) fn be_away(&self, cx: &mut Context) {
        let is_draining = *cx.shared.phase.borrow() > Phase::Serving;
        let at_least = if is_draining { DRAIN_DEBOUNCE } else { Duration::ZERO };
        for channel in self.session.entered() {
            cx.ask(Ask::Away(Box::new(Away {
                channel: self.in_tenant(channel.clone()),
                session: self.owned.clone(),
                user: self.session.identity().user.clone(),
                at_least,
            })));
        }
    }

    /// Refuses what has to do with presence in a channel that keeps none. Who may not do it hears that
    /// instead.
    pub(super) fn refuse_without_presence(&self, request: &Request, cx: &mut Context) -> bool {
        let (Command::Watch { channel }
        | Command::Enter { channel, .. }
        | Command::Members { channel, .. }) = &request.command
        else {
            return false;
        };
        let identity = self.session.identity();
        let rules = cx.shared.tenants.rules();
        let rule = rules.read(|rules| rules.presence(&identity.tenant, channel));
        let (is_kept, message) = match (&request.command, rule.map(|rule| rule.mode)) {
            (Command::Enter { .. }, Some(PresenceMode::Count)) => {
                (false, "nobody enters this channel: those who are subscribed to it are counted")
            }
            (_, Some(_)) => (true, ""),
            (_, None) => (false, "the channel keeps no presence: no rule of the tenant's says so"),
        };
        if is_kept || !self.session.allows(Action::Presence, channel) {
            return false;
        }
        let failure = Failure::new(ErrorCode::NoPresence, message);
        cx.outputs.events.push(Event::Failed { request: Some(request.id), failure });
        true
    }
}
