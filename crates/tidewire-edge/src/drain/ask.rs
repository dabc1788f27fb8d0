//! What operators ask about leaving, and ask a node to do.

use std::sync::atomic::Ordering;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tidewire_model::NodeId;

use crate::Edge;

/// What a request that makes a node leave has to have, so that no foreign page that an operator looks
/// at can send one: a browser asks before it sends a header of this name, and is told no.
pub const CONTROL_HEADER: &str = "tidewire-control";

/// The routes that make nodes leave: whoever reaches them may, so they belong on the operators'
/// listener and nowhere else.
///
/// - `GET /drain`: how this node's drain goes
/// - `POST /drain`: makes this node leave, or with `?node=NAME` another one; 202 when it has been
///   told. Needs the header [`CONTROL_HEADER`].
pub fn drain_router(edge: Edge) -> Router {
    Router::new().route("/drain", get(progress).post(leave)).with_state(edge)
}

#[derive(Serialize)]
struct Progress {
    node: NodeId,
    state: &'static str,
    /// Connections with a session.
    remaining: usize,
    /// Clients asked to move.
    per_second: u32,
    /// Nobody is asked, because nobody could resume.
    held: bool,
}

async fn progress(State(edge): State<Edge>) -> Json<Progress> {
    let shared = &edge.0;
    Json(Progress {
        node: shared.node.id().clone(),
        state: shared.phase.borrow().name(),
        remaining: edge.connections(),
        per_second: shared.progress.per_second.load(Ordering::Relaxed),
        held: shared.progress.is_held(),
    })
}

#[derive(Deserialize)]
struct Wish {
    node: Option<String>,
}

#[derive(Serialize)]
struct Told {
    node: NodeId,
}

async fn leave(
    State(edge): State<Edge>,
    Query(wish): Query<Wish>,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<Told>), (StatusCode, String)> {
    if !headers.contains_key(CONTROL_HEADER) {
        let message = format!("this needs the header `{CONTROL_HEADER}`, with any value\n");
        return Err((StatusCode::FORBIDDEN, message));
    }
    let own = edge.0.node.id();
    let named = wish.node.map(|name| NodeId::parse(&name)).transpose();
    let node = named.map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))?;
    let node = node.unwrap_or_else(|| own.clone());
    if node == *own {
        edge.ask_to_leave();
    } else if edge.0.node.members().iter().any(|lease| lease.node == node) {
        edge.0.node.ask_to_leave(&node);
    } else {
        return Err((StatusCode::NOT_FOUND, format!("no live node is called `{node}`\n")));
    }
    Ok((StatusCode::ACCEPTED, Json(Told { node })))
}
