//! From a token, or a ticket, to who bears it.

use tidewire_auth::Refusal;
use tidewire_model::{Disconnect, ErrorCode, Identity, Tenant, Token};

use super::{Claimant, Credential, Rejected, reject, revoked, unavailable};
use crate::edge::unix_seconds;
use crate::metrics;
use crate::origin::Entrance;
use crate::tickets::TicketRecord;

impl Claimant<'_> {
    pub(super) async fn identify(&self, credential: &Credential) -> Result<Identity, Rejected> {
        match credential {
            Credential::Token(token) => self.verify(token).await,
            Credential::Ticket(ticket) => self.redeem(ticket).await,
        }
    }

    /// Takes a ticket, which is of no further use then, whatever comes of it. Why one is none is not told.
    async fn redeem(&self, ticket: &Token) -> Result<Identity, Rejected> {
        let (request, shared) = (self.request, self.shared);
        let record = match shared.tickets.redeem(ticket.as_str()).await {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(%error, "cannot take a ticket");
                metrics::ticket("unavailable");
                return Err(unavailable(request));
            }
        };
        let Some(identity) = record.and_then(|record| self.accept(record)) else {
            metrics::ticket("invalid");
            let message = "the ticket was used, has run out, or is none for this page";
            return Err(reject(request, ErrorCode::TicketInvalid, message, Disconnect::BadToken));
        };
        metrics::ticket("taken");
        self.check_origin(&identity.tenant)?;
        Ok(shared.verifier.share(identity))
    }

    /// Who a ticket is of, if that is still so, and if it was fetched from where this is.
    fn accept(&self, record: TicketRecord) -> Option<Identity> {
        let TicketRecord { identity, origin, incarnation } = record;
        let tenant = &identity.tenant;
        let is_here = self.is_of_path(tenant) && origin == self.entrance.origin;
        let is_same = self.shared.tenants.incarnation(tenant).number() == incarnation;
        let is_void = identity.is_expired(unix_seconds()) || self.shared.is_void(&identity);
        (is_here && is_same && !is_void).then_some(identity)
    }

    pub(super) async fn verify(&self, token: &Token) -> Result<Identity, Rejected> {
        let request = self.request;
        let verdict = self.shared.examine(token).await;
        // While its key was being fetched the node may have been cut off.
        self.check_reach()?;
        match verdict {
            Ok(identity) if self.is_of_path(&identity.tenant) => {
                metrics::authenticated("token", "ok");
                self.check_origin(&identity.tenant)?;
                Ok(identity)
            }
            Err(Refusal::UnknownTenant) if self.shared.tenants.is_incomplete() => {
                metrics::authenticated("token", "unavailable");
                Err(unavailable(request))
            }
            Err(Refusal::Expired) => {
                metrics::authenticated("token", "expired");
                let message = "the token has expired: connect with a new one";
                Err(reject(request, ErrorCode::TokenExpired, message, Disconnect::TokenExpired))
            }
            Err(Refusal::Revoked) => {
                metrics::authenticated("token", "revoked");
                Err(revoked(request))
            }
            // A foreign tenant's token is no better than a forged one, and is told no more.
            Ok(_) | Err(_) => {
                metrics::authenticated("token", "invalid");
                let message = "the token is not valid here";
                Err(reject(request, ErrorCode::BadToken, message, Disconnect::BadToken))
            }
        }
    }

    pub(super) fn is_of_path(&self, tenant: &Tenant) -> bool {
        self.entrance.is_of(tenant)
    }

    /// Says no to pages that the tenant has not listed, once it is proved whose they are: earlier it would
    /// tell which tenants there are.
    pub(super) fn check_origin(&self, tenant: &Tenant) -> Result<(), Rejected> {
        let Entrance { origin, .. } = &self.entrance;
        if self.shared.tenants.allows_origin(tenant, origin.as_deref()) {
            return Ok(());
        }
        tracing::info!(%tenant, ?origin, "client refused: its origin is not allowed");
        let message = "pages of this origin may not use the tenant";
        Err(reject(self.request, ErrorCode::OriginDenied, message, Disconnect::OriginDenied))
    }
}
