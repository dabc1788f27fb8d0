//! Performing what a session has decided.

use std::mem;
use std::sync::Arc;

use tidewire_auth::{Refusal, TokenError};
use tidewire_broker::Draft;
use tidewire_model::{
    Channel, ErrorCode, Failure, Identity, Publish, RequestId, SessionKind, TenantChannel, Token,
};
use tidewire_node::{Ask, Join};
use tidewire_session::Effect;

use super::serving::Serving;
use super::{Ending, Line, Verdict};
use crate::edge::unix_seconds;
use crate::outcome::Outcome;
use crate::worker::Context;
use crate::{handshake, metrics};

/// What a client hears of a token that is refused.
pub(super) fn failure(refusal: Refusal) -> Failure {
    match TokenError::from(refusal) {
        TokenError::Expired => Failure::new(ErrorCode::TokenExpired, "the token has expired"),
        TokenError::Revoked => Failure::new(ErrorCode::TokenRevoked, handshake::REVOKED),
        TokenError::Invalid => Failure::new(ErrorCode::BadToken, "the token is not valid here"),
    }
}

/// One at a time is waited for of each connection.
pub(super) fn another_is_looked_at() -> Failure {
    let message = "another token is being looked at; try again";
    Failure::new(ErrorCode::Overloaded, message)
}

impl Serving {
    /// Performs the session's effects, which may bring about more.
    pub(super) fn perform(&mut self, line: &mut Line, cx: &mut Context) -> Verdict {
        while !cx.outputs.effects.is_empty() {
            let mut effects = mem::replace(&mut cx.outputs.effects, mem::take(&mut cx.effects));
            for effect in effects.drain(..) {
                self.perform_one(effect, line, cx)?;
            }
            cx.effects = effects;
        }
        Ok(())
    }

    fn perform_one(&mut self, effect: Effect, line: &mut Line, cx: &mut Context) -> Verdict {
        match effect {
            Effect::Join { channel, since, join, is_new } => {
                let (channel, outbox) = (self.in_tenant(channel), cx.outbox.clone());
                let (connection, id) = (line.id, join);
                let join = Join { channel, since, is_new, connection, id, outbox };
                self.join(join, line, cx);
            }
            Effect::Leave { channel, join } => {
                self.forget_held(join);
                cx.leave(&self.in_tenant(channel), line.id, join);
            }
            Effect::Publish { request, publish } => self.publish(request, publish, line, cx),
            Effect::History { request, channel, query } => {
                let (node, channel) = (cx.shared.node.clone(), self.in_tenant(channel));
                self.reads += 1;
                cx.start(line.id, async move {
                    let page = node.history(&channel, query).await;
                    Outcome::Read { request, page }
                });
            }
            // Whoever claims the session once more would be in it as the same, and this one's end as its.
            Effect::Enter { request: None, channel, word } if !self.is_told => {
                self.waiting().entering.push((channel, word));
                line.ping(cx);
            }
            Effect::Enter { request, channel, word } => {
                self.enter((request, channel, word), line, cx);
            }
            Effect::Depart { request, channel } => self.depart(request, channel, line, cx),
            Effect::Members { request, channel, from, limit } => {
                let (node, whole) = (cx.shared.node.clone(), self.in_tenant(channel.clone()));
                self.reads += 1;
                cx.start(line.id, async move {
                    let page = node.members_of(&whole, from, limit).await;
                    Outcome::Members { request, channel, page }
                });
            }
            Effect::Refresh { request, token } => self.refresh(request, token, line, cx),
            Effect::Examine(wish) => self.examine_grant(*wish, line, cx),
            Effect::Save => self.save_in_time(line, cx),
            Effect::Disconnect(disconnect) => return Err(Ending::Disconnected(disconnect)),
        }
        Ok(())
    }

    fn join(&mut self, join: Join, line: &Line, cx: &mut Context) {
        if line.is_behind() || self.is_expired() {
            self.join_later(join);
        } else {
            cx.ask(Ask::Join(join));
        }
    }

    fn publish(&mut self, request: RequestId, publish: Publish, line: &Line, cx: &mut Context) {
        let Publish { channel, id, payload } = publish;
        let publisher = Some(self.session.identity().user.clone());
        self.publishing += 1;
        cx.ask(Ask::Publish {
            channel: self.in_tenant(channel),
            draft: Draft { id, publisher, payload },
            connection: line.id,
            request,
            outbox: cx.outbox.clone(),
        });
    }

    /// Takes a new token, at once unless its key is still to be fetched.
    fn refresh(&mut self, request: RequestId, token: Token, line: &mut Line, cx: &mut Context) {
        if let Some(failure) = cx.shared.cut_off() {
            return self.session.refreshed(request, Err(failure), &mut cx.outputs);
        }
        let verdict = cx.shared.verifier.examine(token.as_str(), unix_seconds());
        if verdict != Err(Refusal::UnknownIssuedKey) {
            return self.refreshed(request, verdict, line, cx);
        }
        if self.refreshing.is_some() {
            let failure = another_is_looked_at();
            return self.session.refreshed(request, Err(failure), &mut cx.outputs);
        }
        self.refreshing = Some(request);
        let shared = Arc::clone(&cx.shared);
        cx.start(line.id, async move {
            let verdict = Box::new(shared.examine(&token).await);
            Outcome::Verified { request, verdict }
        });
    }

    pub(super) fn refreshed(
        &mut self,
        request: RequestId,
        verdict: Result<Identity, Refusal>,
        line: &mut Line,
        cx: &mut Context,
    ) {
        // While its key was being fetched the node may have been cut off, or it revoked.
        if let Some(failure) = cx.shared.cut_off() {
            return self.session.refreshed(request, Err(failure), &mut cx.outputs);
        }
        let verdict = match verdict {
            Ok(identity) if cx.shared.is_void(&identity) => Err(Refusal::Revoked),
            verdict => verdict,
        };
        metrics::refreshed(verdict.is_ok());
        let is_good = verdict.is_ok();
        let verdict = verdict.map_err(failure);
        self.session.refreshed(request, verdict, &mut cx.outputs);
        if is_good {
            self.go_on_with_new_token(line, cx);
        }
    }

    pub(super) fn in_tenant(&self, channel: Channel) -> TenantChannel {
        TenantChannel::new(self.owned.key.tenant.clone(), channel)
    }

    /// Writes the session soon, or now if somebody waits for that: the next node, or a confirmation.
    fn save_in_time(&mut self, line: &mut Line, cx: &mut Context) {
        if self.is_urgent(line) {
            self.save(line, cx);
        } else if self.session.kind() != SessionKind::None {
            line.alarms.save_soon(cx.now);
        }
    }

    /// The client has been told of its session: what waited for that may be written.
    pub(super) fn told(&mut self, line: &mut Line, cx: &mut Context) {
        self.is_told = true;
        let entering = self.waiting.as_mut().map(|waiting| mem::take(&mut waiting.entering));
        for (channel, word) in entering.into_iter().flatten() {
            self.enter((None, channel, word), line, cx);
        }
        if self.is_urgent(line) {
            self.save_if_due(line, cx);
        }
    }

    /// Whether the session is to be written without delay.
    pub(super) fn is_urgent(&self, line: &Line) -> bool {
        line.alarms.is_leaving() || self.session.kind() == SessionKind::Strict
    }

    /// Writes the session now if it is to be written soon.
    pub(super) fn save_if_due(&mut self, line: &mut Line, cx: &mut Context) {
        if line.alarms.take_save() {
            self.save(line, cx);
        }
    }

    pub(super) fn save(&mut self, line: &mut Line, cx: &mut Context) {
        if self.is_fenced || self.session.kind() == SessionKind::None {
            return;
        }
        if !self.is_told {
            if self.is_urgent(line) {
                // Its answer is heard, though it has nothing to say before it is answered itself.
                line.ping(cx);
            }
            return line.alarms.save_later(cx.now);
        }
        if self.is_saving {
            return line.alarms.save_soon(cx.now);
        }
        self.is_saving = true;
        let node = cx.shared.node.clone();
        let (owned, snapshot) = (self.owned.clone(), self.session.begin_save());
        cx.start(
            line.id,
            async move { Outcome::Saved(node.save_session(&owned, &snapshot).await) },
        );
    }
}
