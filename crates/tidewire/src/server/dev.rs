//! What `tidewire dev` adds: a tenant with keys made up on the spot, and a page to try it with.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tidewire_auth::{
    ApiKey, ApiKeyId, Claims, KeyId, KeyRing, SealKey, Sealer, SigningKey, TenantKeys, Vault,
    VerificationKey, Verifier, random_secret,
};
use tidewire_model::{ChannelRules, Permissions, Tenant, UserId};
use tidewire_tenant::Tenants;

/// The one tenant, and its keys.
#[derive(Clone)]
pub(crate) struct Playground {
    tenant: Tenant,
    secrets: Secrets,
}

/// What a node makes up when it starts for the first time.
#[derive(Clone, Eq, PartialEq, Deserialize, Serialize)]
pub(crate) struct Secrets {
    /// Signs the tokens of users.
    token: String,
    api_key: String,
    /// Seals sessions.
    resume: String,
}

impl Secrets {
    pub(crate) fn draw() -> Self {
        Self { token: random_secret(), api_key: random_secret(), resume: random_secret() }
    }
}

const TENANT: &str = "dev";
const KEY: &str = "dev";
const TOKEN_SECONDS: u64 = 24 * 60 * 60;
/// The page has its script and style inside, and speaks to where it came from.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
     img-src data:; connect-src 'self' ws: wss:; base-uri 'none'; frame-ancestors 'none'";

impl Playground {
    pub(crate) fn new(secrets: Secrets) -> Self {
        Self { tenant: Tenant::parse(TENANT).expect("a valid tenant"), secrets }
    }

    pub(crate) fn tenants(&self) -> anyhow::Result<Tenants> {
        let key = VerificationKey::from_secret(KeyId::parse(KEY)?, self.secrets.token.as_bytes())?;
        let api_key =
            ApiKey::from_secret(ApiKeyId::parse(KEY)?, &self.secrets.api_key, Permissions::all())?;
        let tenant = self.tenant.clone();
        let keys = TenantKeys { tenant, keys: vec![key], api_keys: vec![api_key], issuer: None };
        Ok(Tenants::new(KeyRing::new([keys])?, ChannelRules::default(), []))
    }

    pub(crate) fn sealer(&self) -> anyhow::Result<Sealer> {
        Ok(Sealer::new(&[SealKey::parse(&self.secrets.resume)?])?)
    }

    pub(crate) fn vault(&self) -> anyhow::Result<Vault> {
        Ok(Vault::new(&[SealKey::parse(&self.secrets.resume)?])?)
    }

    pub(crate) fn api_key(&self) -> String {
        format!("{KEY}.{}", self.secrets.api_key)
    }

    /// A token that may do everything for a day.
    pub(crate) fn token(&self, user: &UserId) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let key = SigningKey::from_secret(Some(KeyId::parse(KEY)?), self.secrets.token.as_bytes())?;
        Ok(key.sign(&Claims {
            tenant: Some(self.tenant.clone()),
            user: user.clone(),
            expires_at: now + TOKEN_SECONDS,
            not_before: None,
            issued_at: Some(now),
            token_id: None,
            audience: vec![Verifier::DEFAULT_AUDIENCE.into()],
            permissions: Permissions::all(),
        }))
    }

    pub(crate) fn routes(&self) -> Router {
        Router::new()
            .route("/", get(page))
            .route("/dev/token", get(hand_out))
            .with_state(self.clone())
    }
}

async fn page() -> Response {
    let headers = [(header::CONTENT_SECURITY_POLICY, PAGE_POLICY)];
    (headers, Html(include_str!("../page/index.html"))).into_response()
}

#[derive(Deserialize)]
struct Wish {
    user: Option<String>,
}

#[derive(Serialize)]
struct HandedOut {
    tenant: Tenant,
    token: String,
    url: String,
}

/// A token for whoever asks, as `user` or as somebody made up.
async fn hand_out(
    State(playground): State<Playground>,
    Query(wish): Query<Wish>,
    headers: HeaderMap,
) -> Result<Json<HandedOut>, (StatusCode, String)> {
    let user = wish.user.unwrap_or_else(|| format!("guest-{}", &random_secret()[..6]));
    let user =
        UserId::parse(&user).map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))?;
    let token = playground.token(&user).map_err(|error| {
        tracing::error!(%error, "cannot sign a token");
        (StatusCode::INTERNAL_SERVER_ERROR, "cannot sign a token\n".into())
    })?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let tenant = playground.tenant.clone();
    Ok(Json(HandedOut { url: format!("ws://{host}/v1/{tenant}/ws"), tenant, token }))
}

/// What a person sees who has just started it. `kept` says what becomes of its state when it stops.
pub(crate) fn welcome(
    (address, admin): (SocketAddr, SocketAddr),
    kept: &str,
    token: &str,
    api_key: &str,
) -> String {
    format!(
        "\
Tidewire is running in memory, for development. {kept}

  page       http://{address}/            open it twice and talk to yourself
  websocket  ws://{address}/v1/dev/ws      subprotocols tidewire.v1.json, tidewire.v1.protobuf
  metrics    http://{address}/metrics      also /healthz, /readyz, /nodes
  tokens     http://{address}/dev/token    anyone who can reach it gets one
  tenants    http://{admin}/            from this machine; they go when it stops

Publish from a server:

  curl -H 'Authorization: Bearer {api_key}' \\
       -d '{{\"data\":{{\"text\":\"hello\"}}}}' \\
       http://{address}/v1/dev/channels/chat%2Flobby/publications

Listen in a browser's console:

  const ws = new WebSocket('ws://{address}/v1/dev/ws', 'tidewire.v1.json')
  ws.onmessage = (frame) => console.log(frame.data)
  ws.onopen = () => ws.send(JSON.stringify([
    {{ id: 1, connect: {{ token: '{token}' }} }},
    {{ id: 2, subscribe: {{ channel: 'chat/lobby', last: 20 }} }},
  ]))

Or with this program:

  export TIDEWIRE_URL=ws://{address} TIDEWIRE_TOKEN={token}
  tidewire sub chat/lobby &
  tidewire pub chat/lobby '{{\"text\":\"hello\"}}'

Add a tenant of your own (docs/tenants.md):

  export TIDEWIRE_ADMIN=http://{admin}
  tidewire tenant create acme --generate-key
"
    )
}
