use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::edge::Peer;

/// A client that has not sent its request's headers by then is a slow loris.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's line and headers.
const HEADER_BYTES: usize = 16 * 1_024;
const HEADERS: usize = 64;
/// How long accepting pauses when there is no descriptor for another connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until `stop`; those accepted are finished on `tracker`.
pub(crate) async fn serve(
    tracker: &TaskTracker,
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                tracker.spawn(converse(stream, peer, router.clone(), stop.clone()));
            }
            Err(error) => pause_after(&error).await,
        }
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

/// Answers the requests of one connection, until one of them upgrades it or the client leaves.
async fn converse(stream: TcpStream, peer: SocketAddr, router: Router, stop: CancellationToken) {
    // Waiting for more to send would cost every small publication a round trip.
    if let Err(error) = stream.set_nodelay(true) {
        return tracing::debug!(%error, "connection was gone at once");
    }
    let service = TowerToHyperService::new(router.layer(Extension(Peer(peer))));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES)
        .max_headers(HEADERS);
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "http connection failed");
    }
}
