//! What operators ask of what is revoked.

use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::json;
use tidewire_auth::{KeyId, LEEWAY, Target, TokenId};
use tidewire_model::{Tenant, UserId};

use super::access::Bearer;
use super::{Admin, Refused, Window, in_force_by_ms, parse_name, read};
use crate::edge::{Caller, unix_seconds};
use crate::revocations::RevokeError;

/// Revocations in a list at once.
const PAGE: usize = 1_000;

/// What is to be revoked: one of the first four, issued until `before`, which is now unless given.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    token: Option<String>,
    user: Option<String>,
    key: Option<String>,
    #[serde(default)]
    all: bool,
    before: Option<u64>,
}

impl Asked {
    /// What it is about, and until when that was issued.
    pub(crate) fn parse(text: &[u8]) -> Result<(Target, u64), String> {
        let form = "send one of `token`, `user`, `key` (text) and `all` (true), and `before` \
                    (seconds since 1970) if it is not what was issued until now";
        let asked: Self = serde_json::from_slice(text).map_err(|_| form.to_owned())?;
        let target = match (asked.token, asked.user, asked.key, asked.all) {
            (Some(id), None, None, false) => {
                TokenId::parse(&id).map(Target::Token).map_err(said)?
            }
            (None, Some(name), None, false) => {
                UserId::parse(&name).map(Target::User).map_err(said)?
            }
            (None, None, Some(id), false) => KeyId::parse(&id).map(Target::Key).map_err(said)?,
            (None, None, None, true) => Target::All,
            _ => return Err(form.to_owned()),
        };
        let now = unix_seconds();
        let before = asked.before.unwrap_or(now);
        if before > now + LEEWAY.as_secs() {
            return Err(format!("`before` is more than {} s ahead", LEEWAY.as_secs()));
        }
        Ok((target, before))
    }
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

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
