use std::sync::Arc;

use tidewire_model::{Channel, Disconnect, ErrorCode, Event, Failure, Identity, RequestId};

use super::Session;
use crate::{Effect, Limits, Outputs};

impl Session {
    /// Judges by other limits from now on. Subscriptions beyond them stay.
    pub fn set_limits(&mut self, limits: Arc<Limits>) {
        self.limits = limits;
    }

    /// Takes the verdict on a new credential. It must be the same user's; subscriptions it does not
    /// allow end.
    pub fn refreshed(
        &mut self,
        request: RequestId,
        verdict: Result<Identity, Failure>,
        out: &mut Outputs,
    ) {
        let identity = match verdict {
            Ok(identity) => identity,
            Err(failure) => {
                return out.events.push(Event::Failed { request: Some(request), failure });
            }
        };
        if (&identity.tenant, &identity.user) != (&self.identity.tenant, &self.identity.user) {
            return out.effects.push(Effect::Disconnect(Disconnect::BadToken));
        }
        let expires_at = identity.expires_at;
        self.identity = identity;
        out.events.push(Event::Refreshed { request, expires_at });
        self.end_what_is_denied(out);
        out.effects.push(Effect::Save);
    }

    fn end_what_is_denied(&mut self, out: &mut Outputs) {
        // A grant ends with its subscription, and others that it has allowed with that.
        loop {
            let all = self.subscriptions.iter().map(|subscription| &subscription.channel);
            let denied = |channel: &&Channel| !self.allows_being_in(channel);
            let denied: Vec<Channel> = all.filter(denied).cloned().collect();
            if denied.is_empty() {
                break;
            }
            for channel in denied {
                self.end(&channel, out);
                let message = "the new token does not allow subscribing to this channel";
                let failure = Some(Failure::new(ErrorCode::PermissionDenied, message));
                out.events.push(Event::Unsubscribed { request: None, channel, failure });
            }
            self.drop_needless_grants();
        }
        self.leave_what_is_denied(out);
        self.tidy_queue();
        self.join_next(out);
    }
}
