//! From a resume token to the session it opens.

use tidewire_model::{Disconnect, ErrorCode, Identity, Resume, SessionKind};
use tidewire_node::SessionError;
use tidewire_session::SavedSubscription;

use super::{Claimant, Credential, Proved, Rejected, reject, revoked, unavailable};
use crate::edge::unix_seconds;
use crate::metrics;

impl Claimant<'_> {
    /// Takes the session up, or says `None` when it cannot be had any more.
    pub(super) async fn resume(
        &self,
        resume: Resume,
        credential: Option<&Credential>,
    ) -> Result<Option<Proved>, Rejected> {
        let shared = self.shared;
        let opened = shared.sealer.open(resume.token.as_str(), unix_seconds());
        let claims = match opened {
            Ok(claims) if self.is_of_path(&claims.tenant) => claims,
            Ok(_) | Err(_) => {
                metrics::resumed("invalid");
                return Ok(None);
            }
        };
        let is_known = shared.tenants.contains(&claims.tenant);
        if !is_known && shared.tenants.is_incomplete() {
            metrics::resumed("unavailable");
            return Err(unavailable(self.request));
        }
        // When it was sealed its tenant was there, nobody else had its name, and sessions were kept.
        let is_same = shared.tenants.incarnation(&claims.tenant).number() == claims.incarnation;
        let is_kept = shared.tenants.session_kind(&claims.tenant) != SessionKind::None;
        if !is_kept || !is_known || !is_same {
            metrics::resumed("lost");
            return Ok(None);
        }
        // Before the session is claimed: a foreign page takes it from nobody.
        self.check_origin(&claims.tenant)?;
        let key = tidewire_store::SessionKey { tenant: claims.tenant, session: claims.session };
        let resumed = shared.node.resume_session(key, claims.generation, resume.nonce).await;
        let (owned, mut snapshot) = match resumed {
            Ok(resumed) => resumed,
            Err(SessionError::Lost) => {
                metrics::resumed("lost");
                return Ok(None);
            }
            Err(SessionError::Store(error)) => {
                tracing::warn!(%error, "cannot claim a session");
                metrics::resumed("unavailable");
                return Err(unavailable(self.request));
            }
        };
        snapshot.identity = shared.verifier.share(snapshot.identity);
        // The rules may have changed, or be others here.
        for SavedSubscription { channel, delta, .. } in &mut snapshot.subscriptions {
            *delta = shared.tenants.grant(&owned.key.tenant, channel, *delta);
        }
        let identity = &snapshot.identity;
        let is_revoked = shared.verifier.revocations().voids(identity);
        if is_revoked && credential.is_none() {
            metrics::resumed("revoked");
            return Err(revoked(self.request));
        }
        if is_revoked || identity.is_expired(unix_seconds()) {
            snapshot.identity = self.renew(identity, credential).await?;
        }
        metrics::resumed("ok");
        Ok(Some(Proved::Resumed(owned, snapshot, resume.positions)))
    }

    /// A credential that ran out, or was revoked, while its bearer was away has to be replaced by one
    /// of the same user's.
    async fn renew(
        &self,
        expired: &Identity,
        credential: Option<&Credential>,
    ) -> Result<Identity, Rejected> {
        let request = self.request;
        let Some(credential) = credential else {
            let message = "the token has expired: resume again with a new one";
            return Err(reject(
                request,
                ErrorCode::TokenExpired,
                message,
                Disconnect::TokenExpired,
            ));
        };
        let identity = self.identify(credential).await?;
        if (&identity.tenant, &identity.user) == (&expired.tenant, &expired.user) {
            return Ok(identity);
        }
        let message = "the token is not of the session's user";
        Err(reject(request, ErrorCode::BadToken, message, Disconnect::BadToken))
    }
}
