use std::io;
use std::sync::Arc;

use axum::Router;
use futures_util::FutureExt;
use futures_util::future::ready;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use rustls::ServerConfig;
use tidewire_model::Failure;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::door::{Handshakes, Peer};
use crate::edge::Caller;
use crate::places::{Place, Places};
use crate::registry::WorkerHandle;
use crate::tls::Accepted;
use crate::{Edge, metrics, upgrade};

/// A client that has not sent its request's headers by then is a slow loris; its handshake of TLS
/// may take as long before.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's line and headers.
const HEADER_BYTES: usize = 16 * 1_024;
const HEADERS: usize = 64;
/// How long a request and its answer may take. No step of ours takes nearly as long, so it is the
/// client that does not read.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// How long accepting pauses when there is no descriptor for another connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// What is served: plain HTTP, and clients where they are.
type Served = (Router, Option<(Edge, WorkerHandle)>);

/// Accepts connections until `stop`, `most` at once that are no WebSocket yet or never, and as many
/// that wait for that; those accepted are finished on `tracker`.
pub(crate) async fn serve(
    tracker: &TaskTracker,
    (listener, most): (TcpListener, usize),
    (router, clients): Served,
    tls: Option<Arc<ServerConfig>>,
    stop: CancellationToken,
) {
    let places = Places::new(most);
    let mut doorkeeper = Doorkeeper::of(clients.as_ref().map(|(edge, _)| edge.clone()));
    loop {
        let accepting = async {
            doorkeeper.ready().await;
            (places.seat().await, listener.accept().await)
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accepting => accepted,
        };
        let (seat, stream, peer) = match accepted {
            (seat, Ok((stream, peer))) => (seat, stream, Peer::from(peer)),
            (_, Err(error)) => {
                pause_after(&error).await;
                continue;
            }
        };
        let refused = doorkeeper.greet(peer);
        // To tell it would cost a handshake of TLS.
        if refused.is_some() && tls.is_some() {
            continue;
        }
        let (stop, tls, places) = (stop.clone(), tls.clone(), Arc::clone(&places));
        let served = (router.clone(), clients.clone());
        tracker.spawn(async move {
            let place = match stop.run_until_cancelled(places.take(seat)).await {
                Some(Some(place)) => Arc::new(place),
                Some(None) => {
                    metrics::rejected("http_limit");
                    return tracing::debug!(%peer, most, "closed: too many are plain http");
                }
                None => return,
            };
            tokio::select! {
                () = talk((stream, peer, refused), (served, tls), &place, stop) => {}
                () = place.needed() => {
                    metrics::rejected("http_idle");
                    tracing::debug!(%peer, "idle connection closed: others need its place");
                }
            }
        });
    }
}

/// Says who may come in at a listener, and how fast.
struct Doorkeeper {
    /// Of a listener for clients: operators are never kept out.
    clients: Option<(Edge, Handshakes)>,
}

impl Doorkeeper {
    fn of(edge: Option<Edge>) -> Self {
        let with_pace = |edge: Edge| {
            let handshakes = Handshakes::new(edge.0.config.door.handshakes);
            (edge, handshakes)
        };
        Self { clients: edge.map(with_pace) }
    }

    /// Waits until somebody may come. Cancel-safe.
    async fn ready(&self) {
        if let Some((_, handshakes)) = &self.clients {
            handshakes.ready().await;
        }
    }

    /// Says why somebody who has come may not be here, if so.
    fn greet(&mut self, peer: Peer) -> Option<Box<Failure>> {
        let (edge, handshakes) = self.clients.as_mut()?;
        match edge.0.knock(peer) {
            Ok(()) => {
                handshakes.begin();
                None
            }
            Err(failure) => Some(Box::new(failure)),
        }
    }
}

/// Shakes hands, then answers requests.
async fn talk(
    (stream, peer, refused): (TcpStream, Peer, Option<Box<Failure>>),
    (served, tls): (Served, Option<Arc<ServerConfig>>),
    place: &Arc<Place>,
    stop: CancellationToken,
) {
    let greeted = stop.run_until_cancelled(greet(stream, peer, tls));
    if let Some(Some(stream)) = greeted.await {
        converse(stream, (peer, refused), served, (place, stop)).await;
    }
}

/// Errors of a single connection are its own; anything else will not have gone at once.
async fn pause_after(error: &io::Error) {
    let is_of_one_connection =
        matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset);
    if !is_of_one_connection {
        tracing::warn!(%error, "cannot accept connections");
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}

/// Makes a connection of what was accepted; nothing if that fails.
async fn greet(stream: TcpStream, peer: Peer, tls: Option<Arc<ServerConfig>>) -> Option<Accepted> {
    // Waiting for more to send would cost every small publication a round trip.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection was gone at once");
        return None;
    }
    match Accepted::shake_hands(stream, tls).await {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            tracing::debug!(%peer, %error, "tls handshake failed");
            metrics::rejected("tls");
            None
        }
    }
}

/// Answers the requests of one connection, until one of them upgrades it or the client leaves.
async fn converse(
    stream: Accepted,
    (peer, refused): (Peer, Option<Box<Failure>>),
    (router, clients): Served,
    (place, stop): (&Arc<Place>, CancellationToken),
) {
    let worker = clients.as_ref().map(|(_, worker)| worker.clone());
    let caller = Caller { peer, refused, worker };
    let service = TowerToHyperService::new(router);
    let last_request = Arc::new(Mutex::new(Instant::now()));
    let (seen, place) = (Arc::clone(&last_request), Arc::clone(place));
    let service = service_fn(move |mut request: Request<Incoming>| {
        *seen.lock() = Instant::now();
        place.is_busy();
        if let Some((edge, _)) = &clients
            && let Some(response) = upgrade::shortcut(edge, &caller, &mut request)
        {
            return ready(Ok(response)).left_future();
        }
        request.extensions_mut().insert(caller.clone());
        let place = Arc::clone(&place);
        service.call(request).inspect(move |_| place.is_idle()).right_future()
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES)
        .max_headers(HEADERS);
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = async {
        tokio::select! {
            served = connection.as_mut() => return served,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
    let served = tokio::select! {
        served = served => served,
        () = stalled(&last_request) => return tracing::debug!(%peer, "http connection stalled"),
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "http connection failed");
    }
}

/// Waits until the last request is so long ago that its answer is not being read.
async fn stalled(last_request: &Mutex<Instant>) {
    loop {
        let due = *last_request.lock() + REQUEST_TIMEOUT;
        if due <= Instant::now() {
            return;
        }
        sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_has_stalled_a_minute_after_its_last_request() {
        let started = Instant::now();
        let last_request = Mutex::new(started);
        let asking = async {
            tokio::time::sleep(Duration::from_secs(50)).await;
            *last_request.lock() = Instant::now();
        };

        tokio::join!(stalled(&last_request), asking);

        assert_eq!(started.elapsed().as_secs(), 110);
    }
}
