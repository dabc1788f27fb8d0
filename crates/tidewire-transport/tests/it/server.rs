//! One WebSocket over loopback TCP, behind a real HTTP server.

use std::cell::RefCell;
use std::convert::Infallible;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tidewire_transport::{Compression, Limits, WebSocket, upgrade};
use tokio::net::{TcpListener, TcpStream};

/// Listens on a free port of loopback.
pub(crate) async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/v1/acme/ws?a=b", listener.local_addr().unwrap());
    (listener, url)
}

/// Accepts one connection and upgrades it.
pub(crate) async fn accept(
    listener: &TcpListener,
    offered: &[&'static str],
) -> (WebSocket<TcpStream>, &'static str) {
    let (stream, _) = listener.accept().await.unwrap();
    let agreed = RefCell::new(None);
    let service = service_fn(|mut request| {
        let upgrade = upgrade(&mut request, offered, Compression::On).unwrap();
        *agreed.borrow_mut() = Some((upgrade.upgrading, upgrade.subprotocol));
        let response = upgrade.response.map(|()| String::new());
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    connection.with_upgrades().await.unwrap();

    let (upgrading, subprotocol) = agreed.borrow_mut().take().expect("the request was an upgrade");
    (upgrading.websocket(Limits::default()).await.unwrap(), subprotocol)
}
