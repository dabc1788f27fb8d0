//! Tokens of one channel: shown, run out, and revoked.

use std::sync::Arc;

use tidewire_auth::{Refusal, TokenError};
use tidewire_model::{ChannelGrant, Event};
use tidewire_session::Wish;

use super::effects::{another_is_looked_at, failure};
use super::serving::Serving;
use super::{Connection, Line, State};
use crate::edge::unix_seconds;
use crate::metrics;
use crate::outcome::Outcome;
use crate::worker::{A_CLAIM, Context};

impl Serving {
    /// Takes a token of one channel, at once unless its key is still to be fetched.
    pub(super) fn examine_grant(&mut self, wish: Wish, line: &mut Line, cx: &mut Context) {
        // A client asks for many in a frame, and each is a signature.
        cx.spend(A_CLAIM);
        if let Some(failure) = cx.shared.cut_off() {
            return self.session.granted(wish, Err(failure), &mut cx.outputs);
        }
        let identity = self.session.identity();
        let verdict = cx.shared.examine_grant_now(&wish, identity);
        if verdict != Err(Refusal::UnknownIssuedKey) {
            return self.granted(wish, verdict, line, cx);
        }
        if self.refreshing.is_some() {
            let failure = another_is_looked_at();
            return self.session.granted(wish, Err(failure), &mut cx.outputs);
        }
        self.refreshing = Some(wish.request);
        let (shared, identity) = (Arc::clone(&cx.shared), identity.clone());
        cx.start(line.id, async move {
            let verdict = shared.examine_grant(&wish, &identity).await;
            Outcome::Examined(Box::new((wish, verdict)))
        });
    }

    pub(super) fn granted(
        &mut self,
        wish: Wish,
        verdict: Result<ChannelGrant, Refusal>,
        line: &mut Line,
        cx: &mut Context,
    ) {
        // While its key was being fetched the node may have been cut off, or it revoked.
        if let Some(failure) = cx.shared.cut_off() {
            return self.session.granted(wish, Err(failure), &mut cx.outputs);
        }
        let revocations = cx.shared.verifier.revocations();
        let verdict = match verdict {
            Ok(grant) if revocations.voids_grant(self.session.identity(), &grant) => {
                Err(Refusal::Revoked)
            }
            verdict => verdict,
        };
        metrics::authenticated("channel_token", result_of(&verdict));
        let told = cx.outputs.events.len();
        self.session.granted(wish, verdict.map_err(failure), &mut cx.outputs);
        if let Some(Event::Failed { failure, .. }) = cx.outputs.events.get(told) {
            line.count_limit(Some(failure));
        }
        line.alarms.grants_end_at(cx.now, self.session.grants_until());
    }

    /// Ends what was allowed by tokens of one channel that have run out, or were revoked.
    pub(super) fn judge_grants(&mut self, line: &mut Line, cx: &mut Context) {
        if self.session.grants().is_empty() {
            return;
        }
        let identity = self.session.identity().clone();
        let revocations = cx.shared.verifier.revocations();
        let is_void = |grant: &ChannelGrant| revocations.voids_grant(&identity, grant);
        self.session.judge_grants(unix_seconds(), is_void, &mut cx.outputs);
        line.alarms.grants_end_at(cx.now, self.session.grants_until());
    }
}

impl Connection {
    /// Judges what it may do beside what the token of the connection says.
    pub(super) fn rejudge_grants(&mut self, cx: &mut Context) {
        let State::Serving(serving) = &mut self.state else { return };
        if serving.session.grants().is_empty() {
            return;
        }
        serving.judge_grants(&mut self.line, cx);
        let verdict = serving.go_on(&mut self.line, cx);
        self.obey(verdict, cx);
        self.settle(cx);
    }
}

fn result_of(verdict: &Result<ChannelGrant, Refusal>) -> &'static str {
    match verdict.as_ref().map_err(|refusal| TokenError::from(*refusal)) {
        Ok(_) => "ok",
        Err(TokenError::Expired) => "expired",
        Err(TokenError::Revoked) => "revoked",
        Err(TokenError::Invalid) => "invalid",
    }
}
