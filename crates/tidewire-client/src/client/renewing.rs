//! A client whose token runs out.

use tidewire_model::{ErrorCode, RequestId, Token};
use tidewire_protocol_native::client::Refusal;
use tokio::time::Instant;

use super::Client;
use crate::NoToken;
use crate::happening::Happening;

impl Client {
    pub(super) fn expires(&mut self, at: u64, closes_at: u64) {
        self.renewal.announced(Instant::now(), &self.options.random);
        self.happenings.push_back(Happening::Expiring { at, closes_at });
    }

    /// Sends the token it was given, now or with the next connection.
    pub(super) fn renewed(&mut self, renewed: Result<Token, NoToken>) {
        match renewed {
            Ok(token) => self.refresh(token),
            Err(error) => {
                self.happenings.push_back(Happening::NotRenewed { reason: error.to_string() });
            }
        }
    }

    pub(super) fn refreshed(&mut self, request: RequestId, expires_at: Option<u64>) {
        if self.following.shown_by(request).is_some() {
            return;
        }
        if self.renewal.taken(request) {
            self.happenings.push_back(Happening::Renewed { expires_at });
        }
    }

    /// Takes a refusal that is about the token, whoever asked; says whether that is all there is to it.
    ///
    /// What is refused because the token has run out is asked again once there is another.
    pub(super) fn refuses_token(
        &mut self,
        request: Option<RequestId>,
        refusal: &mut Refusal,
    ) -> bool {
        let (now, may_hold) = (Instant::now(), refusal.retryable);
        if request.is_some_and(|request| self.renewal.refused(request, may_hold, now)) {
            let reason = refusal.to_string();
            self.happenings.push_back(Happening::NotRenewed { reason });
            return true;
        }
        let has_source = self.renewal.has_source();
        let has_tickets = self.options.tickets.is_some();
        if refusal.error_code() != Some(ErrorCode::TokenExpired) || !(has_source || has_tickets) {
            return false;
        }
        if request.is_none() && !has_source {
            // Nothing is delivered any more: a ticket is good for another connection only.
            self.cut();
            self.happenings.push_back(Happening::Lost { reason: refusal.to_string() });
            return true;
        }
        self.renewal.demand(now);
        refusal.retryable = true;
        request.is_none()
    }
}
