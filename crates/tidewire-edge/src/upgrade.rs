//! From an HTTP request to a connection.

use axum::body::Body;
use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use tidewire_model::{ErrorCode, Failure, Limit, Tenant};
use tidewire_protocol::Descriptor;
use tidewire_transport::Upgrade;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Duration, Instant};

use crate::api::Refused;
use crate::door::{Peer, come_back_after};
use crate::drain::Phase;
use crate::edge::{Caller, PathTenant};
use crate::handshake::Handshake;
use crate::origin::Entrance;
use crate::registry::{Arrival, Order, WorkerHandle};
use crate::router::NO_STORE;
use crate::tls::Accepted;
use crate::{Edge, metrics};

pub(crate) async fn without_tenant(
    State(edge): State<Edge>,
    Extension(caller): Extension<Caller>,
    mut request: Request,
) -> Response<Body> {
    respond(&edge, None, caller, &mut request)
}

/// Answers what is plainly an upgrade, which the router would do as well and at more cost: a fleet
/// that comes back is nothing but these.
pub(crate) fn shortcut<B>(
    edge: &Edge,
    caller: &Caller,
    request: &mut Request<B>,
) -> Option<Response<Body>> {
    if !request.headers().contains_key(header::UPGRADE) {
        return None;
    }
    let path = request.uri().path().strip_prefix("/v1/")?;
    let tenant = match path.strip_suffix("/ws") {
        Some(name) => Some(Tenant::parse(name).ok()?),
        None if path == "ws" => None,
        None => return None,
    };
    let mut response = respond(edge, tenant, caller.clone(), request);
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    Some(response)
}

/// A name that can be no tenant's is told apart from one that is not a tenant's only by the
/// verdict on the credential, which is the same.
pub(crate) async fn with_tenant(
    State(edge): State<Edge>,
    Path(tenant): Path<String>,
    Extension(caller): Extension<Caller>,
    mut request: Request,
) -> Response<Body> {
    match Tenant::parse(&tenant) {
        Ok(tenant) => respond(&edge, Some(tenant), caller, &mut request),
        Err(error) => refuse(StatusCode::BAD_REQUEST, error.to_string()),
    }
}

fn respond<B>(
    edge: &Edge,
    tenant: PathTenant,
    caller: Caller,
    request: &mut Request<B>,
) -> Response<Body> {
    let Some(worker) = caller.worker else {
        return refuse(StatusCode::NOT_FOUND, "clients connect elsewhere".into());
    };
    let heard = match caller.refused {
        None => edge.0.hear(caller.peer, request.headers()),
        Some(failure) => Err(*failure),
    };
    let peer = match heard {
        Ok(peer) => peer,
        Err(failure) => return come_back(failure),
    };
    if is_foreign(edge, request.headers()) {
        let origin = request.headers().get(header::ORIGIN);
        tracing::info!(?origin, "connection refused: its origin is not allowed");
        metrics::rejected("origin");
        return refuse(StatusCode::FORBIDDEN, "this origin may not connect".into());
    }
    if *edge.0.phase.borrow() >= Phase::Refusing {
        metrics::rejected("draining");
        return leaving(&edge.0.endpoints());
    }
    if let Some(failure) = edge.0.cut_off() {
        metrics::rejected("cut_off");
        return come_back(failure);
    }
    // Who it is, and whether it has a session, is not known yet.
    if let Some(failure) = edge.0.memory.keeps_out(true) {
        metrics::rejected("memory");
        return come_back(failure);
    }
    let Ok(room) = edge.0.room.clone().try_acquire_owned() else {
        metrics::rejected("node_limit");
        return come_back(full(edge));
    };
    let offered: Vec<_> = edge.0.protocols.iter().map(|protocol| protocol.subprotocol).collect();
    match tidewire_transport::upgrade(request, &offered, edge.0.config.compression) {
        Ok(upgrade) => {
            let entrance = Entrance::new(tenant, request.headers());
            accept(edge, (entrance, peer, worker), (upgrade, room))
        }
        Err(error) => {
            metrics::rejected("protocol");
            error.response().map(Body::from)
        }
    }
}

/// Answers 101, and hands the connection to the worker once that has been sent.
fn accept(
    edge: &Edge,
    (entrance, peer, worker): (Entrance, Peer, WorkerHandle),
    (upgrade, room): (Upgrade, OwnedSemaphorePermit),
) -> Response<Body> {
    let Upgrade { response, subprotocol, deflate, upgrading } = upgrade;
    let (protocol_index, protocol) = descriptor(edge, subprotocol);
    let asked_at = Instant::now();
    edge.0.tracker.spawn(async move {
        let (stream, unread) = match upgrading.parts::<Accepted>().await {
            Ok(upgraded) => upgraded,
            Err(error) => return tracing::debug!(%error, "upgrade failed"),
        };
        let handshake = Handshake { entrance, peer, protocol };
        let arrival =
            Arrival { stream, unread, handshake, protocol_index, deflate, room, asked_at };
        // A worker that has ended takes nobody, and the process is about to end.
        drop(worker.send(Order::Arrive(Box::new(arrival))).await);
    });
    response.map(|()| Body::empty())
}

fn descriptor(edge: &Edge, subprotocol: &str) -> (u8, Descriptor) {
    let mut protocols = (0..).zip(&edge.0.protocols);
    let chosen = protocols.find(|(_, protocol)| protocol.subprotocol == subprotocol);
    let (index, protocol) = chosen.expect("the upgrade chose from what was offered");
    (index, *protocol)
}

/// Whether a request has an origin that is not on the node's list.
pub(crate) fn is_foreign(edge: &Edge, headers: &HeaderMap) -> bool {
    let allowed = &edge.0.config.allowed_origins;
    let is_listed = |origin: &HeaderValue| {
        allowed.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
    };
    let origin = headers.get(header::ORIGIN);
    !allowed.is_empty() && origin.is_some_and(|origin| !is_listed(origin))
}

fn refuse(status: StatusCode, message: String) -> Response<Body> {
    let mut response = Response::new(Body::from(message));
    *response.status_mut() = status;
    response
}

/// Another node takes whoever asks; where those are that said so, in JSON.
fn leaving(endpoints: &[String]) -> Response<Body> {
    let body = serde_json::json!({
        "message": "the node is leaving; another takes you",
        "endpoints": endpoints,
    });
    let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, body.to_string());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("0"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn full(edge: &Edge) -> Failure {
    let (most, wait) = (edge.0.config.max_connections, come_back_after(Duration::ZERO));
    let seconds = wait.as_secs_f64();
    let message = format!("the node may have {most} connections: again in {seconds:.1} s");
    let failure = Failure::new(ErrorCode::Overloaded, message);
    failure.retry_after(wait).exceeding(Limit::MaxConnections, most as u64)
}

/// With 503 whatever the reason: a balancer then asks another node.
fn come_back(failure: Failure) -> Response<Body> {
    let mut response = Refused::with(StatusCode::SERVICE_UNAVAILABLE, failure).response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
