use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, Request, Response, header};
use axum::middleware::{Next, from_fn};
use axum::routing::{MethodRouter, any, get, post};

use crate::{Edge, api, api_presence, api_revocations, api_tickets, upgrade};

/// Bytes of a request body; a batch holds up to a thousand publications.
pub(crate) const BODY_BYTES: usize = 4 << 20;

pub(crate) fn router(edge: Edge) -> Router {
    Router::new()
        .route("/v1/ws", any(upgrade::without_tenant))
        .route("/v1/{tenant}/ws", any(upgrade::with_tenant))
        .route("/v1/{tenant}/channels/{channel}/publications", post(api::publish))
        .route("/v1/{tenant}/channels/{channel}/presence", get(api_presence::members))
        .route("/v1/{tenant}/channels/{channel}/occupancy", get(api_presence::occupancy))
        .route("/v1/{tenant}/publications", post(api::publish_batch))
        .route("/v1/ticket", tickets(post(api_tickets::of_token)))
        .route("/v1/{tenant}/ticket", tickets(post(api_tickets::of_tenant)))
        .route("/v1/{tenant}/revocations", post(api_revocations::revoke))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(from_fn(no_store))
        .with_state(edge)
}

/// Tickets are fetched by pages as well, which ask whether they may.
fn tickets(routes: MethodRouter<Edge>) -> MethodRouter<Edge> {
    routes.options(api_tickets::preflight).layer(DefaultBodyLimit::max(api_tickets::BODY_BYTES))
}

/// Nothing here may be kept by a cache between us and the client.
pub(crate) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

async fn no_store(request: Request<axum::body::Body>, next: Next) -> Response<axum::body::Body> {
    let mut response = next.run(request).await;
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(NO_STORE);
    response
}
