use std::sync::Arc;
use std::time::Duration;

use tidewire_model::{Channel, ChannelGrant, Identity, Live, Permissions, Provenance, Tenant};

use crate::candidates::Claimed;
use crate::decoys::Decoys;
use crate::shared_permissions::SharedPermissions;
use crate::token::{Grant, Header, Hint, OneChannel, Parts, decode_part, parse_part};
use crate::{
    ApiIdentity, ApiKey, ApiKeyRefused, Claims, KeyRing, Refusal, Revocations, TokenError, TokenId,
    VerificationKey,
};

/// What a key has signed, as its bearer shows it.
struct Proved {
    tenant: Tenant,
    claims: Claims,
    only: OneChannel,
    /// The audience that is expected, if the issuer has one of its own.
    audience: Option<String>,
    provenance: Provenance,
}

/// How far the clocks of an issuer and a node may disagree.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// Turns credentials into identities.
///
/// It costs one signature check and no I/O. Cheap to share behind an `Arc`. Keys that are replaced
/// hold from the next credential on.
#[derive(Debug)]
pub struct Verifier {
    ring: Live<KeyRing>,
    audience: String,
    max_lifetime: Duration,
    decoys: Decoys,
    permissions: SharedPermissions,
    revocations: Revocations,
}

impl Verifier {
    /// The longest token, in bytes.
    pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
    /// The longest API key, in bytes.
    pub const MAX_API_KEY_BYTES: usize = 512;
    /// The audience tokens must name unless another is set.
    pub const DEFAULT_AUDIENCE: &str = "tidewire";
    /// How far ahead a token may expire unless another limit is set.
    pub const DEFAULT_MAX_LIFETIME: Duration = Duration::from_hours(24);

    pub fn new(ring: impl Into<Live<KeyRing>>) -> Self {
        let audience = Self::DEFAULT_AUDIENCE.to_owned();
        let permissions = SharedPermissions::default();
        let max_lifetime = Self::DEFAULT_MAX_LIFETIME;
        let revocations = Revocations::default();
        Self {
            ring: ring.into(),
            audience,
            max_lifetime,
            decoys: Decoys::new(),
            permissions,
            revocations,
        }
    }

    /// Sets the name that a token's `aud` must hold.
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = audience.into();
        self
    }

    /// Sets how far ahead of now a token may expire.
    #[must_use]
    pub fn with_max_lifetime(mut self, max_lifetime: Duration) -> Self {
        self.max_lifetime = max_lifetime;
        self
    }

    /// The keys as they are now.
    pub fn ring(&self) -> Arc<KeyRing> {
        self.ring.load()
    }

    /// How far ahead of now a token may expire.
    pub fn max_lifetime(&self) -> Duration {
        self.max_lifetime
    }

    /// What is void of what it verifies, to be added to and to be asked.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Says who bears `token`, where `now` is in seconds since the Unix epoch.
    ///
    /// The identity expires [`LEEWAY`] after the token's `exp`, so that everybody who asks agrees
    /// with this verdict.
    pub fn verify(&self, token: &str, now: u64) -> Result<Identity, TokenError> {
        self.examine(token, now).map_err(TokenError::from)
    }

    /// As [`verify`](Self::verify), with the reason of a refusal. It is for logs and for whoever
    /// owns the keys; telling it to a client would tell which tenants and keys exist.
    pub fn examine(&self, token: &str, now: u64) -> Result<Identity, Refusal> {
        let proved = self.prove(token)?;
        if proved.only.channel.is_some() {
            return Err(Refusal::OfOneChannel);
        }
        Ok(self.share(self.judge(proved, now)?))
    }

    /// Says what a token of one channel allows `bearer` in `channel`, if it is of that and of the same user
    /// and tenant. Whether it has expired or was revoked is told of no other.
    pub fn examine_grant(
        &self,
        token: &str,
        (bearer, channel): (&Identity, &Channel),
        now: u64,
    ) -> Result<ChannelGrant, Refusal> {
        let proved = self.prove(token)?;
        let is_theirs = (&proved.tenant, &proved.claims.user) == (&bearer.tenant, &bearer.user);
        let (_, grant) = self.grant(proved, now, |of| is_theirs && of == channel)?;
        Ok(grant)
    }

    /// Says whose a token of one channel is and what it allows there, whosever it is: for whoever owns the
    /// keys.
    pub fn examine_any_grant(
        &self,
        token: &str,
        now: u64,
    ) -> Result<(Identity, ChannelGrant), Refusal> {
        self.grant(self.prove(token)?, now, |_| true)
    }

    fn grant(
        &self,
        mut proved: Proved,
        now: u64,
        is_wanted: impl FnOnce(&Channel) -> bool,
    ) -> Result<(Identity, ChannelGrant), Refusal> {
        let OneChannel { channel, actions } = std::mem::take(&mut proved.only);
        let channel = channel.ok_or(Refusal::OfNoChannel)?;
        if !is_wanted(&channel) {
            return Err(Refusal::NotTheirs);
        }
        if !proved.claims.permissions.is_empty() {
            return Err(Refusal::Claims);
        }
        let provenance = proved.provenance;
        let identity = self.judge(proved, now)?;
        let expires_at = identity.expires_at.unwrap_or(0);
        Ok((identity, ChannelGrant { channel, actions, expires_at, provenance }))
    }

    /// Asks the key that a token names, and reads what it says. None of that is judged.
    fn prove(&self, token: &str) -> Result<Proved, Refusal> {
        let parts = Parts::split(token)?;
        let header: Header = parse_part(parts.header)?;
        if header.crit.is_some() {
            return Err(Refusal::Critical);
        }
        let payload = decode_part(parts.payload)?;
        let hint: Hint = serde_json::from_slice(&payload).map_err(|_| Refusal::Tenant)?;
        let claimed = self.ring.read(|ring| Claimed::find(ring, &hint));
        let claimed = claimed.inspect_err(|_| self.check_nothing(&header, &parts))?;
        let key = self.signer(&claimed, &header, &parts)?;

        // From here on the tenant is proved: only its own keys were asked.
        let mut claims: Claims = serde_json::from_slice(&payload).map_err(|_| Refusal::Claims)?;
        let only: OneChannel = serde_json::from_slice(&payload).map_err(|_| Refusal::Claims)?;
        let issuer = claimed.issuer_of(key);
        if let Some(issuer) = issuer.filter(|_| only.channel.is_none()) {
            let says = |payload| serde_json::from_slice::<Grant>(payload).ok()?.channels;
            if says(&payload).is_none() {
                claims.permissions = issuer.permissions.clone().denied_too(&claims.permissions);
            }
        }
        let audience = issuer.and_then(|issuer| issuer.audience.clone());
        let provenance = Provenance {
            key: key.trace(),
            token: claims.token_id.as_ref().map(TokenId::trace),
            issued_at: claims.issued_at.unwrap_or(0),
        };
        Ok(Proved { tenant: claimed.tenant().clone(), claims, only, audience, provenance })
    }

    fn judge(&self, proved: Proved, now: u64) -> Result<Identity, Refusal> {
        let Proved { tenant, claims, audience, provenance, .. } = proved;
        self.check_claims(&claims, audience.as_deref().unwrap_or(&self.audience), now)?;
        let identity = Identity {
            tenant,
            user: claims.user,
            permissions: claims.permissions,
            expires_at: Some(claims.expires_at.saturating_add(LEEWAY.as_secs())),
            provenance: Some(provenance),
        };
        if self.revocations.voids(&identity) {
            return Err(Refusal::Revoked);
        }
        Ok(identity)
    }

    /// Whose issuer is to be asked for the key of a token that was refused for want of it
    /// ([`Refusal::UnknownIssuedKey`]). Nothing of the token is proved.
    pub fn issued_for(&self, token: &str) -> Option<Tenant> {
        let parts = Parts::split(token).ok()?;
        let hint: Hint = parse_part(parts.payload).ok()?;
        let name = hint.iss?;
        self.ring.read(|ring| ring.tenant_of_issuer(&name).cloned())
    }

    /// The same identity with its tenant and its permissions in one place with equal ones of others,
    /// as every identity verified here has them: for one that was read from elsewhere, such as a
    /// store, and is to be kept in memory. It proves nothing.
    #[must_use]
    pub fn share(&self, identity: Identity) -> Identity {
        let known = self.ring.read(|ring| Some(ring.keys_of(&identity.tenant)?.tenant.clone()));
        let tenant = known.unwrap_or(identity.tenant);
        let permissions = self.permissions.share(identity.permissions);
        Identity { tenant, permissions, ..identity }
    }

    /// Says whose server holds an API key, given as `id.secret` or as the value of an
    /// `Authorization` header (`Bearer id.secret`), if it is one of `tenant`'s and of use at `now`, in
    /// seconds since the Unix epoch.
    pub fn verify_api_key(
        &self,
        header_value: &str,
        tenant: &Tenant,
        now: u64,
    ) -> Result<ApiIdentity, ApiKeyRefused> {
        if header_value.len() > Self::MAX_API_KEY_BYTES {
            return Err(ApiKeyRefused);
        }
        let (id, secret) = strip_bearer(header_value).split_once('.').ok_or(ApiKeyRefused)?;
        let keys = self.ring.read(|ring| ring.keys_of(tenant).cloned());
        let known = keys.as_ref().and_then(|keys| keys.api_key(id));
        // An unknown key is compared too, so that it takes as long as a known one.
        let is_its = ApiKey::accepts(known, secret, now);
        let key = known.filter(|_| is_its).ok_or(ApiKeyRefused)?;
        Ok(ApiIdentity {
            tenant: tenant.clone(),
            key: key.id().clone(),
            permissions: key.permissions().clone(),
            scopes: key.scopes(),
        })
    }

    /// The key that has signed.
    fn signer<'a>(
        &self,
        claimed: &'a Claimed,
        header: &Header,
        parts: &Parts<'_>,
    ) -> Result<&'a VerificationKey, Refusal> {
        let keys = claimed.keys(header).inspect_err(|_| self.check_nothing(header, parts))?;
        let message = parts.signed.as_bytes();
        let signer = keys.into_iter().find(|key| key.has_signed(message, parts.signature));
        signer.ok_or(Refusal::Signature)
    }

    /// Spends what a signature costs where there is none to check, so that time does not tell which
    /// tenants and keys there are.
    fn check_nothing(&self, header: &Header, parts: &Parts<'_>) {
        self.decoys.check(&header.alg, parts.signed.as_bytes(), parts.signature);
    }

    fn check_claims(&self, claims: &Claims, audience: &str, now: u64) -> Result<(), Refusal> {
        let leeway = LEEWAY.as_secs();
        let latest_start = now.saturating_add(leeway);
        let void_at = claims.expires_at.saturating_add(leeway);
        if now >= void_at {
            return Err(Refusal::Expired);
        }
        // Not after `iat` either, or what was revoked might be good again when that is forgotten.
        let begun = claims.issued_at.map_or(now, |issued_at| issued_at.min(now));
        let latest_end = begun.saturating_add(leeway).saturating_add(self.max_lifetime.as_secs());
        if claims.expires_at > latest_end {
            return Err(Refusal::Lifetime);
        }
        if claims.not_before.max(claims.issued_at).is_some_and(|start| start > latest_start) {
            return Err(Refusal::NotYetValid);
        }
        if !claims.audience.iter().any(|name| name == audience) {
            return Err(Refusal::Audience);
        }
        if claims.permissions.len() > Permissions::MAX_FILTERS {
            return Err(Refusal::TooManyFilters);
        }
        Ok(())
    }
}

/// The scheme of RFC 6750 section 2.1, whose name is compared without case (RFC 9110 section 11.1).
fn strip_bearer(header_value: &str) -> &str {
    match header_value.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => rest.trim(),
        _ => header_value.trim(),
    }
}

#[cfg(test)]
mod tests;
