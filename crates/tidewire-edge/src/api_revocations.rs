//! Revoking over HTTP, for a tenant's own servers with an API key.

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use tidewire_auth::Scope;
use tidewire_model::{ErrorCode, Failure};
use tokio::time::Instant;

use crate::admin::in_force_within;
use crate::api::{Refused, authenticate, read, respond};
use crate::edge::Caller;
use crate::revocations::{Asked, RevokeError};
use crate::router::BODY_BYTES;
use crate::{Edge, metrics};

#[derive(Serialize)]
struct Revoked {
    before: u64,
    until: u64,
    in_force_by_ms: u128,
}

/// `POST /v1/{tenant}/revocations`: as on the admin listener, of one's own tenant. Who or what is revoked
/// need not be known here.
pub(crate) async fn revoke(
    State(edge): State<Edge>,
    Path(tenant): Path<String>,
    request: Request,
) -> Response {
    let started = Instant::now();
    let response = match accept(&edge, &tenant, request).await {
        Ok(revoked) => respond(StatusCode::ACCEPTED, &revoked),
        Err(refused) => refused.response(),
    };
    metrics::api_request(response.status().as_u16(), started.elapsed());
    response
}

async fn accept(edge: &Edge, tenant: &str, request: Request) -> Result<Revoked, Refused> {
    let server = authenticate(edge, tenant, request.headers(), Scope::Revoke)?;
    let peer = request.extensions().get::<Caller>().map(|caller| caller.peer.to_string());
    let body = read(request, BODY_BYTES).await?;
    let (target, before) =
        Asked::parse(&body).map_err(|message| Failure::new(ErrorCode::BadRequest, message))?;
    let shared = &edge.0;
    let (tenant, now) = (server.tenant, shared.age(Instant::now()));
    shared.revocations.paces.take(&tenant, now).map_err(|wait| {
        let message = "a tenant may revoke 20 times a second: a key or `all` takes one";
        Failure::new(ErrorCode::RateExceeded, message).retry_after(wait)
    })?;
    let revoked = shared.revocations.revoke(shared, (tenant, target), before).await;
    let revoked = revoked.map_err(|error| refused(&error))?;
    tracing::info!(
        target: "tidewire::audit", action = "revoke", tenant = %revoked.tenant,
        what = %revoked.target, before, ?peer, api_key = %server.key, "something was revoked"
    );
    let in_force_by_ms = in_force_within(edge).await.as_millis();
    Ok(Revoked { before, until: revoked.until, in_force_by_ms })
}

fn refused(error: &RevokeError) -> Refused {
    let because = error.to_string();
    match error {
        // There is none soon either.
        RevokeError::Full => Refused {
            status: StatusCode::INSUFFICIENT_STORAGE,
            failure: Failure::new(ErrorCode::LimitExceeded, because),
        },
        RevokeError::Store(_) => Failure::new(ErrorCode::Unavailable, because).into(),
    }
}
