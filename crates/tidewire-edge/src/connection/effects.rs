//! Performing what a session has decided.

use std::mem;

use tidewire_auth::TokenError;
use tidewire_broker::Draft;
use tidewire_model::{Channel, ErrorCode, Failure, Publish, RequestId, TenantChannel, Token};
use tidewire_node::Join;
use tidewire_session::Effect;
use tidewire_transport::Transport;
use tokio::time::Instant;

use super::{Connection, Ending, Verdict};
use crate::edge::unix_seconds;
use crate::metrics;
use crate::outcome::Outcome;

impl<T: Transport> Connection<T> {
    /// Performs the session's effects, which may bring about more, takes further commands as long
    /// as there is room for what they bring about, and queues the events.
    pub(super) async fn perform(&mut self) -> Verdict {
        loop {
            while !self.outputs.effects.is_empty() {
                for effect in mem::take(&mut self.outputs.effects) {
                    self.perform_one(effect).await?;
                }
            }
            if !self.may_ask() {
                break;
            }
            let Some(decoded) = self.untaken.pop_front() else {
                // An idle connection keeps nothing.
                self.untaken.shrink_to_fit();
                break;
            };
            self.take(decoded);
        }
        self.queue_events()
    }

    async fn perform_one(&mut self, effect: Effect) -> Verdict {
        match effect {
            Effect::Join { channel, since, join } => {
                let channel = self.in_tenant(channel);
                let (connection, outbox) = (self.id, self.outbox.clone());
                let join = Join { channel, since, connection, id: join, outbox };
                self.shared.node.join(join).await;
            }
            Effect::Leave { channel, join } => {
                let channel = self.in_tenant(channel);
                self.shared.node.leave(channel, self.id, join).await;
            }
            Effect::Publish { request, publish } => self.publish(request, publish).await,
            Effect::History { request, channel, query } => {
                let (node, channel) = (self.shared.node.clone(), self.in_tenant(channel));
                self.reads += 1;
                self.pending.push(Box::pin(async move {
                    let page = node.history(&channel, query).await;
                    Outcome::Read { request, page }
                }));
            }
            Effect::Refresh { request, token } => self.refresh(request, &token),
            Effect::Save if self.clock.is_leaving() => self.save(),
            Effect::Save => self.clock.save_soon(),
            Effect::Disconnect(disconnect) => return Err(Ending::Disconnected(disconnect)),
        }
        Ok(())
    }

    async fn publish(&mut self, request: RequestId, publish: Publish) {
        let Publish { channel, id, payload } = publish;
        let publisher = Some(self.session.identity().user.clone());
        let draft = Draft { id, publisher, payload };
        let started = Instant::now();
        let publishing = self.shared.node.publish(self.in_tenant(channel), draft).await;
        self.pending.push(Box::pin(async move {
            let verdict = publishing.finish().await;
            Outcome::Published { request, took: started.elapsed(), verdict }
        }));
    }

    fn refresh(&mut self, request: RequestId, token: &Token) {
        let verdict = self.shared.verifier.verify(token.as_str(), unix_seconds());
        metrics::refreshed(verdict.is_ok());
        let verdict = verdict.map_err(|error| match error {
            TokenError::Expired => Failure::new(ErrorCode::TokenExpired, "the token has expired"),
            TokenError::Invalid => Failure::new(ErrorCode::BadToken, "the token is not valid here"),
        });
        self.session.refreshed(request, verdict, &mut self.outputs);
        self.clock.expire_at(self.session.identity().expires_at);
    }

    pub(super) fn in_tenant(&self, channel: Channel) -> TenantChannel {
        TenantChannel::new(self.owned.key.tenant.clone(), channel)
    }

    /// Whether the client is known to have been told of its session.
    pub(super) fn is_told(&self) -> bool {
        self.claimed_at.is_none_or(|at| self.transport.last_heard() > at)
    }

    /// Writes the session now if it is to be written soon.
    pub(super) fn save_if_due(&mut self) {
        if self.clock.take_save() {
            self.save();
        }
    }

    pub(super) fn save(&mut self) {
        if !self.is_told() {
            return self.clock.save_later();
        }
        if self.is_saving {
            return self.clock.save_soon();
        }
        self.is_saving = true;
        let node = self.shared.node.clone();
        let (owned, snapshot) = (self.owned.clone(), self.session.snapshot());
        self.pending.push(Box::pin(async move {
            Outcome::Saved(node.save_session(&owned, &snapshot).await)
        }));
    }
}
