//! From what is written down to what holds.

use std::collections::BTreeMap;
use std::num::NonZeroU8;

use tidewire_auth::{
    ApiKey, ApiKeyId, InvalidApiKey, InvalidKey, Issuer, IssuerName, KeyId, Scope, TenantKeys,
    VerificationKey,
};
use tidewire_model::{Action, ChannelRule, Filter, Permissions, Retention, Tenant};

use crate::document::{self, ActionName, AlgorithmName};
use crate::{CookieName, Incarnation, KeySource, Origins, Problems, TenantDetails, rules};

/// A tenant that has been checked.
#[derive(Clone, Debug)]
pub struct Definition {
    pub keys: TenantKeys,
    pub rules: Vec<ChannelRule>,
    pub details: TenantDetails,
}

/// Checks a tenant by itself; whether its keys are another's too is for the ring to say.
///
/// `path` is where it stands, for what is wrong with it. `history` is what is kept of channels of
/// which no rule says something else. Yields nothing if a problem was added.
pub fn check(
    tenant: &document::Tenant,
    path: &str,
    history: Retention,
    problems: &mut Problems,
) -> Option<Definition> {
    let keys = check_tenant(tenant, path, problems);
    let rules = rules::check(&tenant.rules, path, history, problems);
    let homes = match tenant.homes {
        Some(homes) => Some(problems.accept(&format!("{path}.homes"), check_homes(homes))?),
        None => None,
    };
    let listed = Origins::parse(&tenant.allowed_origins);
    let origins = problems.accept(&format!("{path}.allowed_origins"), listed)?;
    let cookie = match &tenant.cookie {
        Some(name) => {
            let name = check_cookie(name, &origins);
            Some(problems.accept(&format!("{path}.cookie"), name)?)
        }
        None => None,
    };
    let key_source = check_source(tenant, path, problems)?;
    let (sessions, limits) = (tenant.sessions.into(), tenant.limits);
    let incarnation = Incarnation::default();
    let details =
        TenantDetails { incarnation, sessions, homes, limits, origins, cookie, key_source };
    Some(Definition { keys: keys?, rules: rules?, details })
}

fn check_homes(homes: u32) -> Result<NonZeroU8, &'static str> {
    let homes = u8::try_from(homes).ok().filter(|homes| *homes <= MOST_HOMES);
    homes.and_then(NonZeroU8::new).ok_or("expected a whole number from 1 to 64")
}

/// A cookie without a list of pages would be everybody's who can make a browser ask.
fn check_cookie(name: &str, origins: &Origins) -> Result<CookieName, String> {
    if origins.is_empty() {
        return Err("needs `allowed_origins`, of whose pages alone it counts".into());
    }
    CookieName::parse(name).map_err(|error| error.to_string())
}

const MOST_HOMES: u8 = 64;

fn check_tenant(
    tenant: &document::Tenant,
    path: &str,
    problems: &mut Problems,
) -> Option<TenantKeys> {
    let name = problems.accept(&format!("{path}.name"), Tenant::parse(&tenant.name));
    let mut keys = Vec::new();
    for (index, key) in tenant.keys.iter().enumerate() {
        let path = format!("{path}.keys[{index}]");
        keys.extend(problems.accept(&path, token_key(key)));
    }
    let mut api_keys = Vec::new();
    for (index, key) in tenant.api_keys.iter().enumerate() {
        let path = format!("{path}.api_keys[{index}]");
        api_keys.extend(check_api_key(key, &path, problems));
    }
    let issuer = match &tenant.issuer {
        Some(issuer) => Some(check_issuer(issuer, &format!("{path}.issuer"), problems)?),
        None => None,
    };
    if tenant.keys.is_empty() && tenant.api_keys.is_empty() && issuer.is_none() {
        problems.add(path, "has no key, so nobody could prove to be of it");
        return None;
    }
    if keys.len() < tenant.keys.len() || api_keys.len() < tenant.api_keys.len() {
        return None;
    }
    Some(TenantKeys { tenant: name?, keys, api_keys, issuer })
}

fn check_issuer(issuer: &document::Issuer, path: &str, problems: &mut Problems) -> Option<Issuer> {
    let permissions = match &issuer.channels {
        Some(channels) => check_permissions(channels, &format!("{path}.channels"), problems)?,
        None => Permissions::default(),
    };
    let name = problems.accept(&format!("{path}.name"), IssuerName::parse(&issuer.name))?;
    Some(Issuer { name, audience: issuer.audience.clone(), permissions })
}

/// Yields nothing if a problem was added.
#[expect(clippy::option_option, reason = "a tenant need not have one")]
fn check_source(
    tenant: &document::Tenant,
    path: &str,
    problems: &mut Problems,
) -> Option<Option<KeySource>> {
    let Some(issuer) = &tenant.issuer else { return Some(None) };
    let source = KeySource::parse(&issuer.name, &issuer.jwks_url);
    problems.accept(&format!("{path}.issuer"), source).map(Some)
}

fn token_key(key: &document::TokenKey) -> Result<VerificationKey, KeyProblem> {
    let id = KeyId::parse(&key.id)?;
    match (key.algorithm, &key.secret, &key.public_key) {
        (AlgorithmName::Hs256, Some(secret), None) => {
            Ok(VerificationKey::from_secret(id, secret.expose().as_bytes())?)
        }
        (AlgorithmName::Hs256, ..) => Err(KeyProblem::NotSymmetric),
        (algorithm, None, Some(pem)) => {
            Ok(VerificationKey::from_public_pem(id, algorithm.into(), pem)?)
        }
        _ => Err(KeyProblem::NotAsymmetric),
    }
}

fn check_api_key(key: &document::ApiKey, path: &str, problems: &mut Problems) -> Option<ApiKey> {
    let permissions = match &key.channels {
        Some(channels) => check_permissions(channels, &format!("{path}.channels"), problems)?,
        None => Permissions::all(),
    };
    problems.accept(path, api_key(key, permissions))
}

fn api_key(key: &document::ApiKey, permissions: Permissions) -> Result<ApiKey, KeyProblem> {
    let id = ApiKeyId::parse(&key.id)?;
    let mut checked = match (&key.secret, &key.sha256) {
        (Some(secret), None) => ApiKey::from_secret(id, secret.expose(), permissions)?,
        (None, Some(hash)) => ApiKey::from_sha256(id, hash, permissions)?,
        _ => return Err(KeyProblem::NotOneSecret),
    };
    checked = match (&key.previous_sha256, key.previous_until) {
        (None, None) => checked,
        (Some(hash), Some(until)) => checked.with_previous(hash, until)?,
        _ => return Err(KeyProblem::HalfPrevious),
    };
    if let Some(scopes) = &key.scopes {
        checked = checked.with_scopes(scopes.iter().copied().map(Scope::from).collect());
    }
    Ok(match key.expires_at {
        Some(expires_at) => checked.expiring_at(expires_at),
        None => checked,
    })
}

fn check_permissions(
    channels: &BTreeMap<String, Vec<ActionName>>,
    path: &str,
    problems: &mut Problems,
) -> Option<Permissions> {
    if channels.len() > Permissions::MAX_FILTERS {
        let message = format!("at most {} patterns are allowed", Permissions::MAX_FILTERS);
        problems.add(path, message);
        return None;
    }
    let mut permissions = Permissions::default();
    for (pattern, actions) in channels {
        let filter = problems.accept(&format!("{path}.{pattern:?}"), Filter::parse(pattern))?;
        permissions = permissions.grant(filter, actions.iter().copied().map(Action::from));
    }
    Some(permissions)
}

/// Why an entry is no key.
#[derive(Debug, thiserror::Error)]
enum KeyProblem {
    #[error(transparent)]
    Token(#[from] InvalidKey),
    #[error(transparent)]
    Api(#[from] InvalidApiKey),
    #[error("an `HS256` key has `secret` or `secret_file` and no `public_key`")]
    NotSymmetric,
    #[error("a key of this algorithm has `public_key` or `public_key_file` and no `secret`")]
    NotAsymmetric,
    #[error("an api key has one of `secret`, `secret_file` and `sha256`")]
    NotOneSecret,
    #[error("`previous_sha256` and `previous_until` are there together or not at all")]
    HalfPrevious,
}
