//! Tenants, their keys and how their channels are treated.

use std::collections::HashMap;

use tidewire_auth::{KeyId, KeyRing, SigningKey};
use tidewire_model::{ChannelRules, Retention, Tenant};
use tidewire_tenant::{Definition, Problems, TenantDetails};

use crate::config::document::{self, AlgorithmName};
use crate::config::draft::Draft;

/// What is known of all tenants.
pub(super) struct Tenants {
    pub(super) ring: KeyRing,
    pub(super) signing: HashMap<Tenant, SigningKey>,
    pub(super) channel_rules: ChannelRules,
    /// Of those that are treated otherwise than most are.
    pub(super) details: HashMap<Tenant, TenantDetails>,
}

/// `history` is what is kept of channels of which no rule says something else.
pub(super) fn check(
    tenants: &[document::Tenant],
    history: Retention,
    draft: &mut Draft,
) -> Option<Tenants> {
    let mut problems = Problems::default();
    let valid: Vec<_> = tenants
        .iter()
        .enumerate()
        .filter_map(|(index, tenant)| {
            let path = format!("tenants[{index}]");
            tidewire_tenant::check(tenant, &path, history, &mut problems)
        })
        .collect();
    for problem in problems {
        draft.problem(&problem.path, &problem.message, None);
    }
    if valid.len() < tenants.len() {
        return None;
    }
    let mut signing = HashMap::new();
    let mut all_details = HashMap::new();
    let mut channel_rules = ChannelRules::default();
    let mut all_keys = Vec::new();
    for (Definition { keys, rules, details }, written) in valid.into_iter().zip(tenants) {
        let tenant = &keys.tenant;
        signing.extend(first_signing(written).map(|key| (tenant.clone(), key)));
        if details != TenantDetails::default() {
            all_details.insert(tenant.clone(), details);
        }
        channel_rules.set(tenant.clone(), rules);
        all_keys.push(keys);
    }
    let ring = draft.accept("tenants", KeyRing::new(all_keys))?;
    Some(Tenants { ring, signing, channel_rules, details: all_details })
}

fn first_signing(tenant: &document::Tenant) -> Option<SigningKey> {
    let is_symmetric = |key: &&document::TokenKey| key.algorithm == AlgorithmName::Hs256;
    let key = tenant.keys.iter().find(is_symmetric)?;
    let id = KeyId::parse(&key.id).ok()?;
    SigningKey::from_secret(Some(id), key.secret.as_ref()?.expose().as_bytes()).ok()
}
