use std::collections::{HashMap, HashSet};

use tidewire_model::Tenant;

use crate::{ApiKey, ApiKeyId, KeyId, VerificationKey};

/// One tenant and everything that can prove somebody to be of it.
#[derive(Clone, Debug)]
pub struct TenantKeys {
    pub tenant: Tenant,
    /// The keys its tokens are signed with, at most [`KeyRing::MAX_KEYS`].
    pub keys: Vec<VerificationKey>,
    /// The keys of its servers, at most [`KeyRing::MAX_KEYS`].
    pub api_keys: Vec<ApiKey>,
}

/// All tenants and their keys.
///
/// No two tenants share a key, so that a key says which tenant it speaks for.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    tenants: HashMap<Tenant, TenantKeys>,
}

impl KeyRing {
    /// The most keys of each kind a tenant may have. A token without `kid` is tried against each.
    pub const MAX_KEYS: usize = 16;

    pub fn new(tenants: impl IntoIterator<Item = TenantKeys>) -> Result<Self, InvalidKeyRing> {
        let mut ring = Self::default();
        let mut owners = HashMap::new();
        for keys in tenants {
            check_tenant(&keys)?;
            for key in &keys.keys {
                let owner = owners.entry(*key.fingerprint()).or_insert_with(|| keys.tenant.clone());
                if *owner != keys.tenant {
                    return Err(InvalidKeyRing::SharedKey {
                        first: owner.clone(),
                        second: keys.tenant,
                        key: key.id().clone(),
                    });
                }
            }
            if ring.tenants.contains_key(&keys.tenant) {
                return Err(InvalidKeyRing::RepeatedTenant { tenant: keys.tenant });
            }
            ring.tenants.insert(keys.tenant.clone(), keys);
        }
        Ok(ring)
    }

    /// The tenants there are, in no order.
    pub fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.tenants.keys()
    }

    pub fn contains(&self, tenant: &Tenant) -> bool {
        self.tenants.contains_key(tenant)
    }

    pub(crate) fn keys_of(&self, tenant: &Tenant) -> Option<&TenantKeys> {
        self.tenants.get(tenant)
    }
}

impl TenantKeys {
    pub(crate) fn key(&self, id: &str) -> Option<&VerificationKey> {
        self.keys.iter().find(|key| key.id().as_str() == id)
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
}
