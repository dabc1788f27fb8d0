use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tidewire_model::{ByTenant, Tenant};

use crate::issuer::Published;
use crate::{ApiKey, ApiKeyId, Issuer, IssuerName, KeyId, Mark, Vault, VerificationKey};

/// One tenant and everything that can prove somebody to be of it.
#[derive(Clone, Debug)]
pub struct TenantKeys {
    pub tenant: Tenant,
    /// The keys its tokens are signed with, at most [`KeyRing::MAX_KEYS`].
    pub keys: Vec<VerificationKey>,
    /// The keys of its servers, at most [`KeyRing::MAX_KEYS`].
    pub api_keys: Vec<ApiKey>,
    /// Who issues tokens for it under keys that are published.
    pub issuer: Option<Issuer>,
}

/// All tenants and their keys.
///
/// No two tenants share a key, so that a key says which tenant it speaks for. A copy shares what it
/// does not change.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    tenants: ByTenant<Arc<TenantKeys>>,
    /// Whose a key is, by its fingerprint.
    owners: Arc<HashMap<[u8; 32], Tenant>>,
    /// Whose an issuer is.
    issuers: Arc<HashMap<IssuerName, Tenant>>,
    published: ByTenant<Arc<Published>>,
}

impl KeyRing {
    /// The most keys of each kind a tenant may have. A token without `kid` is tried against each.
    pub const MAX_KEYS: usize = 16;

    pub fn new(tenants: impl IntoIterator<Item = TenantKeys>) -> Result<Self, InvalidKeyRing> {
        let mut ring = Self::default();
        for keys in tenants {
            if ring.contains(&keys.tenant) {
                return Err(InvalidKeyRing::RepeatedTenant { tenant: keys.tenant });
            }
            ring.set(keys)?;
        }
        Ok(ring)
    }

    /// Gives a tenant these keys, and no others.
    ///
    /// # Errors
    ///
    /// When they cannot stand with each other or beside those of the other tenants. Nothing has
    /// changed then.
    pub fn set(&mut self, keys: TenantKeys) -> Result<(), InvalidKeyRing> {
        check_tenant(&keys)?;
        for key in &keys.keys {
            if let Some(first) = self.owner(key).filter(|owner| **owner != keys.tenant) {
                let (first, second, key) = (first.clone(), keys.tenant, key.id().clone());
                return Err(InvalidKeyRing::SharedKey { first, second, key });
            }
        }
        if let Some(issuer) = &keys.issuer
            && let Some(first) = self.tenant_of_issuer(issuer.name.as_str())
            && *first != keys.tenant
        {
            let (first, second) = (first.clone(), keys.tenant);
            return Err(InvalidKeyRing::SharedIssuer { first, second });
        }
        let published = self.published.get(&keys.tenant).cloned();
        self.remove(&keys.tenant);
        if let Some(issuer) = &keys.issuer {
            let name = issuer.name.clone();
            Arc::make_mut(&mut self.issuers).insert(name, keys.tenant.clone());
            if let Some(published) = published.filter(|known| known.issuer == issuer.name) {
                self.published.set(keys.tenant.clone(), published);
            }
        }
        let owners = Arc::make_mut(&mut self.owners);
        for key in &keys.keys {
            owners.insert(*key.fingerprint(), keys.tenant.clone());
        }
        self.tenants.set(keys.tenant.clone(), Arc::new(keys));
        Ok(())
    }

    /// Takes a tenant and its keys out. Yields whether it was there.
    pub fn remove(&mut self, tenant: &Tenant) -> bool {
        let Some(removed) = self.tenants.remove(tenant) else { return false };
        let owners = Arc::make_mut(&mut self.owners);
        for key in &removed.keys {
            owners.remove(key.fingerprint());
        }
        if let Some(issuer) = &removed.issuer {
            Arc::make_mut(&mut self.issuers).remove(&issuer.name);
            self.published.remove(tenant);
        }
        true
    }

    /// The tenant a key is of, whatever it is called there.
    pub fn owner(&self, key: &VerificationKey) -> Option<&Tenant> {
        self.owners.get(key.fingerprint())
    }

    /// Takes the keys that an issuer has published, instead of those before. Yields whether it is still
    /// the tenant's: otherwise nothing has changed.
    ///
    /// They may be keys of others too, because they are only asked for tokens that name the issuer:
    /// who publishes a foreign key harms itself.
    pub fn publish(
        &mut self,
        tenant: &Tenant,
        issuer: &IssuerName,
        keys: Vec<VerificationKey>,
    ) -> bool {
        if self.tenant_of_issuer(issuer.as_str()) != Some(tenant) {
            return false;
        }
        let published = Published { issuer: issuer.clone(), keys };
        self.published.set(tenant.clone(), Arc::new(published));
        true
    }

    /// The tenant an issuer issues for.
    pub fn tenant_of_issuer(&self, name: &str) -> Option<&Tenant> {
        self.issuers.get(name)
    }

    /// How many keys issuers have published, as far as they are known.
    pub fn published_keys(&self) -> usize {
        self.published.iter().map(|(_, published)| published.keys.len()).sum()
    }

    pub(crate) fn published(&self, tenant: &Tenant) -> Option<&Arc<Published>> {
        self.published.get(tenant)
    }

    /// The tenants there are, in no order.
    pub fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.tenants.iter().map(|(tenant, _)| tenant)
    }

    pub fn contains(&self, tenant: &Tenant) -> bool {
        self.tenants.get(tenant).is_some()
    }

    pub(crate) fn keys_of(&self, tenant: &Tenant) -> Option<&Arc<TenantKeys>> {
        self.tenants.get(tenant)
    }
}

impl TenantKeys {
    /// What stands for the keys and the issuer that no other tenant may have, under each key of
    /// `vault`.
    pub fn marks(&self, vault: &Vault) -> Vec<Mark> {
        let keys = self.keys.iter().map(|key| *key.fingerprint());
        let issuer = self.issuer.iter().map(|issuer| issuer.name.fingerprint());
        keys.chain(issuer).flat_map(|fingerprint| vault.marks(&fingerprint)).collect()
    }

    pub(crate) fn api_key(&self, id: &str) -> Option<&ApiKey> {
        self.api_keys.iter().find(|key| key.id().as_str() == id)
    }
}

fn check_tenant(keys: &TenantKeys) -> Result<(), InvalidKeyRing> {
    let tenant = &keys.tenant;
    if keys.keys.len() > KeyRing::MAX_KEYS || keys.api_keys.len() > KeyRing::MAX_KEYS {
        return Err(InvalidKeyRing::TooManyKeys { tenant: tenant.clone() });
    }
    let mut seen = HashSet::new();
    if let Some(key) = keys.keys.iter().find(|key| !seen.insert(key.id())) {
        return Err(InvalidKeyRing::RepeatedKey { tenant: tenant.clone(), key: key.id().clone() });
    }
    let mut seen = HashSet::new();
    if let Some(key) = keys.api_keys.iter().find(|key| !seen.insert(key.id())) {
        let (tenant, key) = (tenant.clone(), key.id().clone());
        return Err(InvalidKeyRing::RepeatedApiKey { tenant, key });
    }
    Ok(())
}

/// Why keys cannot stand together.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidKeyRing {
    #[error("tenant `{tenant}` is listed twice")]
    RepeatedTenant { tenant: Tenant },
    #[error("tenant `{tenant}` has two keys with the id `{key}`")]
    RepeatedKey { tenant: Tenant, key: KeyId },
    #[error("tenant `{tenant}` has two api keys with the id `{key}`")]
    RepeatedApiKey { tenant: Tenant, key: ApiKeyId },
    #[error("tenant `{tenant}` has more than {} keys of one kind", KeyRing::MAX_KEYS)]
    TooManyKeys { tenant: Tenant },
    #[error(
        "key `{key}` of tenant `{second}` is also a key of tenant `{first}`, \
         so it would not say which of them a token is for"
    )]
    SharedKey { first: Tenant, second: Tenant, key: KeyId },
    #[error("tenants `{first}` and `{second}` have the same issuer")]
    SharedIssuer { first: Tenant, second: Tenant },
}
