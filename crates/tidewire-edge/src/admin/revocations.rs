//! What operators ask of what is revoked.

use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;
use tidewire_model::Tenant;

use super::access::Bearer;
use super::{Admin, Refused, Window, in_force_by_ms, parse_name, read};
use crate::edge::Caller;
use crate::revocations::{Asked, RevokeError};

/// Revocations in a list at once.
const PAGE: usize = 1_000;

pub(super) async fn revoke(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    (Extension(bearer), Extension(caller)): (Extension<Bearer>, Extension<Caller>),
    request: Request,
) -> Result<Response, Refused> {
    let tenant = known(&admin, &name)?;
    let bad = |message| Refused::new(StatusCode::BAD_REQUEST, "bad_revocation", message);
    let (target, before) = Asked::parse(&read(request).await?).map_err(bad)?;
    let shared = &admin.edge.0;
    let revoked = shared.revocations.revoke(shared, (tenant.clone(), target), before).await?;
    tracing::info!(
        target: "tidewire::audit", action = "revoke", %tenant, what = %revoked.target, before,
        peer = %caller.peer, %bearer, "something was revoked"
    );
    let in_force = in_force_by_ms(&admin.edge).await;
    let body = json!({ "before": before, "until": revoked.until, "in_force_by_ms": in_force });
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}

pub(super) async fn list(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    Query(window): Query<Window>,
) -> Result<Response, Refused> {
    let tenant = known(&admin, &name)?;
    let limit = window.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let all = admin.edge.0.revocations.of(&tenant).into_iter();
    let is_after = |about: &str| window.after.as_deref().is_none_or(|after| about > after);
    let mut page: Vec<_> = all.filter(|one| is_after(&one.about)).take(limit + 1).collect();
    let has_more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| has_more).map(|last| last.about.clone());
    let page: Vec<_> = page
        .iter()
        .map(|one| json!({ "about": one.about, "before": one.before, "until": one.until }))
        .collect();
    Ok(Json(json!({ "revocations": page, "next": next })).into_response())
}

fn known(admin: &Admin, name: &str) -> Result<Tenant, Refused> {
    let tenant = parse_name(name)?;
    let tenants = &admin.edge.0.tenants;
    if tenants.contains(&tenant) || tenants.is_incomplete() {
        return Ok(tenant);
    }
    let message = "there is no tenant of that name, and what is gone needs no revoking";
    Err(Refused::new(StatusCode::NOT_FOUND, "no_such_tenant", message))
}

impl From<RevokeError> for Refused {
    fn from(error: RevokeError) -> Self {
        let (status, code) = match error {
            RevokeError::Full => (StatusCode::INSUFFICIENT_STORAGE, "too_many_revocations"),
            RevokeError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        Self::new(status, code, error.to_string())
    }
}
