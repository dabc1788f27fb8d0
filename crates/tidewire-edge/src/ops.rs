//! What operators and their machines ask a node.

mod placement;
mod slow;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tidewire_store::NodeLease;

pub use self::placement::{Placed, TenantPlacement};
pub(crate) use self::slow::{SlowClient, Slowest};
use crate::Edge;

/// Renders the metrics in Prometheus' text format.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// The routes for operators: keep them off the open network.
///
/// - `GET /metrics`: Prometheus text format
/// - `GET /healthz`: 200 as long as the process answers; for liveness
/// - `GET /readyz`: 200 when the node takes clients, else 503 and why
/// - `GET /nodes`: the live nodes
/// - `GET /slow`: how many clients are behind with reading, and those that are most so; looks at every
///   connection, a moment of each worker's time
/// - `GET /placement/{tenant}`: the homes of a tenant, and where it would go next, best first
/// - `GET /placement`: the homes of every tenant that is known; with `?format=haproxy` or
///   `?format=nginx` as these read it
pub fn ops_router(edge: Edge, render: Render) -> Router {
    Router::new()
        .route("/metrics", get(move || async move { metrics(&render) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/nodes", get(nodes))
        .route("/slow", get(slow::slowest))
        .route("/placement", get(placement::of_all))
        .route("/placement/{tenant}", get(placement::of_one))
        .with_state(edge)
}

fn metrics(render: &Render) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], render()).into_response()
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

async fn ready(State(edge): State<Edge>) -> (StatusCode, Json<Readiness>) {
    let mut reasons = edge.0.node.ailments().await;
    if edge.is_draining() {
        reasons.insert(0, "the node is draining".into());
    }
    if edge.0.tenants.is_incomplete() {
        reasons.push("the registry of tenants has not been read yet".into());
    }
    if edge.0.cut_off().is_some() {
        reasons.push("what is revoked cannot be read: nobody is let in".into());
    }
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, reasons }))
}

async fn nodes(State(edge): State<Edge>) -> Json<Vec<NodeLease>> {
    Json(edge.0.node.members())
}
