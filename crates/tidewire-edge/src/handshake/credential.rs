//! From a token to who bears it.

use tidewire_auth::Refusal;
use tidewire_model::{Disconnect, ErrorCode, Identity, Tenant, Token};

use super::{Claimant, Rejected, reject, revoked, unavailable};
use crate::metrics;
use crate::origin::Entrance;

impl Claimant<'_> {
    pub(super) async fn verify(&self, token: &Token) -> Result<Identity, Rejected> {
        let request = self.request;
        match self.shared.examine(token).await {
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
