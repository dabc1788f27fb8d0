//! What operators ask of the registry of tenants, on a listener of its own.

mod access;
mod keys;
mod revocations;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest as _, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use metrics::counter;
use serde::Deserialize;
use serde_json::{Value, json};
use tidewire_auth::SecretHash;
use tidewire_model::Tenant;
use tidewire_tenant::EditError;
use tokio::time::{Duration, timeout};

use crate::Edge;
use crate::edge::Caller;
use crate::router::NO_STORE;
use crate::tenants::{Condition, Listed, Origin, RegistryError, TenantRegistry};
use access::{Access, Bearer};

/// Bytes of a body: somewhat more than a document may have.
const BODY_BYTES: usize = 128 * 1_024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Tenants in a list at once.
const PAGE: usize = 1_000;
/// When a change holds on every node: where news gets through, and where it does not.
const IN_FORCE: Duration = Duration::from_secs(1);
const IN_FORCE_WITHOUT_NEWS: Duration = Duration::from_secs(6);
/// For `Retry-After`, in seconds.
const COME_BACK: HeaderValue = HeaderValue::from_static("5");

/// The routes that change tenants: whoever may use them owns the cluster.
///
/// - `GET /v1/tenants?after=NAME&limit=N`, `GET /v1/tenants/{tenant}`: what there is, without secrets
/// - `PUT /v1/tenants/{tenant}`, `DELETE /v1/tenants/{tenant}`: with `If-Match` or `If-None-Match: *`
///   only if nobody else was first
/// - `POST /v1/tenants/{tenant}/revocations`, `GET` of the same: what was issued is made void
/// - `POST /v1/tenants/{tenant}/keys`, `DELETE …/keys/{id}`, `POST …/api-keys`,
///   `DELETE …/api-keys/{id}`, `POST …/api-keys/{id}/rotate`: one key
/// - `GET /v1/registry`: how far this node has come; `POST /v1/registry/reseal`: documents that are
///   sealed with an older key, some at a time
///
/// Each needs one of `tokens` as `Authorization: Bearer`. Without tokens, which is for a loopback
/// address only, it needs the header [`CONTROL_HEADER`](crate::CONTROL_HEADER) and a `Host` that no
/// foreign page can have.
pub fn admin_router(edge: Edge, registry: TenantRegistry, tokens: Vec<SecretHash>) -> Router {
    let access = Arc::new(Access::new(tokens));
    Router::new()
        .route("/v1/tenants", get(list))
        .route("/v1/tenants/{tenant}", get(show).put(put).delete(remove))
        .merge(keys::routes())
        .route("/v1/tenants/{tenant}/revocations", get(revocations::list).post(revocations::revoke))
        .route("/v1/registry", get(standing))
        .route("/v1/registry/reseal", post(reseal))
        .layer(from_fn_with_state(access, admit))
        .with_state(Admin { edge, registry })
}

#[derive(Clone)]
struct Admin {
    edge: Edge,
    registry: TenantRegistry,
}

async fn admit(State(access): State<Arc<Access>>, mut request: Request, next: Next) -> Response {
    let mut response = match access.judge(request.headers()) {
        Ok(bearer) => {
            request.extensions_mut().insert(bearer);
            next.run(request).await
        }
        Err((status, message)) => Refused::new(status, "refused", message).into_response(),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    let code = response.status().as_u16().to_string();
    counter!("tidewire_admin_requests_total", "code" => code).increment(1);
    response
}

#[derive(Deserialize)]
struct Window {
    after: Option<String>,
    limit: Option<usize>,
}

async fn list(State(admin): State<Admin>, Query(window): Query<Window>) -> Response {
    let limit = window.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let all = admin.registry.list().into_iter();
    let is_after =
        |listed: &Listed| window.after.as_deref().is_none_or(|after| listed.name.as_str() > after);
    let mut tenants: Vec<_> = all.filter(is_after).take(limit + 1).collect();
    let has_more = tenants.len() > limit;
    tenants.truncate(limit);
    let next = tenants.last().filter(|_| has_more).map(|last| last.name.to_string());
    let tenants: Vec<_> = tenants.iter().map(listed).collect();
    Json(json!({ "tenants": tenants, "next": next })).into_response()
}

fn listed(listed: &Listed) -> Value {
    let (source, state) = match listed.origin {
        Origin::File => ("file", "in_force"),
        Origin::Registry => ("registry", "in_force"),
        Origin::Shadowed => ("shadowed", "without_effect"),
        Origin::Unreadable => ("registry", "unreadable"),
    };
    let Listed { name, revision, .. } = listed;
    json!({ "name": name, "revision": revision, "source": source, "state": state })
}

async fn show(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Response, Refused> {
    let tenant = parse_name(&name)?;
    let (revision, text) = admin.registry.document(&tenant).ok_or(RegistryError::Missing)?;
    let document = tidewire_tenant::masked(&text).ok_or(RegistryError::Missing)?;
    Ok(([(header::ETAG, etag(revision))], Json(document)).into_response())
}

async fn put(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    (Extension(bearer), Extension(caller)): (Extension<Bearer>, Extension<Caller>),
    request: Request,
) -> Result<Response, Refused> {
    let tenant = parse_name(&name)?;
    let condition = condition(request.headers())?;
    let text = read(request).await?;
    let put = admin.registry.put(&admin.edge, &tenant, &text, condition).await;
    let (revision, is_new) = put?;
    tracing::info!(
        target: "tidewire::audit", action = "put", %tenant, revision, peer = %caller.peer, %bearer,
        "a tenant was written"
    );
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let in_force = in_force_by_ms(&admin.edge).await;
    let body = Json(json!({ "revision": revision, "in_force_by_ms": in_force }));
    Ok((status, [(header::ETAG, etag(revision))], body).into_response())
}

async fn remove(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    (Extension(bearer), Extension(caller)): (Extension<Bearer>, Extension<Caller>),
    headers: HeaderMap,
) -> Result<StatusCode, Refused> {
    let tenant = parse_name(&name)?;
    let condition = condition(&headers)?;
    admin.registry.remove(&admin.edge, &tenant, condition).await?;
    tracing::info!(
        target: "tidewire::audit", action = "remove", %tenant, peer = %caller.peer, %bearer,
        "a tenant was removed"
    );
    Ok(StatusCode::NO_CONTENT)
}

async fn standing(State(admin): State<Admin>) -> Json<Value> {
    let standing = admin.registry.standing();
    Json(json!({
        "version": standing.version,
        "age_ms": standing.age.map(|age| age.as_millis()),
        "tenants": standing.tenants,
        "unreadable": standing.unreadable,
        "to_reseal": standing.to_reseal,
    }))
}

async fn reseal(
    State(admin): State<Admin>,
    (Extension(bearer), Extension(caller)): (Extension<Bearer>, Extension<Caller>),
) -> Result<Json<Value>, Refused> {
    let resealed = admin.registry.reseal(&admin.edge).await?;
    let left = admin.registry.standing().to_reseal;
    tracing::info!(
        target: "tidewire::audit", action = "reseal", resealed, left, peer = %caller.peer, %bearer,
        "documents were sealed with the newest key"
    );
    Ok(Json(json!({ "resealed": resealed, "left": left })))
}

/// News reaches the others where nothing is wrong.
pub(crate) async fn in_force_within(edge: &Edge) -> Duration {
    let is_well = edge.0.node.ailments().await.is_empty();
    if is_well { IN_FORCE } else { IN_FORCE_WITHOUT_NEWS }
}

async fn in_force_by_ms(edge: &Edge) -> Value {
    json!(in_force_within(edge).await.as_millis())
}

fn parse_name(name: &str) -> Result<Tenant, Refused> {
    let refuse = |error| Refused::new(StatusCode::BAD_REQUEST, "bad_name", format!("{error}"));
    Tenant::parse(name).map_err(refuse)
}

fn etag(revision: u64) -> String {
    format!("\"{revision}\"")
}

/// What the headers of RFC 9110 section 13.1 ask for.
fn condition(headers: &HeaderMap) -> Result<Condition, Refused> {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
    let condition = match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Some(Condition::Always),
        (None, Some("*")) => Some(Condition::Absent),
        (Some(tag), None) => {
            let revision = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            revision.and_then(|revision| revision.parse().ok()).map(Condition::Revision)
        }
        _ => None,
    };
    condition.ok_or_else(|| {
        let message = "`If-Match` takes one revision in quotes, `If-None-Match` takes `*`";
        Refused::new(StatusCode::BAD_REQUEST, "bad_condition", message)
    })
}

async fn read(request: Request) -> Result<Bytes, Refused> {
    let limited =
        axum::body::Body::new(http_body_util::Limited::new(request.into_body(), BODY_BYTES));
    let body = Bytes::from_request(Request::new(limited), &());
    match timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => {
            let message = format!("a body has at most {BODY_BYTES} bytes");
            Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message))
        }
        Err(_) => {
            let message = "the body took too long to come";
            Err(Refused::new(StatusCode::REQUEST_TIMEOUT, "timeout", message))
        }
    }
}

/// Why something was not done.
struct Refused {
    status: StatusCode,
    error: Value,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, error: json!({ "code": code, "message": message.into() }) }
    }
}

impl From<RegistryError> for Refused {
    fn from(error: RegistryError) -> Self {
        let (status, code) = match &error {
            RegistryError::Static => (StatusCode::CONFLICT, "tenant_is_static"),
            RegistryError::Missing => (StatusCode::NOT_FOUND, "no_such_tenant"),
            RegistryError::Bad(_) => (StatusCode::BAD_REQUEST, "bad_document"),
            RegistryError::Conflict { .. } => (StatusCode::PRECONDITION_FAILED, "conflict"),
            RegistryError::KeyInUse { .. } => (StatusCode::CONFLICT, "key_in_use"),
            RegistryError::IssuerInUse { .. } => (StatusCode::CONFLICT, "issuer_in_use"),
            RegistryError::Edit(EditError::Exists) => (StatusCode::CONFLICT, "key_exists"),
            RegistryError::Edit(EditError::Last) => (StatusCode::CONFLICT, "last_key"),
            RegistryError::Edit(EditError::Missing) => (StatusCode::NOT_FOUND, "no_such_key"),
            RegistryError::Full => (StatusCode::INSUFFICIENT_STORAGE, "registry_full"),
            RegistryError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        let mut refused = Self::new(status, code, error.to_string());
        if let RegistryError::Bad(problems) = error {
            let problems = problems.into_iter();
            let problems =
                problems.map(|problem| json!({ "path": problem.path, "message": problem.message }));
            refused.error["problems"] = problems.collect();
        }
        refused
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.error }))).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, COME_BACK);
        }
        response
    }
}
