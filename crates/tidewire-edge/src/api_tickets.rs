//! Exchanging a token, or a server's key, for a ticket, over HTTP: from pages too, of the tenant's origins.

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tidewire_auth::{ApiIdentity, Refusal, Scope};
use tidewire_model::{
    ErrorCode, Failure, Grants, Identity, Permissions, Provenance, Tenant, Token, UserId,
};
use tokio::time::{Duration, Instant};

use crate::api::{Refused, authenticate, malformed, read, respond};
use crate::edge::unix_seconds;
use crate::handshake::REVOKED;
use crate::origin::{Entrance, origin};
use crate::tickets::{TICKET_LIFE, TicketRecord};
use crate::upgrade::is_foreign;
use crate::{Edge, cookies, metrics};

/// Bytes of a body.
pub(crate) const BODY_BYTES: usize = 64 * 1_024;
/// How long a server's user may be connected without another ticket, in seconds, at most and unless said.
const LONGEST: u64 = 3_600;
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// For whom a server wants a ticket. What it does not say is as with its key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    user: String,
    #[serde(default)]
    channels: Option<Grants>,
    #[serde(default)]
    denied: Grants,
    /// Seconds.
    #[serde(default)]
    ttl: Option<u64>,
}

#[derive(Serialize)]
struct Issued {
    ticket: String,
    expires_in: u64,
}

/// Who wants a ticket.
enum Asker {
    /// For itself.
    User(Identity),
    /// The same, by the cookie of a page.
    Page(Identity),
    /// For one of its users.
    Server(ApiIdentity),
}

impl Asker {
    fn tenant(&self) -> &Tenant {
        match self {
            Self::User(identity) | Self::Page(identity) => &identity.tenant,
            Self::Server(identity) => &identity.tenant,
        }
    }
}

/// `POST /v1/{tenant}/ticket`
pub(crate) async fn of_tenant(
    State(edge): State<Edge>,
    Path(tenant): Path<String>,
    request: Request,
) -> Response {
    exchange(&edge, Some(&tenant), request).await
}

/// `POST /v1/ticket`, for who has a token.
pub(crate) async fn of_token(State(edge): State<Edge>, request: Request) -> Response {
    exchange(&edge, None, request).await
}

/// `OPTIONS`: lets a page ask, which decides nothing. Whether it may read the answer is known once it has
/// proved who it is; earlier it would tell which tenants there are.
pub(crate) async fn preflight(State(edge): State<Edge>, headers: HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let answer = response.headers_mut();
    answer.insert(header::VARY, HeaderValue::from_static("origin"));
    if is_foreign(&edge, &headers) {
        return response;
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "POST"),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, tidewire-control"),
            (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
            (header::ACCESS_CONTROL_MAX_AGE, "600"),
        ] {
            answer.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

async fn exchange(edge: &Edge, tenant: Option<&str>, request: Request) -> Response {
    let started = Instant::now();
    let page = request.headers().get(header::ORIGIN).cloned();
    let (mut reader, mut is_by_cookie) = (None, false);
    let exchanged = match identify(edge, tenant, request.headers()).await {
        Ok(asker) => {
            is_by_cookie = matches!(asker, Asker::Page(_));
            let from = origin(request.headers());
            if from.as_deref().is_some_and(|from| lists(edge, asker.tenant(), from)) {
                reader = page;
            }
            issue(edge, asker, request).await
        }
        Err(failure) => Err(failure.into()),
    };
    let mut response = match exchanged {
        Ok(issued) => respond(StatusCode::CREATED, &issued),
        Err(refused) => refused.response(),
    };
    let result = match response.status() {
        StatusCode::CREATED => "issued",
        status if status.is_server_error() => "unavailable",
        _ => "refused",
    };
    metrics::ticket(result);
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("origin"));
    if let Some(page) = reader {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, page);
        if is_by_cookie {
            response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
    }
    metrics::api_request(response.status().as_u16(), started.elapsed());
    response
}

/// Whether somebody has written down that pages of `origin` may use the tenant.
fn lists(edge: &Edge, tenant: &Tenant, origin: &str) -> bool {
    let of_node = edge.0.config.allowed_origins.iter().any(|listed| listed == origin);
    edge.0.tenants.lists_origin(tenant, origin)
        || (of_node && edge.0.tenants.allows_origin(tenant, Some(origin)))
}

async fn identify(
    edge: &Edge,
    tenant: Option<&str>,
    headers: &HeaderMap,
) -> Result<Asker, Failure> {
    if is_foreign(edge, headers) {
        return Err(Failure::new(ErrorCode::OriginDenied, "this origin may not connect"));
    }
    if let Some(token) = token(headers) {
        return identify_user(edge, tenant, (&token, headers)).await.map(Asker::User);
    }
    if let Some(identified) = identify_page(edge, tenant, headers).await {
        return identified.map(Asker::Page);
    }
    authenticate(edge, tenant.unwrap_or_default(), headers, Scope::Tickets).map(Asker::Server)
}

/// The token of a request, if it has one and not a key: a JWT has three parts, a key two.
fn token(headers: &HeaderMap) -> Option<Token> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let is_token = scheme.eq_ignore_ascii_case("bearer") && token.matches('.').count() == 2;
    is_token.then(|| token.trim().into())
}

async fn identify_user(
    edge: &Edge,
    tenant: Option<&str>,
    (token, headers): (&Token, &HeaderMap),
) -> Result<Identity, Failure> {
    let invalid = || Failure::new(ErrorCode::BadToken, "the token is not valid here");
    let named = tenant.map(Tenant::parse).transpose().map_err(|_| invalid())?;
    let entrance = Entrance::new(named, headers);
    let failure = match edge.0.examine(token).await {
        Ok(identity) if entrance.is_of(&identity.tenant) => {
            metrics::authenticated("token", "ok");
            return is_from_home(edge, &identity.tenant, &entrance).map(|()| identity);
        }
        Err(Refusal::UnknownTenant) if edge.0.tenants.is_incomplete() => unavailable(),
        Err(Refusal::Expired) => Failure::new(ErrorCode::TokenExpired, "the token has expired"),
        Err(Refusal::Revoked) => Failure::new(ErrorCode::TokenRevoked, REVOKED),
        Ok(_) | Err(_) => invalid(),
    };
    metrics::authenticated("token", "invalid");
    Err(failure)
}

/// Who sends a cookie, if it counts. One that holds nothing good is none: another answer than to who has no
/// credential would tell which tenants there are.
async fn identify_page(
    edge: &Edge,
    tenant: Option<&str>,
    headers: &HeaderMap,
) -> Option<Result<Identity, Failure>> {
    if headers.contains_key(header::AUTHORIZATION) {
        return None;
    }
    let named = Tenant::parse(tenant?).ok()?;
    let token = cookies::token(edge, &named, headers)?;
    let identified = identify_user(edge, tenant, (&token, headers)).await;
    let is_none = matches!(&identified, Err(failure) if failure.code == ErrorCode::BadToken);
    (!is_none).then_some(identified)
}

fn is_from_home(edge: &Edge, tenant: &Tenant, entrance: &Entrance) -> Result<(), Failure> {
    if edge.0.tenants.allows_origin(tenant, entrance.origin.as_deref()) {
        return Ok(());
    }
    let message = "pages of this origin may not use the tenant";
    Err(Failure::new(ErrorCode::OriginDenied, message))
}

async fn issue(edge: &Edge, asker: Asker, request: Request) -> Result<Issued, Refused> {
    let Ok(_room) = edge.0.tickets.room.try_acquire() else {
        let message = "many others want tickets; come back";
        let wait = Duration::from_secs(1);
        return Err(Failure::new(ErrorCode::Overloaded, message).retry_after(wait).into());
    };
    let tenant = asker.tenant().clone();
    let now = edge.0.age(Instant::now());
    edge.0.tickets.charge(&tenant, now).map_err(|wait| {
        let message = "the tenant has fetched too many tickets; come back";
        Failure::new(ErrorCode::RateExceeded, message).retry_after(wait)
    })?;
    // Before anything else is read of it: whoever has the name later may be somebody else.
    let incarnation = edge.0.tenants.incarnation(&tenant).number();
    let origin = origin(request.headers());
    let identity = match asker {
        Asker::User(identity) | Asker::Page(identity) => identity,
        Asker::Server(server) => {
            let body = read(request, BODY_BYTES).await?;
            let wanted = serde_json::from_slice(&body).map_err(|error| malformed(&error))?;
            identity_of(&server, wanted)?
        }
    };
    let issued = edge.0.tickets.issue(&TicketRecord { identity, origin, incarnation }).await;
    let ticket = issued.map_err(|error| {
        tracing::warn!(%error, "cannot keep a ticket");
        unavailable()
    })?;
    Ok(Issued { ticket: ticket.expose(), expires_in: TICKET_LIFE.as_secs() })
}

fn unavailable() -> Failure {
    let message = "tickets cannot be kept now; come back";
    Failure::new(ErrorCode::Unavailable, message).retry_after(Duration::from_secs(1))
}

/// Who a server says its user is: with no rights that the server has not.
fn identity_of(server: &ApiIdentity, wanted: Wanted) -> Result<Identity, Failure> {
    let user = UserId::parse(&wanted.user)
        .map_err(|error| Failure::new(ErrorCode::BadRequest, error.to_string()))?;
    let ttl = wanted.ttl.unwrap_or(LONGEST);
    if !(1..=LONGEST).contains(&ttl) {
        let message = format!("`ttl` is a number of seconds from 1 to {LONGEST}");
        return Err(Failure::new(ErrorCode::BadRequest, message));
    }
    let channels = wanted.channels.unwrap_or_else(|| server.permissions.granted().clone());
    if !server.permissions.covers(&channels) {
        let message = "the api key may not do itself what it would allow with `channels`";
        return Err(Failure::new(ErrorCode::PermissionDenied, message));
    }
    let permissions = Permissions::new(channels, wanted.denied).denied_too(&server.permissions);
    if permissions.len() > Permissions::MAX_FILTERS {
        let most = Permissions::MAX_FILTERS;
        let message = format!("`channels` and `denied` may have {most} filters together");
        return Err(Failure::new(ErrorCode::BadRequest, message));
    }
    let now = unix_seconds();
    Ok(Identity {
        tenant: server.tenant.clone(),
        user,
        permissions,
        expires_at: Some(now + ttl),
        provenance: Some(Provenance { key: server.key.trace(), token: None, issued_at: now }),
    })
}
