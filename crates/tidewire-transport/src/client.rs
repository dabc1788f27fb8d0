//! The client's end: connect, shake hands, and go on as a [`WebSocket`].

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fastwebsockets::handshake::generate_key;
use fastwebsockets::upgrade::upgrade;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, RETRY_AFTER, UPGRADE};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::header::{
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::address::Address;
use crate::http::drive;
use crate::websocket::{Compression, Deflate, Limits, Role, WebSocket, extensions};

pub use crate::address::InvalidUrl;

/// The client's end of a connection.
pub type ClientSocket = WebSocket<TcpStream>;

/// Connects to a `ws://host:port/path` address and agrees on `subprotocol`.
///
/// Has no timeout of its own: dropping the future gives up and closes what there is.
pub async fn connect(
    url: &str,
    subprotocol: &str,
    settings: impl Into<Settings>,
) -> Result<ClientSocket, ConnectError> {
    let address = Address::parse(url, "ws")?;
    let stream = address.dial().await.map_err(|source| ConnectError::Unreachable {
        address: address.authority().to_owned(),
        source,
    })?;
    shake_hands(stream, &address, subprotocol, settings.into()).await
}

/// The same over a stream that is connected already, such as one bound to a chosen source address.
pub async fn connect_over(
    stream: TcpStream,
    url: &str,
    subprotocol: &str,
    settings: impl Into<Settings>,
) -> Result<ClientSocket, ConnectError> {
    shake_hands(stream, &Address::parse(url, "ws")?, subprotocol, settings.into()).await
}

/// What a client takes, and whether it asks for compression.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    pub limits: Limits,
    pub compression: Compression,
}

impl From<Limits> for Settings {
    /// Without compression.
    fn from(limits: Limits) -> Self {
        Self { limits, compression: Compression::Off }
    }
}

async fn shake_hands(
    stream: TcpStream,
    address: &Address,
    subprotocol: &str,
    settings: Settings,
) -> Result<ClientSocket, ConnectError> {
    let key = generate_key();
    let mut request = request(address, subprotocol, &key)?;
    if settings.compression == Compression::On {
        let offer = HeaderValue::from_static(extensions::OFFER);
        request.headers_mut().insert(SEC_WEBSOCKET_EXTENSIONS, offer);
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let upgraded = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(response).await);
        }
        check(response.headers(), subprotocol, &key)?;
        let deflate = agreed(response.headers(), settings.compression)?;
        Ok((hyper::upgrade::on(response).await?, deflate))
    };
    let (upgraded, deflate) = drive(connection.with_upgrades(), upgraded).await?;
    let parts = upgraded
        .downcast::<TokioIo<TcpStream>>()
        .expect("the stream that was handed in is the stream that comes out");
    let (stream, unread) = (parts.io.into_inner(), parts.read_buf);
    Ok(WebSocket::new(stream, unread, Role::Client, settings.limits).deflated(deflate))
}

fn request(
    address: &Address,
    subprotocol: &str,
    key: &str,
) -> Result<Request<Empty<Bytes>>, ConnectError> {
    Request::get(address.target())
        .header(HOST, address.authority())
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, key)
        .header(SEC_WEBSOCKET_PROTOCOL, subprotocol)
        .body(Empty::new())
        .map_err(|_| ConnectError::Subprotocol)
}

/// RFC 6455 section 4.1, what a client has to check in the server's answer.
fn check(headers: &HeaderMap, subprotocol: &str, key: &str) -> Result<(), ConnectError> {
    let has = |name: HeaderName, token: &str| {
        let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
    };
    if !has(UPGRADE, "websocket") || !has(CONNECTION, "upgrade") {
        return Err(ConnectError::Handshake("upgrade headers are missing"));
    }
    if headers.get(SEC_WEBSOCKET_ACCEPT) != Some(&acceptance(key)) {
        return Err(ConnectError::Handshake("key was not accepted"));
    }
    if headers.get(SEC_WEBSOCKET_PROTOCOL).map(HeaderValue::as_bytes)
        != Some(subprotocol.as_bytes())
    {
        return Err(ConnectError::Handshake("server did not choose the requested subprotocol"));
    }
    Ok(())
}

/// The compression that the server agreed to, which has to be what was asked for.
fn agreed(headers: &HeaderMap, asked: Compression) -> Result<Option<Deflate>, ConnectError> {
    let is_asked = asked == Compression::On || !headers.contains_key(SEC_WEBSOCKET_EXTENSIONS);
    let accepted = if is_asked { extensions::accepted(headers) } else { None };
    match accepted {
        Some(deflate) => Ok(deflate),
        None => Err(ConnectError::Handshake("server chose an extension that was not requested")),
    }
}

/// What a server answers to `key`: fastwebsockets knows, but tells servers only.
fn acceptance(key: &str) -> HeaderValue {
    let request = Request::builder()
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, key)
        .body(())
        .expect("the key is base64");
    let (response, _) = upgrade(request).expect("version and key are there");
    response.headers()[SEC_WEBSOCKET_ACCEPT].clone()
}

async fn refusal(response: Response<Incoming>) -> ConnectError {
    let status = response.status();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    let body = beginning(response.into_body()).await;
    ConnectError::Refused { status, retry_after, body }
}

/// The text of a body that is only there to be shown: as much as came, up to the bound.
async fn beginning(mut body: Incoming) -> String {
    let mut text = BytesMut::new();
    while text.len() < MAX_TEXT_BYTES {
        match body.frame().await {
            Some(Ok(part)) => text.extend_from_slice(part.data_ref().map_or(&[], |data| data)),
            _ => break,
        }
    }
    text.truncate(MAX_TEXT_BYTES);
    String::from_utf8_lossy(&text).into_owned()
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    #[error("subprotocol cannot stand in a header")]
    Subprotocol,
    /// Nobody listens there, or nobody can be found.
    #[error("{address} cannot be reached")]
    Unreachable { address: String, source: io::Error },
    /// The server answered, with something else than a WebSocket.
    #[error("server answered {status}")]
    Refused {
        status: StatusCode,
        /// When to come back, if the server gave it in seconds.
        retry_after: Option<Duration>,
        /// The beginning of the answer, at most 1 KiB, with what is not UTF-8 replaced.
        body: String,
    },
    /// The server agreed in a way that RFC 6455 section 4.1 says to fail.
    #[error("handshake is not valid: {0}")]
    Handshake(&'static str),
    #[error("connection broke during the handshake")]
    Broken(#[from] hyper::Error),
}

const MAX_TEXT_BYTES: usize = 1024;
