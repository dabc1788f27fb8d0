use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use serde::Serialize;
use tidewire_auth::{
    ChannelClaims, Claims, GeneratedKey, KeyId, KeyRing, Refusal, SigningKey, TenantKeys,
    VerificationKey, Verifier,
};
use tidewire_model::{ChannelGrant, Identity, Permissions, Tenant};

use super::config::load;
use crate::cli::{ChannelActions, Create, Keygen, TokenCommand, Verify};
use crate::output;

pub(crate) fn run(command: TokenCommand) -> anyhow::Result<ExitCode> {
    match command {
        TokenCommand::Create(create) => print(&token(&create)?),
        TokenCommand::Verify(verify) => print(&bearer(&verify)?),
        TokenCommand::Keygen(keygen) => print(&fresh_key(&keygen)),
    }
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    output::data(&format!("{}\n", text.trim_end()))?;
    Ok(ExitCode::SUCCESS)
}

fn token(create: &Create) -> anyhow::Result<String> {
    let (key, audience) = signing_key(create)?;
    let now = now()?;
    let claims = Claims {
        tenant: Some(create.tenant.clone()),
        user: create.user.clone(),
        audience: vec![create.audience.clone().unwrap_or(audience)],
        expires_at: now + create.ttl.duration().as_secs(),
        not_before: None,
        issued_at: Some(now),
        token_id: None,
        permissions: permissions(create),
    };
    if claims.permissions.len() > Permissions::MAX_FILTERS {
        bail!("at most {} patterns are allowed", Permissions::MAX_FILTERS);
    }
    Ok(match &create.only {
        Some(ChannelActions { channel, actions }) => {
            let (channel, actions) = (channel.clone(), actions.iter().copied().collect());
            key.sign_for_channel(&ChannelClaims { claims, channel, actions })
        }
        None => key.sign(&claims),
    })
}

fn permissions(create: &Create) -> Permissions {
    let granted = create.grants.iter().fold(Permissions::default(), |permissions, grant| {
        permissions.grant(grant.filter.clone(), grant.actions.iter().copied())
    });
    create.denials.iter().fold(granted, |permissions, denied| {
        permissions.deny(denied.filter.clone(), denied.actions.iter().copied())
    })
}

/// The key to sign with and the audience that goes with it.
fn signing_key(create: &Create) -> anyhow::Result<(SigningKey, String)> {
    let source = &create.key;
    let default_audience = Verifier::DEFAULT_AUDIENCE.to_owned();
    if let Some(path) = &source.config {
        let config = load(Some(path))?.config;
        let key = config.signing_key(&create.tenant).with_context(|| {
            format!("{} has no HS256 key for tenant `{}`", path.display(), create.tenant)
        })?;
        return Ok((key.clone(), config.auth.audience));
    }
    let id = create.kid.clone();
    if let (Some(path), Some(algorithm)) = (&source.key_file, create.algorithm) {
        let key = SigningKey::from_private_pem(id, algorithm, &read_text(path)?);
        let key = key.with_context(|| format!("{} cannot sign", path.display()))?;
        return Ok((key, default_audience));
    }
    let secret = secret(source.secret.as_deref(), source.secret_file.as_deref())?;
    Ok((SigningKey::from_secret(id, secret.as_bytes())?, default_audience))
}

/// Who bears the token, as JSON.
fn bearer(verify: &Verify) -> anyhow::Result<String> {
    let token = match verify.token.as_str() {
        "-" => read_stdin()?,
        token => token.to_owned(),
    };
    let token = token.trim();
    // Whoever runs this holds the keys, so the reason gives nothing away.
    let (verifier, now) = (verifier(verify, token)?, now()?);
    Ok(match verifier.examine(token, now) {
        Err(Refusal::OfOneChannel) => {
            let (identity, only) = verifier.examine_any_grant(token, now)?;
            serde_json::to_string_pretty(&OfOneChannel { identity, only })?
        }
        verdict => serde_json::to_string_pretty(&verdict?)?,
    })
}

#[derive(Serialize)]
struct OfOneChannel {
    #[serde(flatten)]
    identity: Identity,
    only: ChannelGrant,
}

fn verifier(verify: &Verify, token: &str) -> anyhow::Result<Verifier> {
    let verifier = match (&verify.key.config, &verify.tenant) {
        (Some(path), _) => {
            let config = load(Some(path))?.config;
            config.verifier(config.auth.ring.clone())
        }
        (None, Some(tenant)) => Verifier::new(key_ring(verify, tenant, token)?),
        (None, None) => bail!("`--tenant` is needed to know whose key it is"),
    };
    Ok(match &verify.audience {
        Some(audience) => verifier.with_audience(audience),
        None => verifier,
    })
}

/// One key, which goes by whatever name the token gives it.
fn key_ring(verify: &Verify, tenant: &Tenant, token: &str) -> anyhow::Result<KeyRing> {
    let unnamed = || KeyId::parse("unnamed").expect("a valid id");
    let id = KeyId::named_in(token).unwrap_or_else(unnamed);
    let source = &verify.key;
    let key = if let (Some(path), Some(algorithm)) = (&source.key_file, verify.algorithm) {
        VerificationKey::from_public_pem(id, algorithm, &read_text(path)?)
            .with_context(|| format!("{} cannot verify", path.display()))?
    } else {
        let secret = secret(source.secret.as_deref(), source.secret_file.as_deref())?;
        VerificationKey::from_secret(id, secret.as_bytes())?
    };
    let keys =
        TenantKeys { tenant: tenant.clone(), keys: vec![key], api_keys: Vec::new(), issuer: None };
    Ok(KeyRing::new([keys])?)
}

fn fresh_key(keygen: &Keygen) -> String {
    match GeneratedKey::generate(keygen.algorithm) {
        GeneratedKey::Secret(secret) => secret,
        GeneratedKey::Pair { private_pem, public_pem } => format!("{private_pem}{public_pem}"),
    }
}

fn secret(secret: Option<&str>, file: Option<&Path>) -> anyhow::Result<String> {
    match (secret, file) {
        (Some(secret), _) => Ok(secret.to_owned()),
        (None, Some(path)) => Ok(read_text(path)?.trim_end_matches(['\n', '\r']).to_owned()),
        (None, None) => bail!("a key is needed"),
    }
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

fn read_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    let limit = 2 * Verifier::MAX_TOKEN_BYTES as u64;
    std::io::stdin().take(limit).read_to_string(&mut text)?;
    Ok(text)
}

/// Seconds since the Unix epoch.
fn now() -> anyhow::Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(since.context("the clock is set before 1970")?.as_secs())
}
