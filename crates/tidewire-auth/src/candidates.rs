//! From what a token says of itself to the keys that may have signed it.

use std::sync::Arc;

use tidewire_model::Tenant;

use crate::issuer::Published;
use crate::token::{Header, Hint};
use crate::{Issuer, KeyRing, Refusal, TenantKeys, VerificationKey};

/// Whose a token would be, and with what it is to be proved. Nothing of it is proved yet.
pub(crate) struct Claimed {
    tenant: Arc<TenantKeys>,
    published: Option<Arc<Published>>,
    is_issued: bool,
}

impl Claimed {
    /// A name that is registered says whose the token is, and a `tenant` beside it has to agree;
    /// without one the `tenant` says where to look.
    pub(crate) fn find(ring: &KeyRing, hint: &Hint) -> Result<Self, Refusal> {
        let issued_for = hint.iss.as_deref().and_then(|name| ring.tenant_of_issuer(name));
        let tenant = match (issued_for, &hint.tenant) {
            (Some(issued_for), Some(named)) if issued_for != named => return Err(Refusal::Tenant),
            (Some(issued_for), _) => issued_for,
            (None, Some(named)) => named,
            (None, None) if hint.iss.is_some() => return Err(Refusal::UnknownTenant),
            (None, None) => return Err(Refusal::Tenant),
        };
        let keys = ring.keys_of(tenant).ok_or(Refusal::UnknownTenant)?;
        let published = issued_for.and_then(|tenant| ring.published(tenant)).cloned();
        Ok(Self { tenant: Arc::clone(keys), published, is_issued: issued_for.is_some() })
    }

    pub(crate) fn tenant(&self) -> &Tenant {
        &self.tenant.tenant
    }

    /// The keys that may have signed: the one named, or without a name those of the algorithm. An
    /// issuer's are only ever found by their name.
    pub(crate) fn keys(&self, header: &Header) -> Result<Vec<&VerificationKey>, Refusal> {
        let Some(id) = &header.kid else {
            let of_algorithm = |key: &&VerificationKey| key.algorithm().as_str() == header.alg;
            let keys: Vec<_> = self.tenant.keys.iter().filter(of_algorithm).collect();
            return if keys.is_empty() { Err(Refusal::UnknownKey) } else { Ok(keys) };
        };
        let published = self.published.iter().flat_map(|published| &published.keys);
        let named = published.chain(&self.tenant.keys).find(|key| key.id().as_str() == id);
        let unknown = if self.is_issued { Refusal::UnknownIssuedKey } else { Refusal::UnknownKey };
        let key = named.ok_or(unknown)?;
        if key.algorithm().as_str() == header.alg { Ok(vec![key]) } else { Err(Refusal::Algorithm) }
    }

    /// The issuer, if `key` is one that it has published.
    pub(crate) fn issuer_of(&self, key: &VerificationKey) -> Option<&Issuer> {
        let published = self.published.as_ref()?;
        let is_published = published.keys.iter().any(|one| std::ptr::eq(one, key));
        self.tenant.issuer.as_ref().filter(|_| is_published)
    }
}
