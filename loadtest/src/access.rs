//! Who the clients are.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tidewire_auth::{Claims, SigningKey};
use tidewire_client::Token;
use tidewire_model::{Action, Filter, Permissions, Tenant, UserId};
use tidewire_transport::http;

use crate::cli::{Target, TenantKey};

/// Tenants, and what proves that a client is one of theirs.
pub(crate) struct Access {
    audience: String,
    credentials: Vec<(Tenant, Credential)>,
}

enum Credential {
    /// Signs a token for every user.
    Key(SigningKey),
    /// Is everybody's.
    Token(Token),
}

/// Longer than the longest run, and short in case a token leaks.
const LIFETIME: Duration = Duration::from_hours(1);

impl Access {
    /// Reads the keys, or asks the `tidewire dev` at the first address.
    pub(crate) async fn open(target: &Target) -> Result<Self> {
        let credentials = if target.dev {
            vec![ask(&target.url[0]).await?]
        } else {
            target.tenant_key.iter().map(read).collect::<Result<_>>()?
        };
        Ok(Self { audience: target.audience.clone(), credentials })
    }

    pub(crate) fn tenants(&self) -> usize {
        self.credentials.len()
    }

    /// The tenant of the client of this number; clients are spread evenly.
    pub(crate) fn tenant(&self, number: usize) -> &Tenant {
        &self.credentials[number % self.credentials.len()].0
    }

    /// A token of the same tenant that permits what the test does, for an hour.
    pub(crate) fn token(&self, number: usize, user: &str) -> Result<Token> {
        let (tenant, credential) = &self.credentials[number % self.credentials.len()];
        let key = match credential {
            Credential::Token(token) => return Ok(token.clone()),
            Credential::Key(key) => key,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let channels = Filter::parse("loadtest/**")?;
        Ok(key
            .sign(&Claims {
                tenant: Some(tenant.clone()),
                user: UserId::parse(user)?,
                audience: vec![self.audience.clone()],
                expires_at: now + LIFETIME.as_secs(),
                not_before: None,
                issued_at: Some(now),
                token_id: None,
                permissions: Permissions::default()
                    .grant(channels, [Action::Subscribe, Action::Publish]),
            })
            .into())
    }
}

fn read(key: &TenantKey) -> Result<(Tenant, Credential)> {
    let TenantKey { tenant, file } = key;
    let secret = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the secret of {tenant} from {}", file.display()))?;
    let secret = secret.trim_end_matches(['\r', '\n']);
    let key = SigningKey::from_secret(None, secret.as_bytes())
        .with_context(|| format!("{} cannot sign for {tenant}", file.display()))?;
    Ok((tenant.clone(), Credential::Key(key)))
}

/// What `tidewire dev` hands out.
#[derive(Deserialize)]
struct HandedOut {
    tenant: Tenant,
    token: String,
}

async fn ask(url: &str) -> Result<(Tenant, Credential)> {
    let Some(authority) = url.strip_prefix("ws://") else {
        bail!("{url} does not begin with ws://");
    };
    let url = format!("http://{}/dev/token?user=loadtest", authority.trim_end_matches('/'));
    let answer = http::request(::http::Method::GET, &url, &[], "").await?;
    if !answer.status.is_success() {
        bail!("{url} answered {}: is it `tidewire dev`?", answer.status);
    }
    let handed_out: HandedOut = serde_json::from_slice(&answer.body)
        .with_context(|| format!("{url} did not answer with a token"))?;
    Ok((handed_out.tenant, Credential::Token(handed_out.token.into())))
}
