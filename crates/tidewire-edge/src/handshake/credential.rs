//! From a token to who bears it.

use tidewire_auth::Refusal;
use tidewire_model::{Disconnect, ErrorCode, Identity, Tenant, Token};

use super::{Claimant, Rejected, reject, unavailable};
use crate::edge::unix_seconds;
use crate::metrics;

impl Claimant<'_> {
    pub(super) fn verify(&self, token: &Token) -> Result<Identity, Rejected> {
        let request = self.request;
        match self.shared.verifier.examine(token.as_str(), unix_seconds()) {
            Ok(identity) if self.is_of_path(&identity.tenant) => {
                metrics::authenticated("token", "ok");
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
            // A foreign tenant's token is no better than a forged one, and is told no more.
            Ok(_) | Err(_) => {
                metrics::authenticated("token", "invalid");
                let message = "the token is not valid here";
                Err(reject(request, ErrorCode::BadToken, message, Disconnect::BadToken))
            }
        }
    }

    pub(super) fn is_of_path(&self, tenant: &Tenant) -> bool {
        self.tenant.as_ref().is_none_or(|named| named == tenant)
    }
}
