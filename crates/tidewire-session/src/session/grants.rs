//! What a token of one channel allows, beside that of the connection: as long as its subscription lasts.

use tidewire_model::{Action, Channel, ChannelGrant, ErrorCode, Event, Failure, RequestId};

use super::Session;
use crate::subscription::{Asked, Pending};
use crate::{Effect, Outputs, Wish};

impl Session {
    /// Whether this may be done now: what the token of the connection denies no other allows.
    pub fn allows(&self, action: Action, channel: &Channel) -> bool {
        let permissions = &self.identity.permissions;
        let is_granted = || self.grants().iter().any(|grant| grant.allows(action, channel));
        permissions.allows(action, channel) || is_granted() && !permissions.denies(action, channel)
    }

    /// Refuses what is not granted, in the same words whether or not the channel exists.
    pub(super) fn may(
        &self,
        action: Action,
        channel: &Channel,
        id: RequestId,
        out: &mut Outputs,
    ) -> bool {
        let allowed = self.allows(action, channel);
        if !allowed {
            let message = match action {
                Action::Subscribe => "the token does not allow subscribing to this channel",
                Action::Publish => "the token does not allow publishing to this channel",
                Action::History => "the token does not allow reading this channel's history",
                Action::Presence => "the token does not allow asking who is in this channel",
            };
            out.refuse(id, ErrorCode::PermissionDenied, message);
        }
        allowed
    }

    /// Whether it may be subscribed to a channel; to a reserved one, if it may do with the other what that
    /// is for.
    pub(super) fn allows_being_in(&self, channel: &Channel) -> bool {
        match channel.watched() {
            None => self.allows(Action::Subscribe, channel),
            Some(watched) => self.allows(Action::Presence, &watched),
        }
    }

    /// What tokens of one channel allow it now.
    pub fn grants(&self) -> &[ChannelGrant] {
        self.rare.as_ref().map(|rare| &*rare.grants).unwrap_or_default()
    }

    /// When the first of these is over, in seconds since the Unix epoch.
    pub fn grants_until(&self) -> Option<u64> {
        self.grants().iter().map(|grant| grant.expires_at).min()
    }

    /// Takes the verdict on a token of one channel. What it allows begins with the subscription, or with
    /// the answer to `refresh`, and a token that is shown later replaces one of before.
    pub fn granted(
        &mut self,
        wish: Wish,
        verdict: Result<ChannelGrant, Failure>,
        out: &mut Outputs,
    ) {
        let Wish { request, channel, start, .. } = wish;
        let grant = match verdict {
            Ok(grant) => grant,
            Err(failure) => return out.fail(request, failure),
        };
        let is_subscribed = self.subscriptions.contains(&channel);
        match start {
            None if !is_subscribed => {
                let message = "not subscribed to this channel";
                out.refuse(request, ErrorCode::NotSubscribed, message);
            }
            None => {
                let expires_at = Some(grant.expires_at);
                self.take_grant(grant);
                out.events.push(Event::Refreshed { request, expires_at });
                let message = "the new token does not allow this in the channel";
                let failure = Failure::new(ErrorCode::PermissionDenied, message);
                self.end_what_is_denied_in(&channel, &failure, out);
                out.effects.push(Effect::Save);
            }
            Some((since, delta)) => {
                if !is_subscribed {
                    self.take_grant(grant);
                }
                let asked = Asked::ByClient { request: Some(request), since };
                let pending = Pending::new(asked, None, delta);
                self.handle_subscribe(request, channel.clone(), pending, out);
                if !self.subscriptions.contains(&channel) {
                    self.drop_grant(&channel, out);
                }
            }
        }
    }

    /// Ends what was allowed by tokens that have run out at `now`, in seconds since the Unix epoch, or that
    /// are void by now; says whether there were any.
    pub fn judge_grants(
        &mut self,
        now: u64,
        is_void: impl Fn(&ChannelGrant) -> bool,
        out: &mut Outputs,
    ) -> bool {
        let Some(rare) = &mut self.rare else { return false };
        let is_over = |grant: &mut ChannelGrant| grant.is_expired(now) || is_void(grant);
        let over: Vec<ChannelGrant> = rare.grants.extract_if(.., is_over).collect();
        for grant in &over {
            let failure = if grant.is_expired(now) {
                Failure::new(ErrorCode::TokenExpired, "the token of this channel has expired")
            } else {
                let message = "the token of this channel was revoked, or what it was issued with";
                Failure::new(ErrorCode::TokenRevoked, message)
            };
            self.end_what_is_denied_in(&grant.channel, &failure, out);
        }
        if !over.is_empty() {
            self.forget_queue();
            out.effects.push(Effect::Save);
        }
        !over.is_empty()
    }

    pub(super) fn take_grant(&mut self, grant: ChannelGrant) {
        let grants = &mut self.rare.get_or_insert_default().grants;
        grants.retain(|other| other.channel != grant.channel);
        grants.push(grant);
    }

    /// The subscription it was for has ended; with it ends what else it has allowed there.
    pub(super) fn drop_grant(&mut self, channel: &Channel, out: &mut Outputs) {
        let Some(rare) = &mut self.rare else { return };
        let before = rare.grants.len();
        rare.grants.retain(|grant| grant.channel != *channel);
        if rare.grants.len() < before {
            let message = "the subscription has ended whose token has allowed this";
            let failure = Failure::new(ErrorCode::PermissionDenied, message);
            self.end_what_is_denied_in(channel, &failure, out);
            self.forget_queue();
        }
    }

    /// Ends being subscribed to a channel, watching it and being in it, as far as that is not allowed.
    fn end_what_is_denied_in(&mut self, channel: &Channel, failure: &Failure, out: &mut Outputs) {
        for channel in [Some(channel.clone()), channel.presence()].into_iter().flatten() {
            if !self.allows_being_in(&channel) && self.end(&channel, out) {
                let failure = Some(failure.clone());
                out.events.push(Event::Unsubscribed { request: None, channel, failure });
                self.drop_needless_grants();
            }
        }
        self.leave_what_is_denied(out);
        self.tidy_queue();
        self.join_next(out);
    }

    /// Keeps no grant of what it is not subscribed to.
    pub(super) fn drop_needless_grants(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        rare.grants.retain(|grant| self.subscriptions.contains(&grant.channel));
    }
}
